"""One UDP port for a server that stops and for the one that takes its place.

A TCP port is free for the successor once nobody listens there, and its connections stay with their
process. UDP has no connections of the kernel's, so that the stopping server says who may have the
port, and keeps its peers by sockets that are connected to them. Linux only; elsewhere the port is
free when the server has ended.
"""

import errno
import socket
import sys
from typing import Any

# Linux lets two UDP sockets have an address if both have SO_REUSEADDR at the time of the bind, and
# gives what comes to the younger one, or to the one that is connected to the sender. Elsewhere the
# option means something else.
_AVAILABLE = sys.platform == "linux"


def bind_as_successor(sock: socket.socket, address: Any) -> None:
    """Bind the UDP socket `sock` to `address`, also where a server that stops still has that.

    Raises OSError, with EADDRINUSE where the server that has it does not stop.
    """
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _AVAILABLE:
            raise
    else:
        return
    _let_share(sock, True)
    try:
        sock.bind(address)
    finally:
        _let_share(sock, False)  # nobody may have it beside a server that serves


def allow_successor(sock: socket.socket) -> bool:
    """Let another process bind what the UDP socket `sock` is bound to; whether that can be.

    From its bind on that process gets what comes, but for what comes from the peers that this one
    has a `connected_twin` for.
    """
    if not _AVAILABLE or sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        return False  # with reuse_port the sharing is the caller's affair
    _let_share(sock, True)
    return True


def connected_twin(sock: socket.socket, local: Any, peer: Any) -> socket.socket:
    """A socket that gets what comes from `peer` to `local`, an address that `sock` is bound to.

    `sock` allows a successor. Raises OSError.
    """
    twin = socket.socket(sock.family, sock.type)
    try:
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            twin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        _let_share(twin, True)
        twin.setblocking(False)
        twin.bind(local)
        twin.connect(peer)
    except BaseException:
        twin.close()
        raise
    return twin


def _let_share(sock: socket.socket, shared: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)
