"""The preferred address: told with an ID of its own, served by a second socket."""

import asyncio
import ipaddress
import socket

import pytest
from aioquic.quic.connection import QuicConnection, QuicConnectionId
from aioquic.quic.events import ConnectionIdIssued

from tercel.binding import bind, plan_for, preferred_addresses
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.handshake_state import MOST_CONNECTION_IDS
from tercel.quic.transport.preferred_address import encode_preferred_address
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tests.quic.pair import Pair
from tests.quic.served import serving
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client
from tests.support.ports import free_port

PREFERRED = (
    ipaddress.ip_address("192.0.2.7").packed
    + (4443).to_bytes(2, "big")
    + ipaddress.ip_address("2001:db8::7").packed
    + (4444).to_bytes(2, "big")
)


def bound(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


class PreferredPair(Pair):
    """A server that has a preferred address, and a client that stays where it is."""

    def __init__(self, **options):
        super().__init__(handshake=False, **options)
        self.client._probe_preferred_address = lambda: None
        self.run()

    def server_class(self, **options):
        return QuicServerConnection(preferred_address=PREFERRED, **options)


# -- the parameter ------------------------------------------------------------------------------


def test_without_sockets_there_is_no_parameter():
    assert encode_preferred_address([]) == b""
    assert Pair().client._remote_preferred_address is None


def test_the_family_without_a_socket_is_all_zeros():
    with bound() as sock:
        port = sock.getsockname()[1].to_bytes(2, "big")
        assert encode_preferred_address([sock]) == b"\x7f\0\0\1" + port + bytes(18)


def test_a_client_is_told_both_addresses_and_an_id_for_them():
    pair = PreferredPair()
    told = pair.client._remote_preferred_address
    assert told.ipv4_address == ("192.0.2.7", 4443)
    assert told.ipv6_address == ("2001:db8::7", 4444)
    issued = next(item for item in pair.server._host_cids if item.sequence_number == 1)
    assert (told.connection_id, told.stateless_reset_token) == (
        issued.cid,
        issued.stateless_reset_token,
    )


def test_its_connection_id_is_issued_with_the_first_flight_and_only_there():
    pair = PreferredPair()
    issued = [e.connection_id for e in pair.server_events if isinstance(e, ConnectionIdIssued)]
    assert issued[0] == pair.client._remote_preferred_address.connection_id
    assert len(set(issued)) == len(issued) == MOST_CONNECTION_IDS - 1
    assert [item.sequence_number for item in pair.server._host_cids] == list(
        range(MOST_CONNECTION_IDS)
    )


# -- on the network -----------------------------------------------------------------------------


@asynctest
async def test_a_client_goes_over_to_the_preferred_address():
    with bound("127.0.0.2") as sock:
        where = sock.getsockname()
        async with serving(preferred=[sock]) as server, H3Client(server.port) as client:
            await client.request()
            await client.until(lambda: client.quic.get_peer_address() == where)
            first = client.quic._peer_cid.sequence_number
            assert first == 1
            stream = await client.request()
            assert bytes(stream.content) == b"hello"
            (connection,) = server.connections
            assert connection.quic.get_peer_address().socket.sock.getsockname() == where
            assert server.endpoint.addresses == [f"127.0.0.1:{server.port}"]


@asynctest
async def test_a_client_that_keeps_its_id_is_answered_from_there_with_another():
    with bound("127.0.0.2") as sock:
        where = sock.getsockname()
        async with serving(preferred=[sock]) as server, H3Client(server.port) as client:
            client.quic._probe_preferred_address = lambda: None
            await client.request()
            await client.settled()
            (connection,) = server.connections
            quic = connection.quic
            before = quic._peer_cid.sequence_number
            client.quic.send_ping(1)
            for data, _ in client.quic.datagrams_to_send(asyncio.get_running_loop().time()):
                client._socket.sendto(data, where)
            await server.until(lambda: quic.get_peer_address().socket.sock.getsockname() == where)
            assert quic._peer_cid.sequence_number != before


# -- the setting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["localhost:4443", "0.0.0.0:4443", "[::]:4443", "192.0.2.1:0", "192.0.2.1"]
)
def test_what_clients_could_not_reach_is_refused(address):
    with pytest.raises(ConfigurationError):
        preferred_addresses(Settings(preferred_address=(address,)))


def test_there_is_one_of_each_family():
    both = Settings(preferred_address=("192.0.2.1:1", "[2001:db8::1]:1"))
    assert len(preferred_addresses(both)) == 2
    with pytest.raises(ConfigurationError, match="at most"):
        preferred_addresses(Settings(preferred_address=("192.0.2.1:1", "192.0.2.2:1")))


def test_its_socket_is_bound_beside_the_others_and_closed_with_them():
    port = free_port("127.0.0.2")
    settings = Settings(bind=("127.0.0.1:0",), preferred_address=(f"127.0.0.2:{port}",))
    bindings = bind(plan_for(settings))
    try:
        assert [binding.preferred for binding in bindings] == [False, True]
        (sock,) = bindings[1].sockets.udp
        assert sock.getsockname() == ("127.0.0.2", port)
        assert bindings[1].sockets.tcp == []
    finally:
        for binding in bindings:
            binding.release()


# -- canaries -----------------------------------------------------------------------------------


def test_canary_aioquic_writes_its_parameters_in_one_place():
    assert callable(QuicConnection._serialize_transport_parameters)


def test_canary_what_a_connection_id_is():
    issued = QuicConnectionId(
        cid=b"c", sequence_number=1, stateless_reset_token=b"t", was_sent=True
    )
    assert issued.was_sent
    assert Pair().server._host_cid_seq == MOST_CONNECTION_IDS
