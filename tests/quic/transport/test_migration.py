"""Clients that get another address in the middle of a download."""

import random

import pytest
from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketRecovery
from aioquic.tls import Epoch

from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.sent_packets import SentPiece
from tests.quic.pair import CLIENT, Pair
from tests.quic.roaming import DELAY, RoamingPair, losing

OTHER_PORT, OTHER_HOST = (CLIENT[0], 50_001), ("192.0.2.9", 50_001)
BODY = 500_000
# The header, with an ID of 8 bytes, the tag, PING and PATH_CHALLENGE.
CHALLENGE_BYTES = 1 + 8 + 2 + 16 + 1 + 9
# RFC 9002 7.2
INITIAL_WINDOW = 12_000
# Of probe timeouts, which are some 0.15 s here; the waits double from one to the next.
MOST_SECONDS_WITHOUT_TRAFFIC = 3.0


def keeps_asking(pair, seconds):
    """Let the download go on, with a client that makes itself heard."""
    end = pair.now + seconds
    while not pair.ended and pair.now < end:
        pair.client.send_ping(1)
        pair.run(0.2)


# -- the download goes on -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"quic_fast_path": False}, {"logged": True}])
@pytest.mark.parametrize("moves", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_download_survives_other_addresses_and_losses(options, moves, seed):
    pair = RoamingPair(**options)
    chance = random.Random(repr((moves, seed)))
    begin = at = pair.now
    for number in range(moves):
        at += chance.uniform(0.02, 0.15)
        host = chance.choice((CLIENT[0], f"192.0.2.{10 + number}"))
        pair.moves.append((at, (host, 50_001 + number)))
    pair.download(BODY)
    pair.lost = losing(0.05, (moves, seed))
    keeps_asking(pair, 60.0)
    assert not pair.moves, "the download has ended before"
    assert pair.got == BODY
    assert pair.longest_gap(begin) < MOST_SECONDS_WITHOUT_TRAFFIC


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_challenge_is_repeated_though_the_client_has_fallen_silent(lost, fast):
    # It has acknowledged something from its new address, and waits for more from then on: what it
    # has sent is little, and all that the server may send is three times as much.
    pair = RoamingPair(quic_fast_path=fast)
    pair.download(BODY)
    pair.run(0.3)
    pair.client._loss.get_loss_detection_time = lambda **_: None
    left = iter([True] * lost)
    pair.lost = lambda way, data, address: (
        address == OTHER_HOST and way == "down" and next(left, False)
    )
    move_after_one_datagram(pair)
    moved_at = pair.now
    pair.run(20.0)
    assert pair.got == BODY
    assert pair.longest_gap(moved_at) < MOST_SECONDS_WITHOUT_TRAFFIC


def move_after_one_datagram(pair):
    """Let the client send one acknowledgement from its new address, with nothing under way."""
    while not any(way == "down" for _, _, way, _, _ in pair._under_way):
        pair.run(0.001)
    pair.address = OTHER_HOST
    space = pair.client._spaces[Epoch.ONE_RTT]
    space.ack_queue.add(space.largest_received_packet)
    space.ack_at = pair.now
    assert pair.client_sends()


# -- what a new path gets -----------------------------------------------------------------------


def moved(address=OTHER_HOST, received=None, **options):
    """A pair in the middle of a download whose client has just been heard from `address`."""
    pair = RoamingPair(**options)
    pair.download(BODY)
    pair.run(0.3)
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, address, pair.now)
    path = pair.server.network_paths[0]
    assert path.addr == address
    if received is not None:
        path.bytes_received = received
    return pair


@pytest.mark.parametrize("received", [45, 430, 1000])
def test_the_first_challenge_leaves_room_for_two_more(received):
    pair = moved(received=received)
    pair.server.datagrams_to_send(pair.now)
    path = pair.server.network_paths[0]
    assert path.local_challenge_sent
    assert 3 * received - path.bytes_sent >= 2 * CHALLENGE_BYTES


@pytest.mark.parametrize("received", [0, 30, 45, 60, 100, 399, 400, 500, 2000])
def test_no_new_path_gets_more_than_three_times_what_came_from_it(received):
    pair = moved(received=received)
    path = pair.server.network_paths[0]
    end = pair.now + 20.0
    while pair.server.get_timer() < end and not path.is_validated:
        pair.now = max(pair.now, pair.server.get_timer()) + 1e-6
        pair.server.handle_timer(pair.now)
        pair.server.datagrams_to_send(pair.now)
        assert path.bytes_sent <= 3 * received
        if path is not pair.server.network_paths[0]:
            break  # given up
    assert not path.is_validated


