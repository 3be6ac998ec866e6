"""What an address that was not validated gets: three times what came from it (RFC 9000 8.1, 9.3).

Each kind of datagram that a server sends by itself, to an address that has exhausted its share.
"""

from collections import Counter

import pytest
from aioquic.quic.packet import QuicErrorCode

from tests.quic.pair import CLIENT, SERVER, Pair
from tests.quic.served import serving
from tests.quic.test_endpoint import RawClient, first_flight, long_header
from tests.support.asynchronous import asynctest
from tests.support.raw_quic import PADDING, PING, initial_packet, short_packet

VICTIM = ("198.51.100.7", 4433)
REASONS = ["", "a reason that says in many words why the connection has come to its end"]
PATHS = [{}, {"quic_fast_path": False}, {"logged": True}]


class MeteredPair(Pair):
    """Counts what the server gets from each address, and sends there."""

    def __init__(self, **options):
        self.address = CLIENT
        self.received = Counter()
        self.sent = Counter()
        super().__init__(handshake=False, **options)

    def shake_hands(self):
        self.run()
        assert self.server.handshake_completed
        return self

    def client_sends(self):
        datagrams = self.client.datagrams_to_send(self.now)
        for data, _ in datagrams:
            self.deliver(data)
        self._collect(self.server, self.server_events)
        return bool(datagrams)

    def deliver(self, data):
        """Let the server receive one datagram."""
        self.received[self.address] += len(data)
        self.server.receive_datagram(data, self.address, self.now)

    def server_sends(self):
        datagrams = self.server.datagrams_to_send(self.now)
        for data, address in datagrams:
            self.sent[address] += len(data)
            if address == CLIENT and not self.drop(data):
                self.client.receive_datagram(data, SERVER, self.now)
        self._collect(self.client, self.client_events)
        return bool(datagrams)

    def wait(self, seconds):
        """Let the server alone act for a while."""
        end = self.now + seconds
        while (timer := self.server.get_timer()) is not None and timer < end:
            self.now = max(self.now, timer)
            self.server.handle_timer(self.now)
            self.server_sends()
            self._collect(self.server, self.server_events)
        self.now = end

    def check(self, address=VICTIM):
        """The limit, for an address that was not validated."""
        assert self.sent[address] <= 3 * self.received[address]


def moved(options, *, packet=PING):
    """A client that seems to go on from another address, by one short packet."""
    pair = MeteredPair(**options).shake_hands()
    pair.address = VICTIM
    pair.deliver(short_packet(pair.client, packet))
    return pair


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("challenged", [True, False])
def test_a_close_on_a_new_path_stays_within_three_times_what_came_in(options, reason, challenged):
    pair = moved(options)
    if challenged:
        pair.server_sends()
        pair.wait(0.5)
    pair.server.close(QuicErrorCode.NO_ERROR, None, reason)
    pair.server_sends()
    pair.check()
    pair.wait(10)
    pair.check()


@pytest.mark.parametrize("options", PATHS)
def test_a_close_without_room_ends_the_connection_all_the_same(options):
    pair = moved(options)
    pair.server_sends()
    pair.wait(0.5)
    pair.server.close(QuicErrorCode.NO_ERROR, None, REASONS[1])
    pair.server_sends()
    pair.wait(10)
    assert pair.server.get_timer() is None
    assert "ConnectionTerminated" in [type(event).__name__ for event in pair.server_events]


