"""Connections whose datagrams grow to what the path carries, and shrink when it carries less."""

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery

from tercel.quic.transport.parameters import max_udp_payload_size
from tercel.quic.transport.path_mtu import RAISE_SECONDS
from tercel.quic.transport.varint import encode_varint
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tests.faults.relay import Relay
from tests.quic.pair import CLIENT, Pair
from tests.quic.served import serving
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client

BASE, MOST = 1200, 1452
BODY = 300_000


class Path(Pair):
    """A pair whose server's datagrams get lost when they have more than `carried` bytes."""

    def __init__(self, carried=65_535, **settings):
        self.carried = carried
        self.sizes = []
        super().__init__(handshake=False, **{"max_datagram_bytes": MOST} | settings)
        self.drop = self._is_lost
        self.run()

    def _is_lost(self, data):
        self.sizes.append(len(data))
        return len(data) > self.carried

    def download(self, size=BODY, seconds=5.0):
        """Serve `size` bytes; the sizes of the datagrams that this took."""
        del self.sizes[:]
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_stream_data(stream_id, b"GET", end_stream=True)
        self.run(0.01)
        self.server.send_stream_data(stream_id, bytes(size), end_stream=True)
        self.run(seconds)
        assert self.got(stream_id) == size
        return self.sizes

    def search(self):
        """Download until there is nothing left to try."""
        for _ in range(200):
            self.download(100_000)
            if self.server._mtu._candidate() is None:
                return
        raise AssertionError("the search goes on and on")

    def got(self, stream_id):
        return sum(
            len(getattr(event, "data", b""))
            for event in self.client_events
            if getattr(event, "stream_id", None) == stream_id
        )


def test_datagrams_grow_to_the_largest_that_is_allowed():
    path = Path()
    sizes = path.download()
    assert max(sizes) == MOST
    assert sizes.count(MOST) > len(sizes) / 2
    assert path.server._max_datagram_size == MOST


@pytest.mark.parametrize("carried", [1200, 1300, 1400])
def test_datagrams_grow_to_what_the_path_carries(carried):
    path = Path(carried)
    path.search()
    assert carried - 16 < path.server._max_datagram_size <= carried
    assert max(path.download()) <= carried


@pytest.mark.parametrize("carried", [8952, 16_384])
def test_jumbo_datagrams_are_found_when_they_are_allowed(carried):
    path = Path(carried, max_datagram_bytes=16_384)
    path.search()
    assert carried - 16 < path.server._max_datagram_size <= carried
    path.download(2_000_000)


def test_lost_probes_are_no_congestion():
    path = Path(BASE)
    window = path.server._loss._cc.congestion_window
    path.search()
    assert path.server._loss._cc.ssthresh is None
    assert path.server._loss._cc.congestion_window > window
    assert path.server._loss._cc.bytes_in_flight == 0


def test_a_connection_that_sends_little_sends_no_probe():
    path = Path()
    for _ in range(10):
        assert max(path.download(1000, seconds=0.5)) <= BASE


@pytest.mark.parametrize("options", [{"max_datagram_bytes": BASE}, {"quic_fast_path": False}])
def test_without_the_search_datagrams_stay_at_the_base(options):
    assert max(Path(**options).download()) == BASE


def test_a_black_hole_is_met_with_what_every_path_carries():
    path = Path()
    path.download()
    path.carried = 1250
    path.download(seconds=30.0)
    assert path.server._max_datagram_size <= 1250
    assert max(path.download()[20:]) <= 1250


def test_a_path_that_carries_more_later_is_used_ten_minutes_after():
    path = Path(1300)
    path.search()
    path.carried = MOST
    assert path.server._max_datagram_size <= 1300
    path.download()  # from the end of the search on, time is taken
    path.server._mtu._raise_at -= RAISE_SECONDS
    path.download()
    assert path.server._max_datagram_size == MOST


def test_another_path_begins_at_the_base_again():
    path = Path()
    path.download()
    moved = ("192.0.2.3", 50_001)
    path.client.change_connection_id()
    path.client.send_stream_data(4, b"GET", end_stream=True)
    for data, _ in path.client.datagrams_to_send(path.now):
        path.server.receive_datagram(data, moved, path.now)
    del path.sizes[:]
    path.server_sends()
    assert path.server._network_paths[0].addr == moved
    assert path.server._max_datagram_size == BASE
    assert path.sizes
    assert max(path.sizes) <= BASE


