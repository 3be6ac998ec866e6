"""Two UDP sockets at one address: of a server that stops and of its successor."""

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tercel.shared.sockets import AddressInUse, HostPort, bind_everywhere
from tercel.shared.succession import allow_successor, bind_as_successor, connected_twin
from tests.support.asynchronous import PATIENCE_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux gives the port to both")

OpenSocket = Callable[..., socket.socket]


@pytest.fixture
def open_socket() -> Iterator[OpenSocket]:
    """Opens UDP sockets that the test's end closes."""
    with ExitStack() as stack:

        def made(host: str = "127.0.0.1") -> socket.socket:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.settimeout(PATIENCE_SECONDS)
            return sock

        yield made


def waiting(sock: socket.socket) -> list[bytes]:
    """All that waits in `sock`; on loopback that is all that was sent."""
    sock.setblocking(False)
    taken = []
    while True:
        try:
            taken.append(sock.recv(100))
        except BlockingIOError:
            return taken


@pytest.mark.parametrize(
    ("first", "second", "host"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "::", "::1"),
    ],
)
def test_a_successor_gets_what_comes_but_from_the_peers_that_were_kept(
    open_socket: OpenSocket, first: str, second: str, host: str
) -> None:
    old, kept, other = open_socket(first), open_socket(host), open_socket(host)
    bind_as_successor(old, (first, 0))
    address = (host, old.getsockname()[1])
    for client in (kept, other):
        client.bind((host, 0))
    assert allow_successor(old)
    with connected_twin(old, address, kept.getsockname()) as twin:
        other.sendto(b"early", address)
        assert waiting(old) == [b"early"]
        successor = open_socket(second)
        bind_as_successor(successor, (second, address[1]))
        for client, data in ((kept, b"kept"), (other, b"other")):
            client.sendto(data, address)
        assert (waiting(twin), waiting(successor), waiting(old)) == ([b"kept"], [b"other"], [])
        old.sendto(b"answer", kept.getsockname())
        assert kept.recvfrom(100) == (b"answer", (*address, *kept.getsockname()[2:]))


def test_a_server_that_serves_shares_its_port_with_nobody(open_socket: OpenSocket) -> None:
    old, second, third = open_socket(), open_socket(), open_socket()
    bind_as_successor(old, ("127.0.0.1", 0))
    with pytest.raises(OSError) as caught:
        bind_as_successor(second, old.getsockname())
    assert caught.value.errno == errno.EADDRINUSE
    allow_successor(old)
    bind_as_successor(second, old.getsockname())
    with pytest.raises(OSError):
        bind_as_successor(third, old.getsockname())


def test_a_port_that_its_owners_share_is_left_to_them(open_socket: OpenSocket) -> None:
    old = open_socket()
    old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    old.bind(("127.0.0.1", 0))
    assert not allow_successor(old)
    with pytest.raises(OSError):
        bind_as_successor(open_socket(), old.getsockname())


@pytest.mark.parametrize("listening", [True, False])
def test_a_udp_port_is_taken_over_where_nobody_listens_on_tcp(
    open_socket: OpenSocket, listening: bool
) -> None:
    """A program may share its UDP port for reasons of its own, and is not robbed of it."""
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        port = tcp.getsockname()[1]
        udp = open_socket()
        udp.bind(("127.0.0.1", port))
        allow_successor(udp)
        if listening:
            with pytest.raises(AddressInUse):
                bind_everywhere(HostPort("127.0.0.1", port), tcp=True, udp=True, succeed=True)
        else:
            tcp.close()
            bind_everywhere(HostPort("127.0.0.1", port), tcp=True, udp=True, succeed=True).close()
