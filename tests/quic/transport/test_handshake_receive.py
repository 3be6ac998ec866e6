"""What arrives before the fast path is open is taken as aioquic takes it.

All of it comes to a shadow of the server, too, which does everything by aioquic's code.
"""

import inspect
import itertools
import random
import re

import pytest
from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import EPOCHS, QuicConnection
from aioquic.quic.packet import (
    NON_ACK_ELICITING_FRAME_TYPES,
    PROBING_FRAME_TYPES,
    QuicPacketType,
    QuicProtocolVersion,
    encode_long_header_first_byte,
    pull_quic_header,
)
from aioquic.tls import CipherSuite, Epoch

from tercel.quic.transport import handshake_receive
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.packet_header import read_head
from tercel.quic.transport.tokens import KeyRing
from tercel.quic.transport.varint import encode_varint as varint
from tests.quic.pair import CLIENT
from tests.quic.shadow import Shadowed

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
FULL = SMALLEST_MAX_DATAGRAM_SIZE
KINDS = {
    Epoch.INITIAL: QuicPacketType.INITIAL,
    Epoch.ZERO_RTT: QuicPacketType.ZERO_RTT,
    Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE,
}


def completed(pair):
    return [event for event in pair.server_events if isinstance(event, events.HandshakeCompleted)]


def exchanged(pair, size=3000):
    """Pass a request and its response."""
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"request" * 300, end_stream=True)
    pair.run(0.1)
    if pair.both(lambda server: server.can_send(stream_id)):
        pair.both(lambda server: server.send_stream_data(stream_id, b"r" * size, True))
    pair.run(0.5)
    return pair


@pytest.mark.parametrize("suite", list(CipherSuite)[:3], ids=lambda suite: suite.name)
@pytest.mark.parametrize("versions", [[V1], [V2], [V2, V1]], ids=["1", "2", "1 to 2"])
def test_a_handshake_and_a_request(suite, versions):
    options = {"supported_versions": versions, "original_version": versions[-1]}
    pair = Shadowed(client_options=options | {"cipher_suites": [suite]})
    exchanged(pair)
    assert completed(pair)
    assert pair.server.version == versions[0]


@pytest.mark.parametrize("early", [False, True])
def test_a_session_that_is_resumed(early):
    ring = KeyRing([b"k" * 32])
    first = Shadowed(ring=ring, early_data=early)
    first.run()
    again = Shadowed(
        ring=ring, early_data=early, client_options={"session_ticket": first.tickets[0]}
    )
    if early:
        again.client.send_stream_data(0, b"early", end_stream=True)
    exchanged(again)
    (event,) = completed(again)
    assert event.session_resumed
    assert event.early_data_accepted is early


def test_a_client_that_has_shown_its_address():
    pair = exchanged(Shadowed(server_options={"address_validated": True}))
    assert completed(pair)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_network_does(seed):
    source = random.Random(seed)
    pair = Shadowed()
    pair.drop = lambda _: source.random() < 0.2
    pair.drop_from_client = lambda data: spoilt(pair, data, source)
    for _ in range(3):
        if pair.server.close_event is None:
            exchanged(pair, 20_000)
    assert pair.steps > 30