def test_an_answer_to_a_probe_of_the_path_before_changes_nothing():
    path = Path()
    earlier = path.server._mtu
    path.server._use_path(("192.0.2.3", 50_001))
    earlier.probe(path.now)
    path.server._on_probe_delivery(QuicDeliveryState.ACKED, earlier, MOST)
    assert path.server._max_datagram_size == BASE


def test_the_client_s_own_limit_goes_before():
    path = Path()
    path.server._most_datagram_bytes = MOST
    parameter = encode_varint(0x03) + encode_varint(2) + encode_varint(1300)
    path.server._parse_transport_parameters(_parameters(path) + parameter)
    path.server._use_path(CLIENT)
    path.server._mtu_address = CLIENT
    assert max(path.download()) == 1300


def _parameters(path):
    return path.client._serialize_transport_parameters()


def test_the_limit_is_found_among_transport_parameters():
    idle = encode_varint(0x01) + encode_varint(4) + encode_varint(60_000)
    limit = encode_varint(0x03) + encode_varint(2) + encode_varint(1350)
    unknown = encode_varint(0x3A1B) + encode_varint(3) + b"\x03\x02\x01"
    assert max_udp_payload_size(idle + unknown + limit) == 1350
    assert max_udp_payload_size(idle + unknown) is None
    assert max_udp_payload_size(b"") is None


def test_windows_are_counted_in_the_size_of_datagrams():
    for name in ("cubic", "reno"):
        path = Path(congestion_control=name)
        path.download()
        control = path.server._loss._cc
        assert control._max_datagram_size == path.server._pacer._max_datagram_size == MOST
        assert getattr(control, "additive_increase_factor", MOST) == MOST


@pytest.mark.parametrize("size", [1199, 16_385])
def test_sizes_that_cannot_be_sent_are_refused(size):
    with pytest.raises(ConfigurationError, match="--max-datagram-bytes is"):
        Settings(max_datagram_bytes=size)


# -- on the network -----------------------------------------------------------------------------


class NarrowRelay(Relay):
    """Drops datagrams of more than `carried` bytes."""

    carried = 65_535

    def _pass(self, data, sock, to):
        if len(data) > self.carried:
            self.counted["too large"] += 1
        else:
            self.counted["largest"] = max(self.counted["largest"], len(data))
            super()._pass(data, sock, to)


@asynctest
async def test_downloads_pass_a_relay_that_drops_large_datagrams():
    body = bytes(600_000)
    async with (
        serving(lambda exchange: exchange.respond(200, body), max_datagram_bytes=MOST) as server,
        NarrowRelay(server.port) as relay,
    ):
        relay.carried = 1350
        async with H3Client(relay.port) as client:
            assert len((await client.request()).content) == len(body)
            assert len((await client.request()).content) == len(body)
            assert relay.counted["too large"] >= 3
            assert BASE < relay.counted["largest"] <= 1350


@asynctest
async def test_downloads_go_on_when_the_path_begins_to_drop_large_datagrams():
    body = bytes(600_000)
    async with (
        serving(lambda exchange: exchange.respond(200, body), max_datagram_bytes=MOST) as server,
        NarrowRelay(server.port) as relay,
        H3Client(relay.port) as client,
    ):
        assert len((await client.request()).content) == len(body)
        assert relay.counted["largest"] == MOST
        relay.carried = BASE
        assert len((await client.request()).content) == len(body)
        assert relay.counted["too large"] >= 3


# -- canaries -----------------------------------------------------------------------------------


def test_canary_sizes_are_where_they_are_changed():
    pair = Pair()
    for owner in (pair.server, pair.server._loss._cc, QuicPacketPacer(max_datagram_size=7)):
        assert hasattr(owner, "_max_datagram_size")
    assert callable(QuicConnection._parse_transport_parameters)
    assert hasattr(QuicPacketRecovery, "on_packet_sent")
    assert pair.server._loss._pto_count == 0