def test_a_challenge_fills_a_datagram_where_it_may():
    pair = moved(received=400)
    (first, _), *_ = pair.server.datagrams_to_send(pair.now)
    assert len(first) == 1200


def test_each_probe_of_a_new_path_has_another_challenge():
    pair = moved(received=2000)
    pair.server.datagrams_to_send(pair.now)
    path = pair.server.network_paths[0]
    assert len(path.local_challenges) == 1
    pair.server._send_probe()
    pair.server.datagrams_to_send(pair.now + 0.1)  # which the pacer asks for
    assert len(path.local_challenges) == 2


# -- what is known of a path --------------------------------------------------------------------


def test_a_validated_host_begins_with_the_window_of_a_new_connection():
    pair = RoamingPair()
    pair.download(BODY)
    pair.run(0.3)
    control = pair.server._loss._cc
    control.ssthresh = 5000
    pair.server._loss._rtt_min = 0.0
    pair.moves = [(pair.now, OTHER_HOST)]
    for _ in range(1000):
        pair.run(0.001)
        if pair.server._loss._cc is not control:
            break
    loss = pair.server._loss
    assert pair.server.network_paths[0].is_validated
    assert loss.congestion_window == INITIAL_WINDOW
    assert loss._cc.ssthresh is None
    assert loss.bytes_in_flight <= INITIAL_WINDOW
    assert loss._rtt_min > 0.0
    assert not any(
        packet.in_flight
        for packet in loss.spaces[0].sent_packets.values()
        if packet.sent_time < pair.now - DELAY
    )
    pair.run(20.0)
    assert pair.got == BODY
    assert loss.bytes_in_flight >= 0


@pytest.mark.parametrize("fast", [True, False])
def test_what_was_sent_on_the_path_before_does_not_count_on_the_new_one(fast):
    pair = RoamingPair(quic_fast_path=fast)
    pair.download(BODY)
    pair.run(0.15)
    loss = pair.server._loss
    kinds = {type(packet) for packet in loss.spaces[0].sent_packets.values()}
    assert (SentPiece in kinds) is fast
    pair.server._forget_estimates()
    assert loss.bytes_in_flight == 0
    pair.run(20.0)
    assert pair.got == BODY
    pair.ended = False
    pair.run(1.0)
    assert loss.bytes_in_flight == 0


def test_another_port_keeps_the_congestion_window():
    pair = RoamingPair()
    pair.download(BODY)
    pair.run(0.3)
    control = pair.server._loss._cc
    pair.moves = [(pair.now, OTHER_PORT)]
    pair.run(20.0)
    assert pair.got == BODY
    assert pair.server.network_paths[0].addr == OTHER_PORT
    assert pair.server._loss._cc is control


# -- connection IDs -----------------------------------------------------------------------------


class TwoEnded(Pair):
    """A pair whose addresses have a third part: the server's own end."""

    def server_class(self, **options):
        return QuicServerConnection(ends=lambda it: (it[0], it[2:]), **options)


def heard(pair, address):
    """Let the server hear from `address`, and return the ID that it uses from then on."""
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, address, pair.now)
    return pair.server._peer_cid.sequence_number


def test_another_address_of_the_server_s_has_a_connection_id_of_its_own():
    pair = TwoEnded()
    assert heard(pair, (*CLIENT, "first")) == 1
    assert heard(pair, (*CLIENT, "second")) == 2
    assert heard(pair, (*CLIENT, "second")) == 2


def test_a_client_with_another_address_is_known_by_the_same_connection_id():
    # RFC 9000 9.5 lets it: the client does not know that its NAT forgot it.
    pair = TwoEnded()
    before = pair.server._peer_cid.sequence_number
    assert heard(pair, OTHER_HOST) == before


# -- canaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (QuicConnection, ("_send_probe", "_write_application", "change_connection_id")),
        (QuicNetworkPath(CLIENT), ("is_validated", "local_challenge_sent", "remote_challenges")),
        (QuicPacketRecovery, ("get_probe_timeout", "congestion_window")),
        (
            Pair().server._loss,
            ("_cc", "_pacer", "_rtt_initialized", "_rtt_latest", "_rtt_min", "_rtt_smoothed"),
        ),
        (Pair().server._loss, ("_rtt_variance", "spaces")),
        (Pair().server, ("_peer_cid", "_probe_pending", "_max_datagram_size", "_spaces")),
    ],
)
def test_canary_what_is_used_of_aioquic(owner, names):
    assert [name for name in names if not hasattr(owner, name)] == []


def test_canary_a_builder_may_be_bounded():
    builder = QuicPacketBuilder(
        host_cid=b"", peer_cid=b"", version=1, is_client=False, max_datagram_size=1200
    )
    assert builder.max_total_bytes is None
