"""ECN: what is marked, what is told, and what is believed."""

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicFrameType, pull_ack_frame
from aioquic.tls import Epoch

from tercel.quic.transport.ecn import EcnConnection, EcnState, EcnValidator, Mark, pull_counts
from tests.quic.pair import CLIENT, SERVER, Pair
from tests.support.h3_client import ClientConnection

DATA = Epoch.ONE_RTT


# -- the validator ------------------------------------------------------------------------------


def after_test(packets=10):
    """A validator whose first packets, all marked, are numbered from 0."""
    validator = EcnValidator()
    validator.sent(0, packets)
    return validator


def capable():
    validator = after_test()
    assert not validator.acknowledged(DATA, 10, 0, (10, 0, 0), 10)
    assert validator.state is EcnState.CAPABLE
    return validator


def test_the_first_ten_packets_are_marked():
    validator = EcnValidator()
    validator.sent(0, 9)
    assert validator.mark is Mark.ECT_0
    validator.sent(9, 10)
    assert validator.mark is Mark.NOT_ECT
    assert validator.state is EcnState.UNKNOWN
    assert not validator.is_settled


def test_everything_is_marked_once_the_peer_has_counted_right():
    validator = capable()
    assert validator.mark is Mark.ECT_0
    assert validator.is_settled


def test_it_is_known_which_packets_were_marked():
    validator = after_test()
    validator.sent(10, 15)  # not marked: nothing was heard yet
    validator.acknowledged(DATA, 10, 5, (10, 0, 0), 15)
    validator.sent(15, 20)
    assert validator.count_marked([9, 10, 14, 15, 16]) == 3
    assert validator.count_marked([15, 16]) == 2


@pytest.mark.parametrize(
    ("marked", "unmarked", "counts"),
    [
        (10, 0, None),  # no counts at all
        (10, 0, (9, 0, 0)),  # a mark was taken off on the way
        (10, 0, (10, 1, 0)),  # ECT(1), which nobody has sent
        (10, 0, (30, 0, 0)),  # more than was sent
        (0, 2, None),  # only what was not marked has arrived
        (0, 2, (0, 0, 0)),
    ],
)
def test_a_path_or_peer_that_gets_it_wrong_gets_no_more_marks(marked, unmarked, counts):
    validator = after_test()
    validator.sent(10, 12)
    assert not validator.acknowledged(DATA, marked, unmarked, counts, 12)
    assert validator.state is EcnState.FAILED
    assert validator.mark is Mark.NOT_ECT
    assert validator.is_settled


def test_a_path_that_failed_gets_no_more_marks_even_for_right_counts():
    validator = after_test()
    validator.acknowledged(DATA, 10, 0, (9, 0, 0), 10)
    validator.sent(10, 12)
    assert not validator.acknowledged(DATA, 10, 0, (9, 0, 1), 12)
    assert validator.state is EcnState.FAILED


def test_a_path_that_carries_marks_keeps_them_when_only_unmarked_packets_are_acknowledged():
    validator = capable()
    assert not validator.acknowledged(DATA, 0, 1, (10, 0, 0), 12)
    assert validator.mark is Mark.ECT_0


def test_counts_that_go_back_are_not_believed():
    validator = capable()
    validator.sent(10, 12)
    validator.acknowledged(DATA, 1, 0, (9, 0, 2), 12)
    assert validator.state is EcnState.FAILED


def test_counts_are_of_their_packet_number_space():
    validator = after_test(3)
    validator.acknowledged(Epoch.INITIAL, 1, 0, (1, 0, 0), 3)
    validator.acknowledged(Epoch.HANDSHAKE, 2, 0, (2, 0, 0), 3)
    assert validator.state is EcnState.CAPABLE


def test_a_growing_count_of_ce_is_congestion_once():
    validator = capable()
    validator.sent(10, 20)
    assert validator.acknowledged(DATA, 5, 0, (14, 0, 1), 20)
    assert not validator.acknowledged(DATA, 5, 0, (19, 0, 1), 20)
    assert validator.state is EcnState.CAPABLE


def test_another_path_is_tested_anew():
    validator = after_test()
    validator.acknowledged(DATA, 10, 0, None, 10)
    validator.sent(10, 12)
    validator.restart(12)
    assert validator.mark is Mark.ECT_0
    assert validator.count_marked([11, 12]) == 1
    for path in range(100):
        validator.sent(12 + path, 13 + path)
        validator.restart(13 + path)
        validator.acknowledged(DATA, 1, 0, None, 13 + path)
    assert len(validator._flips) <= 16


# -- two connections ----------------------------------------------------------------------------


class MarkedClient(EcnConnection, ClientConnection):
    """aioquic's client, with what is tested here."""

    def _handle_ack_frame(self, context, frame_type, buf):
        position = buf.tell()
        acknowledged, _ = pull_ack_frame(buf)
        counts = pull_counts(buf) if frame_type == QuicFrameType.ACK_ECN else None
        self.judge_marks(context.epoch, list(acknowledged), counts, context.time)
        buf.seek(position)
        super()._handle_ack_frame(context, frame_type, buf)