def spoilt(pair, data, source):
    """Let the server get something like a datagram of the client's first; whether it gets lost."""
    position, value = source.randrange(min(len(data), 60)), source.randrange(256)
    changed = data[:position] + bytes((value,)) + data[position + 1 :]
    pair.receive(
        *source.choices(
            (changed, data[:position], data + changed[:40], data, data[: len(data) // 2]),
            k=source.randrange(3),
        )
    )
    if source.random() < 0.1:
        pair.receive(data, address=("192.0.2.7", 5))
    return source.random() < 0.2


def test_whatever_byte_of_a_first_datagram_is_wrong():
    for position in [*range(80), 200, FULL - 1]:
        for value in (0x00, 0x40, 0xFF):
            pair = Shadowed()
            ((data, _),) = pair.client.datagrams_to_send(pair.now)
            pair.receive(data[:position] + bytes((value,)) + data[position + 1 :])
            pair.receive(data[:position])
            pair.receive(data)
            assert pair.server_sends()


# -- packets that a client makes up -----------------------------------------------------------


def packet(pair, epoch, payload, *, number=200, reserved=0, version=None, cid=None):
    """A packet of the client's."""
    client = pair.client
    keys = client._cryptos[epoch]
    version = client._version if version is None else version
    cid = client._peer_cid.cid if cid is None else cid
    size = 2 if len(payload) > 1 else 4  # so that there is a sample
    low = number.to_bytes(size, "big")
    if epoch is Epoch.ONE_RTT:
        header = bytes((0x40 | size - 1 | keys.key_phase << 2 | reserved << 3,)) + cid + low
        return keys.encrypt_packet(header, payload, number)
    first = encode_long_header_first_byte(version, KINDS[epoch], size - 1) | reserved << 2
    own = client.host_cid
    header = bytes((first,)) + version.to_bytes(4, "big")
    header += bytes((len(cid),)) + cid + bytes((len(own),)) + own
    if epoch is Epoch.INITIAL:
        header += b"\0"
    header += (len(payload) + size + 16 | 0x4000).to_bytes(2, "big") + low
    return keys.encrypt_packet(header, payload, number)


FRAMES = {
    "nothing": b"",
    "padding": bytes(30),
    "padding and a ping": bytes(30) + b"\x01" + bytes(3),
    "a ping": b"\x01" + bytes(3),
    "an ACK of the future": b"\x02\x40\xff\0\0\0",
    "an ACK": b"\x02\0\0\0\0",
    "an ACK with marks": b"\x03\0\0\0\0\x01\0\0",
    "an ACK twice": 2 * b"\x02\0\0\0\0",
    "an ACK that is cut off": b"\x02\0\0\0",
    "an ACK below zero": b"\x02\0\0\0\x05",
    "crypto that is there": b"\x06\0\x04abcd",
    "crypto that is to come": b"\x06\x70\0\x04abcd",
    "too much crypto": b"\x06\x80\x02\0\0\x04abcd",
    "crypto that is cut off": b"\x06\0\x40\xffabcd",
    "a type in two bytes": b"\x40\x01\x01\x01",
    "a type that is cut off": b"\x01\x01\x01\xc0",
    "an unknown type": b"\x21\0\0\0",
    "an unknown type in eight bytes": b"\xc0" + bytes(6) + b"\x77\0",
    "a stream": b"\x0b\0\x04abcd",
    "a stream that is too high": b"\x0b\x80\x10\0\0\x04abcd",
    "a stream of the server's": b"\x0b\x03\x04abcd",
    "a reset": b"\x04\0\x07\0",
    "a limit": b"\x10\x80\x7f\0\0" + b"\x12\x40\xff" + b"\x11\0\x7f\xff",
    "a limit of the next request": b"\x11\0\xbf\xff\xff\xff" + b"\x0b\0\x04abcd",
    "a limit of it that raises nothing": b"\x11\0\x40\x01" + b"\x0b\0\x04abcd",
    "a limit of the one after": b"\x11\x04\xbf\xff\xff\xff" + b"\x0b\0\x04abcd",
    "a limit of too high a request": b"\x11\x80\x10\0\0\xbf\xff\xff\xff",
    "a token": b"\x07\x04abcd",
    "a connection ID": b"\x18\x01\0\x08" + b"newidnew" + bytes(16),
    "many connection IDs": b"".join(
        b"\x18" + varint(number) + b"\0\x08" + bytes((number,)) * 24 for number in range(1, 40)
    ),
    "an ID that retires others": b"\x18\x05\x05\x08" + b"newidnew" + bytes(16),
    "an ID that is retired": b"\x19\x01",
    "one in use that is retired": b"\x19\0",
    "a challenge": b"\x1a" + b"challeng",
    "a close": b"\x1c\x07\0\0",
    "a close by the application": b"\x1d\x07\0",
    "the end of the handshake": b"\x1e" + bytes(3),
    "a datagram": b"\x31\x03abc",
}
every_frame = pytest.mark.parametrize("payload", FRAMES.values(), ids=FRAMES)


def half_open():
    """The server has answered, and the client has keys for everything."""
    pair = Shadowed()
    pair.client_sends()
    pair.server_sends()
    return pair


@every_frame
@pytest.mark.parametrize("epoch", [Epoch.INITIAL, Epoch.HANDSHAKE], ids=lambda epoch: epoch.name)
def test_whatever_is_in_a_packet_of_the_handshake(payload, epoch):
    pair = half_open()
    pair.receive(packet(pair, epoch, payload).ljust(FULL, b"\0"))
    pair.receive(packet(pair, epoch, payload, number=201))
    pair.run(0.5)


@every_frame
@pytest.mark.parametrize("moved", [False, True])
def test_whatever_is_in_a_packet_after_it(payload, moved):
    pair = half_open()
    pair.run(0.5)
    address = ("192.0.2.9", 77) if moved else CLIENT
    pair.receive(packet(pair, Epoch.ONE_RTT, payload + bytes(3)), address=address)
    pair.receive(packet(pair, Epoch.ONE_RTT, payload + bytes(3), number=150), address=address)
    pair.run(0.5)


class Armed(Shadowed):
    """The server takes the fast path as soon as it can."""

    kind = QuicServerConnection


@every_frame
def test_whatever_follows_the_end_of_the_handshake(payload):
    pair = Armed()
    pair.client_sends()
    pair.server_sends()
    *_, last = (data for data, _ in pair.client.datagrams_to_send(pair.now))
    first = packet(pair, Epoch.ONE_RTT, payload + bytes(3))
    pair.receive(last + first, first)
    pair.receive(packet(pair, Epoch.ONE_RTT, payload + bytes(3), number=150))
    assert pair.server._armed
    if pair.server.close_event is None:
        pair.both(lambda server: server.get_timer())
        assert pair.server.datagrams_to_send(pair.now)


@pytest.mark.parametrize("frames", range(1, 4))
def test_connection_ids_are_kept_as_by_aioquic(frames):
    source = random.Random(frames)
    for _ in range(60):
        pair = Armed()
        pair.client_sends()
        pair.server_sends()
        pair.client_sends()
        payload = b"".join(
            b"\x18"
            + varint(source.choice((0, 1, 2, 3, 4, 70)))
            + source.choice((b"\0", b"\0", b"\0", b"\x40\0", b"\x02"))
            + bytes((source.choice((8, 8, 8, 0, 20, 21)),))
            + source.randbytes(8 + 16)
            for _frame in range(frames)
        )
        cut = source.choice((len(payload), len(payload) - 1))
        assert pair.server._armed
        pair.receive(packet(pair, Epoch.ONE_RTT, payload[:cut]))


@every_frame
def test_whatever_is_in_a_first_packet(payload):
    pair = Shadowed()
    pair.client.datagrams_to_send(pair.now)
    pair.receive(packet(pair, Epoch.INITIAL, payload).ljust(FULL, b"\0"))
    pair.run(0.5)


@every_frame
def test_whatever_is_in_early_data(payload):
    ring = KeyRing([b"k" * 32])
    first = Shadowed(ring=ring, early_data=True)
    first.run()
    pair = Shadowed(ring=ring, early_data=True, client_options={"session_ticket": first.tickets[0]})
    pair.client.send_stream_data(0, b"early")
    ((data, _), *_) = pair.client.datagrams_to_send(pair.now)
    pair.receive(data)
    pair.receive(packet_of_early_data(pair, payload + bytes(3)))
    pair.run(0.5)


@pytest.mark.parametrize("seed", range(20))
def test_a_client_hello_in_pieces(seed):
    source = random.Random(seed)
    pair = Shadowed()
    hello = pair.client._crypto_streams[Epoch.INITIAL].sender
    pair.client.datagrams_to_send(pair.now)
    data = bytes(hello._buffer)
    cuts = sorted({0, len(data), *(source.randrange(len(data)) for _ in range(12))})
    pieces = [(start, data[start:stop]) for start, stop in itertools.pairwise(cuts)]
    if source.random() < 0.5:
        pieces += [(start, data[start : start + 40]) for start in cuts[::3]]  # some of it twice
    source.shuffle(pieces)
    frames = [
        b"\x06" + varint(start) + varint(len(piece)) + piece + source.choice((b"", b"\0", b"\x01"))
        for start, piece in pieces
    ]
    middle = source.randrange(1, len(frames))
    for number, part in enumerate((frames[:middle], frames[middle:])):
        pair.receive(packet(pair, Epoch.INITIAL, b"".join(part), number=number).ljust(FULL, b"\0"))
    assert pair.server.cipher_suite is not None
    cut_off = packet(pair, Epoch.INITIAL, b"\x06\x50\0\x20abc", number=2).ljust(FULL, b"\0")
    pair.receive(cut_off)
    assert pair.server.close_event is not None


def test_the_datagrams_of_a_client_hello_may_come_in_reverse():
    pair = Shadowed()
    sender = pair.client._crypto_streams[Epoch.INITIAL].sender
    pair.client.datagrams_to_send(pair.now)
    data = bytes(sender._buffer)
    middle = len(data) // 2
    pieces = [b"\x06\0" + varint(middle) + data[:middle]]
    pieces += [b"\x06" + varint(middle) + varint(len(data) - middle) + data[middle:]]
    for number in (1, 0):
        assert not pair.server_events
        pair.receive(packet(pair, Epoch.INITIAL, pieces[number], number=number).ljust(FULL, b"\0"))
    assert pair.server.cipher_suite is not None


@pytest.mark.parametrize("repeated", [False, True])
def test_crypto_data_behind_the_end_of_the_handshake_is_dropped(repeated):
    pair = half_open()
    finished = bytes(pair.client._crypto_streams[Epoch.HANDSHAKE].sender._buffer)
    first = b"\x06\0" + varint(len(finished)) + finished
    more = first if repeated else b"\x06" + varint(len(finished)) + b"\x04abcd"
    pair.receive(packet(pair, Epoch.HANDSHAKE, first + more))
    assert pair.server.handshake_completed
    assert pair.server.close_event is None


def packet_of_early_data(pair, payload):
    return packet(pair, Epoch.ZERO_RTT, payload, cid=pair.client.original_destination_connection_id)


@pytest.mark.parametrize("epoch", [Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT])
@pytest.mark.parametrize(
    "options",
    [{"reserved": 1}, {"reserved": 3}, {"cid": b"unknown!"}, {"version": 7}, {"version": V2}],
    ids=str,
)
def test_whatever_is_wrong_with_a_header(epoch, options):
    pair = half_open()
    data = packet(pair, epoch, b"\x01\0\0", **options)
    pair.receive(data.ljust(FULL, b"\0") if epoch is Epoch.INITIAL else data)
    pair.run(0.5)


def test_packets_that_come_together():
    pair = half_open()
    first = packet(pair, Epoch.INITIAL, b"\x01\0\0")
    second = packet(pair, Epoch.HANDSHAKE, b"\x01\0\0", number=201)
    third = packet(pair, Epoch.ONE_RTT, b"\x01\0\0".ljust(FULL, b"\0"), number=202)
    pair.receive(first + second + third, first + second, second + third, b"", third)
    exchanged(pair)


def test_new_keys_after_the_handshake():
    pair = half_open()
    pair.run(0.5)
    pair.client.request_key_update()
    exchanged(pair)
    pair.both(lambda server: server.request_key_update())
    exchanged(pair)
    assert pair.server._cryptos[Epoch.ONE_RTT].key_phase == 0


# -- headers ------------------------------------------------------------------------------------


def read_by_aioquic(data):
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=8)
    except ValueError:
        return None
    kinds = {kind: epoch for epoch, kind in KINDS.items()} | {QuicPacketType.ONE_RTT: Epoch.ONE_RTT}
    if header.packet_type not in kinds:
        return None
    return (
        kinds[header.packet_type],
        header.version,
        header.destination_cid,
        header.source_cid,
        header.packet_length,
    )


def read_here(data):
    head = read_head(data, 0, 8)
    return head and (head.epoch, head.version, head.destination, head.source, head.end)


@pytest.mark.parametrize("version", [V1, V2, 7])
def test_a_header_is_read_as_by_aioquic(version):
    source = random.Random(version)
    for first in range(256):
        token = b"" if source.random() < 0.5 else b"token"
        header = bytes((first,)) + int(version).to_bytes(4, "big")
        header += b"\x08" + b"to a cid" + b"\x05" + b"froms"
        for rest in (varint(len(token)) + token + b"\x40\x20", b"\x40\x20", b"\x20", b"\x7f\xff"):
            data = header + rest + bytes(32)
            assert read_here(data) == read_by_aioquic(data), data
            for stop in range(1, len(header + rest) + 2):
                assert read_here(data[:stop]) == read_by_aioquic(data[:stop]), data[:stop]
            for position in (5, 14):
                for length in (0, 1, 20, 21, 255):
                    changed = bytearray(data)
                    changed[position] = length
                    changed = bytes(changed)
                    assert read_here(changed) == read_by_aioquic(changed), changed


# -- canaries -----------------------------------------------------------------------------------


def test_canary_what_is_known_of_frames_is_what_aioquic_knows():
    pair = Shadowed()
    pair.client_sends()
    for kind in range(0x40):
        try:
            _, epochs = pair.shadow._QuicConnection__frame_handlers[kind]
        except KeyError:
            continue
        assert (kind in handshake_receive.IN_HANDSHAKE) == (epochs >= EPOCHS("IH")), hex(kind)
        assert (kind in handshake_receive.NOT_EARLY) == (Epoch.ZERO_RTT not in epochs), hex(kind)
        assert Epoch.ONE_RTT in epochs
        assert (Epoch.INITIAL in epochs) == (Epoch.HANDSHAKE in epochs)
    assert handshake_receive.NOT_ELICITING == NON_ACK_ELICITING_FRAME_TYPES
    assert handshake_receive.PROBING == PROBING_FRAME_TYPES


def test_canary_aioquic_takes_packets_in_the_same_steps():
    steps = {
        name: re.findall(r"self\.(_\w+)\(", inspect.getsource(getattr(QuicConnection, name)))
        for name in ("receive_datagram", "_payload_received")
    }
    assert steps == {
        "receive_datagram": [
            "_find_network_path",
            "_idle_timeout",
            "_receive_version_negotiation_packet",
            "_receive_retry_packet",
            "_initialize",
            "_discard_epoch",
            "_set_state",
            "_payload_received",
            "_idle_timeout",
            "_add_network_path",
            "_use_reserved_peer_cid",
        ],
        "_payload_received": [],
    }
