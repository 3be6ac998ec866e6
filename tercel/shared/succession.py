"""Passes one UDP port from a server that stops to its successor.

A TCP port is free for the successor once no process listens there, and its connections stay with
their process. The kernel has no connections for UDP: therefore the stopping server allows the
successor to bind the port, and keeps its peers with sockets that are connected to them. Linux only;
elsewhere the port is free when the server has ended.
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
    """Bind the UDP socket `sock` to `address`, even if a stopping server still has it.

    Raises OSError, with EADDRINUSE if the server that has it is not stopping.
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
    """Allow another process to bind the address of the UDP socket `sock`; False if impossible.

    From its bind on, that process receives all datagrams, except from peers that this one has a
    `connected_twin` for.
    """
    if not _AVAILABLE or sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        return False  # with reuse_port the sharing is the caller's affair
    _let_share(sock, True)
    return True


def connected_twin(sock: socket.socket, local: Any, peer: Any) -> socket.socket:
    """A socket that receives datagrams from `peer` to `local`, an address that `sock` is bound to.

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