class MarkedPair(Pair):
    """A client and a server that mark, over a network that may change the marks."""

    client_class = MarkedClient

    def __init__(self, **settings):
        self.to_client = lambda mark: mark
        self.marks_sent = []
        super().__init__(**settings)

    def client_sends(self):
        datagrams = self.client.datagrams_to_send(self.now)
        for data, _ in datagrams:
            self.server.arriving_mark = self.client.departing_mark
            self.server.receive_datagram(data, CLIENT, self.now)
        self._collect(self.server, self.server_events)
        return bool(datagrams)

    def server_sends(self):
        datagrams = self.server.datagrams_to_send(self.now)
        mark = self.server.departing_mark
        for data, _ in datagrams:
            self.marks_sent.append(mark)
            if not self.drop(data):
                self.client.arriving_mark = self.to_client(mark)
                self.client.receive_datagram(data, SERVER, self.now)
        self._collect(self.client, self.client_events)
        return bool(datagrams)

    def transfer(self, size=200_000):
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_stream_data(stream_id, b"GET", end_stream=True)
        self.run(0.1)
        self.server.send_stream_data(stream_id, b"x" * size, end_stream=True)
        self.run(5)
        return sum(
            len(event.data)
            for event in self.client_events
            if isinstance(event, StreamDataReceived) and event.stream_id == stream_id
        )


@pytest.mark.parametrize("fast", [True, False])
def test_both_sides_mark_and_count(fast):
    pair = MarkedPair(quic_fast_path=fast)
    assert pair.transfer() == 200_000
    assert pair.server._armed is fast
    for side in (pair.client, pair.server):
        assert side.ecn.state is EcnState.CAPABLE
        assert side._marks[DATA][Mark.ECT_0] > 5
        assert side._marks[DATA][Mark.CE] == 0
    assert set(pair.marks_sent[20:]) == {Mark.ECT_0}


@pytest.mark.parametrize("fast", [True, False])
def test_a_network_that_takes_marks_off_ends_them(fast):
    pair = MarkedPair(quic_fast_path=fast)
    pair.to_client = lambda mark: Mark.NOT_ECT
    assert pair.transfer() == 200_000
    assert pair.server.ecn.state is EcnState.FAILED
    assert pair.marks_sent[-1] == Mark.NOT_ECT
    assert pair.transfer() == 200_000


@pytest.mark.parametrize("fast", [True, False])
def test_ce_halves_the_congestion_window_once_per_round_trip(fast):
    pair = MarkedPair(quic_fast_path=fast, congestion_control="reno")
    assert pair.transfer(1_000_000) == 1_000_000
    window = pair.server._loss._cc.congestion_window
    pair.to_client = lambda mark: Mark.CE
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"GET", end_stream=True)
    pair.run(0.1)
    pair.server.send_stream_data(stream_id, b"x" * 5000, end_stream=True)
    pair.run(1)
    assert pair.server.ecn.state is EcnState.CAPABLE
    assert pair.client._marks[DATA][Mark.CE] >= 5
    assert 0.4 * window < pair.server._loss._cc.congestion_window < 0.6 * window


@pytest.mark.parametrize("fast", [True, False])
def test_ce_is_told_at_once(fast):
    pair = MarkedPair(quic_fast_path=fast)
    pair.transfer(1000)
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.arriving_mark = Mark.CE
        pair.server.receive_datagram(data, CLIENT, pair.now)
    assert pair.server.get_timer() <= pair.now
    assert pair.server.datagrams_to_send(pair.now)
    assert pair.server._marks[DATA][Mark.CE] == 1


def test_a_client_that_counts_nothing_is_served_without_marks():
    pair = Pair()
    assert pair.server.ecn.state is EcnState.FAILED
    assert pair.server.departing_mark is Mark.NOT_ECT


def test_a_new_path_is_tested_although_the_old_one_failed():
    pair = Pair()
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, ("192.0.2.9", 60_000), pair.now)
    assert pair.server.datagrams_to_send(pair.now)
    assert pair.server.departing_mark is Mark.ECT_0
    assert pair.server.ecn.state is EcnState.TESTING


def test_counts_are_in_the_log():
    pair = MarkedPair(logged=True)
    pair.transfer(1000)
    assert any(frame.get("ect0", 0) > 0 for frame in pair.frames("ack"))


# -- canaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_payload_received", "_write_ack_frame", "datagrams_to_send"])
def test_canary_aioquic_has_what_is_overridden(name):
    assert callable(getattr(QuicConnection, name))


def test_canary_a_loss_of_no_bytes_is_congestion():
    pair = Pair()
    control = pair.server._loss._cc
    before = control.congestion_window, control.bytes_in_flight
    pair.server.ecn = capable()
    pair.server._packet_number = 20
    pair.server.take_counts(DATA, 1, 0, (10, 0, 1), pair.now, pair.now)
    assert control.congestion_window < before[0]
    assert control.bytes_in_flight == before[1]
