"""How packets are spread over a round trip."""

import pytest
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.tls import Epoch

from tercel.quic.transport.pacing import Pacer
from tests.quic.pair import Pair

SIZE = 1200


def paced(window, rtt):
    pacer = Pacer(max_datagram_size=SIZE)
    pacer.update_rate(congestion_window=window, smoothed_rtt=rtt)
    return pacer


def burst(pacer, now):
    """How many packets may be sent at once, and when the next one may."""
    count = 0
    while (at := pacer.next_send_time(now=now)) is None:
        pacer.update_after_send(now=now)
        count += 1
        assert count < 10_000
    return count, at


@pytest.mark.parametrize(("window", "rtt"), [(100_000, 0.1), (1_000_000, 0.01), (40_000, 0.02)])
def test_a_window_and_a_quarter_may_be_sent_in_a_round_trip(window, rtt):
    pacer = paced(window, rtt)
    now = 1000.0
    _, at = burst(pacer, now)
    sent = 0
    while at < now + 100 * rtt:
        count, at = burst(pacer, at)
        sent += count
    assert sent * SIZE == pytest.approx(100 * 1.25 * window, rel=0.15)


@pytest.mark.parametrize("rtt", [0.0, 1e-7, 0.0004, 0.02, 3.0])
@pytest.mark.parametrize("window", [2400, 12_000, 57_601, 1_000_000, 1 << 40])
def test_the_rate_is_aioquic_s_and_a_quarter(window, rtt):
    pacer, plain = Pacer(max_datagram_size=SIZE), QuicPacketPacer(max_datagram_size=SIZE)
    pacer.bucket_time = plain.bucket_time = 0.01
    pacer.update_rate(window, rtt)
    plain.update_rate(window, rtt)
    assert pacer.packet_time == plain.packet_time / 1.25
    assert pacer.bucket_time == plain.bucket_time
    assert pacer.bucket_max == max(plain.bucket_max / 1.25, 0.001)


def test_a_fast_path_gets_what_a_millisecond_brings_at_once():
    pacer = paced(10_000_000, 0.01)  # 10 Gbit/s
    burst(pacer, 1000.0)
    count, _ = burst(pacer, 1000.001)
    assert count == pytest.approx(1.25 * 10_000_000 / 10 / SIZE, rel=0.05)


def test_a_slow_path_gets_bursts_as_small_as_aioquic_s():
    window, rtt = 24_000, 0.1
    pacer, plain = paced(window, rtt), QuicPacketPacer(max_datagram_size=SIZE)
    plain.update_rate(congestion_window=window, smoothed_rtt=rtt)
    assert burst(pacer, 1000.0)[0] <= burst_of(plain, 1000.0) + 1


def burst_of(pacer, now):
    count = 0
    while pacer.next_send_time(now=now) is None:
        pacer.update_after_send(now=now)
        count += 1
    return count


def test_the_pause_between_bursts_is_worth_a_timer():
    pacer = paced(10_000_000, 0.01)
    _, at = burst(pacer, 1000.0)
    assert at >= 1000.0 + 0.0005


def test_the_pause_of_a_slow_path_is_that_of_one_packet():
    pacer = paced(24_000, 0.1)
    _, at = burst(pacer, 1000.0)
    assert at == pytest.approx(1000.0 + SIZE / (1.25 * 24_000 / 0.1))


def test_nothing_is_paced_before_the_round_trip_is_known():
    assert Pacer(max_datagram_size=SIZE).next_send_time(now=1.0) is None


# -- acknowledgements ---------------------------------------------------------------------------


def test_an_acknowledgement_that_is_due_does_not_wait_for_the_pacer(quic_fast_path):
    pair = sending(quic_fast_path)
    server, space = pair.server, pair.server._spaces[Epoch.ONE_RTT]
    assert server.get_timer() == server._pacing_at > pair.now, "the pacer holds back"
    space.ack_queue.add(space.largest_received_packet)
    space.ack_at = pair.now
    (datagram,) = server.datagrams_to_send(pair.now)
    assert len(datagram[0]) <= SIZE
    assert space.ack_at is None
    assert server.get_timer() == server._pacing_at > pair.now, "the rest waits"


def test_an_acknowledgement_that_is_not_due_waits_for_the_pacer(quic_fast_path):
    pair = sending(quic_fast_path)
    space = pair.server._spaces[Epoch.ONE_RTT]
    space.ack_queue.add(space.largest_received_packet)
    space.ack_at = pair.now + 1e-6
    assert pair.server.datagrams_to_send(pair.now) == []


@pytest.fixture(params=[True, False])
def quic_fast_path(request):
    """Whether the fast path sends, or aioquic's own code."""
    return request.param


def sending(quic_fast_path):
    """A pair whose server has used up what the pacer allows, in the middle of a response."""
    pair = Pair(quic_fast_path=quic_fast_path)
    pair.client.send_stream_data(0, b"GET", end_stream=True)
    pair.run(0.1)
    pair.server._pacer.update_rate(congestion_window=1_000_000, smoothed_rtt=0.1)
    pair.server._loss._cc.congestion_window = 1_000_000
    pair.server.send_stream_data(0, bytes(1_000_000), end_stream=True)
    pair.server.datagrams_to_send(pair.now)
    return pair
