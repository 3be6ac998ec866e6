"""Packets are put together as aioquic's builder does it, whatever there is room for."""

import random

import pytest
from aioquic.quic.connection import QuicConnectionId
from aioquic.quic.packet import QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.stream import QuicStream
from aioquic.tls import CipherSuite

from tercel.quic.transport.keys import KeyPair
from tercel.quic.transport.packet_builder import (
    PacketBuilder,
    pack_connection_id,
    pack_crypto,
    pack_stream,
)
from tests.quic.pair import Pair
from tests.quic.twin import plain

TYPES = [QuicPacketType.INITIAL, QuicPacketType.HANDSHAKE, QuicPacketType.ONE_RTT]
FRAMES = [
    QuicFrameType.PADDING,
    QuicFrameType.PING,
    QuicFrameType.ACK,
    QuicFrameType.CRYPTO,
    QuicFrameType.STREAM_BASE,
    QuicFrameType.PATH_CHALLENGE,
    QuicFrameType.TRANSPORT_CLOSE,
    QuicFrameType.DATAGRAM_WITH_LENGTH,
]


def keys():
    pair = KeyPair()
    for one in (pair.recv, pair.send):
        one.setup(
            cipher_suite=CipherSuite.AES_128_GCM_SHA256,
            secret=b"s" * 32,
            version=QuicProtocolVersion.VERSION_1,
        )
    return pair


def script(source):
    """What to call, with what."""
    for _ in range(source.randrange(1, 4)):
        for kind in TYPES if source.random() < 0.7 else source.choices(TYPES, k=3):
            yield "start_packet", kind
            for _ in range(source.choice((0, 1, 1, 3))):
                size = source.choice((0, 0, 1, 8, 100, 900, 1300))
                yield "start_frame", (source.choice(FRAMES), source.choice((1, 5, size)), size)


def built(kind, calls, **limits):
    """What comes of it: the datagrams, what is known of the packets, and where it stopped."""
    pair = keys()
    builder = kind(
        host_cid=b"a server",
        peer_cid=b"a client",
        version=limits.pop("version"),
        is_client=False,
        max_datagram_size=limits.pop("size"),
        packet_number=limits.pop("number"),
        spin_bit=limits.pop("spin"),
    )
    builder.max_flight_bytes, builder.max_total_bytes = limits["flight"], limits["total"]
    if limits["update"]:
        pair.update_key()
    done = 0
    try:
        for name, argument in calls:
            if name == "start_packet":
                builder.start_packet(argument, pair)
            else:
                frame, capacity, size = argument
                buf = builder.start_frame(frame, capacity, str, ("told",))
                room = builder.remaining_flight_space
                buf.push_bytes(b"x" * max(0, min(size, room)))
            done += 1
            assert builder.packet_is_empty is (name == "start_packet")
    except QuicPacketBuilderStop:
        pass
    datagrams, packets = builder.flush()
    return datagrams, [vars(packet) for packet in packets], builder.packet_number, done


@pytest.mark.parametrize("seed", range(300))
def test_packets_are_those_of_aioquic(seed):
    source = random.Random(seed)
    calls = list(script(source))
    limits = {
        "version": source.choice(list(QuicProtocolVersion)[1:]),
        "size": source.choice((1200, 1452)),
        "number": source.choice((0, 7, 0xFFFF, 0x12345)),
        "spin": source.random() < 0.5,
        "flight": source.choice((None, 0, 30, 200, 1200, 1300, 3000, 12_000)),
        "total": source.choice((None, 0, 40, 300, 1100, 1200, 1300, 3600)),
        "update": source.random() < 0.1,
    }
    assert built(PacketBuilder, calls, **limits) == built(QuicPacketBuilder, calls, **limits)


def streams(source, *, crypto):
    """Two streams in the same state, with something to send."""
    known = []
    size, lost, sent = source.choice((0, 1, 50, 5000)), source.random() < 0.5, source.randrange(60)
    end, credit = source.random() < 0.5 and not crypto, source.choice((0, 10, 70, 100_000))
    for _ in range(2):
        stream = QuicStream(stream_id=0, max_stream_data_remote=credit)
        stream.sender.write(b"s" * sent)
        while stream.sender.get_frame(20) is not None:
            pass
        stream.sender.write(b"d" * size, end)
        if lost and sent > 5:
            stream.sender._pending.add(1, 5)
            stream.sender.buffer_is_empty = False
        known.append(stream)
    return known


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("crypto", [False, True])
def test_what_a_stream_has_is_written_as_by_aioquic(seed, crypto):
    source = random.Random(seed)
    server = Pair(handshake=False).server
    builders = []
    limits = source.choice((None, 45, 60, 300)), source.choice((None, 50, 60, 300))
    for kind in (PacketBuilder, QuicPacketBuilder):
        builder = kind(
            host_cid=b"", peer_cid=b"", version=1, is_client=False, max_datagram_size=1200
        )
        builder.max_flight_bytes, builder.max_total_bytes = limits
        builder.start_packet(QuicPacketType.ONE_RTT, keys())
        builders.append(builder)
    mine, theirs = streams(source, crypto=crypto)
    most = source.choice((20, 64, 100_000))
    for _ in range(3):
        if crypto:
            pack_crypto(builders[0], mine)
            server._write_crypto_frame(builder=builders[1], space=None, stream=theirs)
        else:
            used = pack_stream(builders[0], mine, most)
            assert used == server._write_stream_frame(
                builder=builders[1], space=None, stream=theirs, max_offset=most
            )
        # aioquic finds out only when it asks for another frame.
        sender = theirs.sender
        if not (len(sender._pending) or sender._pending_eof):
            sender.buffer_is_empty = True
        assert plain(mine, set()) == plain(theirs, set())
    assert told(builders[0]) == told(builders[1])


def test_a_connection_id_that_has_no_room_is_not_begun():
    known = QuicConnectionId(cid=bytes(8), sequence_number=1, stateless_reset_token=bytes(16))
    builder = PacketBuilder(
        host_cid=b"h" * 8,
        peer_cid=b"p" * 8,
        version=QuicProtocolVersion.VERSION_1,
        is_client=False,
        max_datagram_size=1200,
    )
    builder.max_flight_bytes = 60
    builder.start_packet(QuicPacketType.ONE_RTT, keys())
    with pytest.raises(QuicPacketBuilderStop):
        pack_connection_id(builder, known, lambda *_: None)
    assert not known.was_sent
    assert builder.flush() == ([], [])


def told(builder):
    datagrams, packets = builder.flush()
    assert [packet.sent_bytes for packet in packets] == [len(data) for data in datagrams]
    return datagrams, [
        (
            packet.in_flight,
            packet.is_ack_eliciting,
            packet.is_crypto_packet,
            [(handler.__name__, *arguments) for handler, arguments in packet.delivery_handlers],
        )
        for packet in packets
    ]