@pytest.mark.parametrize("options", PATHS)
def test_a_close_with_little_room_leaves_out_its_reason_and_arrives(options):
    pair = MeteredPair(**options).shake_hands()
    # As on a path of the client's own that has not been validated yet.
    path = ("192.0.2.1", 50_001)
    pair.address = path
    pair.deliver(short_packet(pair.client, PING))
    pair.server.close(QuicErrorCode.NO_ERROR, None, "a reason " * 20)
    ((data, address),) = pair.server.datagrams_to_send(pair.now)
    assert address == path
    assert len(data) <= 3 * pair.received[path]
    pair.client.receive_datagram(data, SERVER, pair.now)
    pair.client.handle_timer(pair.client.get_timer())
    while (event := pair.client.next_event()) is not None:
        end = event
    assert (end.error_code, end.reason_phrase) == (QuicErrorCode.NO_ERROR, "")


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_close_in_the_handshake_stays_within_three_times_what_came_in(options, rounds):
    pair = MeteredPair(**options)
    ((data, _), *_) = pair.client.datagrams_to_send(pair.now)
    pair.deliver(data)
    for _ in range(rounds):
        pair.drop = lambda _: True
        pair.server_sends()
        pair.wait(3)
    pair.server.close(QuicErrorCode.NO_ERROR, None, REASONS[1])
    pair.server_sends()
    pair.check(CLIENT)


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize("payload", [PING, b"\x1a" + bytes(8), PADDING * 30 + PING])
def test_challenges_probes_and_data_for_a_new_path_stay_within_three_times_what_came_in(
    options, payload
):
    pair = MeteredPair(**options).shake_hands()
    pair.client.send_stream_data(0, b"GET", end_stream=True)
    pair.run()
    pair.server.send_stream_data(0, bytes(100_000), end_stream=True)
    pair.address = VICTIM
    for _ in range(4):
        pair.deliver(short_packet(pair.client, payload))
        pair.server_sends()
        pair.check()
        pair.wait(3)
        pair.check()
    assert pair.sent[VICTIM] > 0


@pytest.mark.parametrize("options", PATHS)
def test_what_comes_after_the_close_brings_no_more(options):
    pair = moved(options)
    pair.server.close(QuicErrorCode.NO_ERROR, None, REASONS[1])
    pair.server_sends()
    sent = pair.sent[VICTIM]
    for _ in range(20):
        pair.server.receive_datagram(short_packet(pair.client, PING), VICTIM, pair.now)
        pair.server_sends()
    assert pair.sent[VICTIM] == sent


@pytest.mark.parametrize("options", PATHS)
def test_the_end_of_a_handshake_from_another_address_validates_nothing(options):
    """RFC 9000 9: nobody moves before the handshake is confirmed."""
    pair = MeteredPair(**options)
    pair.client_sends()
    pair.server_sends()
    pair.client.send_stream_data(0, b"GET", end_stream=True)
    pair.address = VICTIM
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.deliver(data)
    if pair.server.handshake_completed:
        pair.server.send_stream_data(0, bytes(100_000), end_stream=True)
    pair.server_sends()
    pair.wait(10)
    pair.check()


@pytest.mark.parametrize("options", PATHS)
def test_an_initial_from_another_address_does_not_draw_the_handshake_there(options):
    pair = MeteredPair(**options)
    pair.client_sends()
    pair.address = VICTIM
    pair.deliver(initial_packet(pair.client, PING))
    pair.server_sends()
    assert pair.sent[VICTIM] == 0
    pair.address = CLIENT
    pair.shake_hands()


@pytest.mark.parametrize("ids", [0, 8, 20])
@asynctest
async def test_what_unknown_packets_are_answered_is_no_more_than_three_times_as_much(ids):
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            sent = received = 0
            ages_ago = long_header(0x1A2A3A4A, destination=b"d" * ids, source=b"s" * ids)
            short = b"\x41" + bytes(43)
            for data in (ages_ago, short, first_flight(server.port)[1][0]):
                raw.send(data)
                sent += len(data)
                received += len(await raw.receive())
                assert received <= 3 * sent


def test_canary_a_path_that_is_not_validated_counts_both_ways():
    pair = moved({})
    path = pair.server.network_paths[0]
    assert (path.addr, path.is_validated) == (VICTIM, False)
    pair.server_sends()
    assert (path.bytes_received, path.bytes_sent) == (pair.received[VICTIM], pair.sent[VICTIM])
