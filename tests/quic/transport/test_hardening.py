"""Canaries for what `tercel.quic.transport.hardening` and `receiver` replace and read of aioquic's.

What it is good for is shown in tests/hostile/test_quic_rows.py, on real sockets.
"""

import inspect
import logging

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import QuicStream, QuicStreamReceiver
from aioquic.tls import Epoch

from tercel.quic.transport.abuse_limits import LIMITS, Flood
from tercel.quic.transport.errors import EXCESSIVE_LOAD
from tercel.quic.transport.handshake_state import MOST_CONNECTION_IDS
from tercel.quic.transport.hardening import HardenedConnection
from tercel.quic.transport.stream_receiver import Receiver
from tests.quic.pair import CLIENT, Pair
from tests.support.raw_quic import PING, numbers, short_packet

REPLACED = [
    name
    for name, member in vars(HardenedConnection).items()
    if inspect.isfunction(member) and hasattr(QuicConnection, name) and name != "__init__"
]
OWN = {
    "check_acknowledged",
    "reset_token_of",
    "_check_keys",
    "_count_sealed",
    "exceed",
    "_set_reset_tokens",
    "_skip_packet_number",
}


@pytest.mark.parametrize("name", REPLACED)
def test_canary_what_is_replaced_takes_these_parameters(name):
    theirs = list(inspect.signature(getattr(QuicConnection, name)).parameters)
    assert list(inspect.signature(getattr(HardenedConnection, name)).parameters) == theirs


def test_canary_every_replacement_replaces_something():
    mine = {name for name, member in vars(HardenedConnection).items() if inspect.isfunction(member)}
    helpers = {"_crypto_stream", "_drop_unsent", "_next_skip", "_open_next"}
    assert mine - set(REPLACED) - {"__init__"} == OWN | helpers


def test_canary_handlers_of_frames_are_looked_up_on_the_object():
    pair = Pair()
    handlers = pair.server._QuicConnection__frame_handlers
    replaced = {handlers[kind][0].__name__ for kind in range(0x1F)}
    assert "handle" in replaced  # the ones that spend first
    for kind in (0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x10, 0x11, 0x18, 0x19, 0x1A):
        handler = handlers[kind][0].__func__
        assert handler.__module__ != QuicConnection.__module__, hex(kind)


def test_canary_packet_numbers_are_one_sequence_over_all_spaces():
    pair = Pair()
    numbers = [number for space in pair.client._spaces.values() for number in space.ack_queue]
    assert pair.server._packet_number > max(part.stop for part in numbers) - 1


def test_canary_receivers_are_exchanged_when_a_stream_is_first_touched():
    pair = Pair()
    pair.client.send_stream_data(0, b"x")
    pair.run()
    assert type(pair.server._streams[0].receiver) is Receiver
    assert all(type(stream.receiver) is Receiver for stream in pair.server._crypto_streams.values())
    assert type(QuicStream(stream_id=0).receiver) is QuicStreamReceiver


def test_canary_a_receiver_has_these_parts():
    receiver = QuicStreamReceiver(0, readable=True)
    for name in ("_buffer", "_buffer_start", "_final_size", "highest_offset", "is_finished"):
        assert hasattr(receiver, name)


def test_canary_a_sender_that_was_reset_needs_its_buffer_no_more():
    pair = Pair(max_unsent_bytes=100_000)
    pair.client.send_stream_data(0, b"x", end_stream=True)
    pair.run()
    pair.server.send_stream_data(0, b"y" * 5_000_000)
    assert pair.server.kept() >= 5_000_000
    pair.server_sends()
    pair.server.reset_stream(0, 7)
    assert len(pair.server._streams[0].sender._buffer) == 0
    pair.run()
    assert pair.server.kept() < 1000
    assert [type(event).__name__ for event in pair.client_events][-1] == "StreamReset"


def test_canary_keys_of_the_data_are_counted_and_carry_their_phase():
    pair = Pair()
    keys = pair.server._cryptos[Epoch.ONE_RTT]
    assert isinstance(keys, CryptoPair)
    assert type(keys) is not CryptoPair
    assert keys.forged == 0
    assert keys.send.key_phase == 0
    pair.server.request_key_update()
    pair.server.send_ping(1)
    pair.run()
    assert keys.send.key_phase == 1


def test_canary_reset_tokens_are_set_before_they_are_told():
    pair = Pair(handshake=False)
    pair.server._reset_token = lambda cid: cid * 2
    pair.run()
    ids = pair.client._peer_cid_available
    assert len(ids) == MOST_CONNECTION_IDS - 1
    assert all(one.stateless_reset_token == one.cid * 2 for one in ids)


def test_retire_prior_to_beyond_its_own_id_is_an_encoding_error():
    """RFC 9000 19.15."""
    pair = Pair()
    payload = b"\x18" + numbers(5, 6) + b"\x08another1" + bytes(16)
    pair.server.receive_datagram(short_packet(pair.client, payload), CLIENT, pair.now)
    closed = pair.server.close_event
    assert (closed.error_code, closed.frame_type) == (QuicErrorCode.FRAME_ENCODING_ERROR, 0x18)


def test_an_answer_to_a_challenge_in_0_rtt_is_a_violation():
    """RFC 9000 12.4: there was no challenge yet."""
    server = Pair().server
    context = QuicReceiveContext(Epoch.ZERO_RTT, b"", server.network_paths[0], None, 0.0, 1)
    with pytest.raises(QuicConnectionError) as caught:
        server._handle_path_response_frame(context, 0x1B, Buffer(data=bytes(8)))
    assert caught.value.error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_what_peers_do_is_no_warning(caplog):
    caplog.set_level(logging.INFO)
    pair = Pair()
    pair.server._logger.warning("a peer did %s", "something")
    pair.client.send_ping(1)
    pair.run()
    assert [record for record in caplog.records if record.name.startswith("tercel")] == []


@pytest.mark.parametrize("fast_path", [True, False])
def test_a_flood_of_pings_ends_in_excessive_load_whichever_code_reads_it(fast_path):
    pair = Pair(quic_fast_path=fast_path)
    for _ in range(2 * LIMITS[Flood.CONTROL_FRAMES][0] // 500):
        pair.server.receive_datagram(short_packet(pair.client, PING * 500), CLIENT, pair.now)
    assert pair.server.close_event.error_code == EXCESSIVE_LOAD
    assert pair.server.exceeded == "too many control frames"


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize(
    "datagram", [b"", b"\x40" + bytes(1199), b"\xc0" + bytes(1199), bytes(1200)], ids=len
)
def test_what_is_no_initial_begins_no_connection_and_keeps_none_from_beginning(datagram, fast_path):
    pair = Pair(handshake=False, quic_fast_path=fast_path)
    pair.server.receive_datagram(datagram, CLIENT, pair.now)
    assert pair.server.next_event() is None
    pair.run()
    assert pair.server.handshake_completed
