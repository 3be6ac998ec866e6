"""Builds the packets before the fast path is open, in few steps.

A `PacketBuilder` replaces aioquic's packet builder: it takes the same calls and makes the same
bytes. It checks no disabled log, makes each header once, and computes the remaining room without a
call for each step. The most common frames of these packets are written here, too. Uses private
names of aioquic, with canaries in tests/quic/transport.
"""

from collections.abc import Sequence
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import NEW_CONNECTION_ID_FRAME_CAPACITY, QuicConnectionId
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    NON_ACK_ELICITING_FRAME_TYPES,
    NON_IN_FLIGHT_FRAME_TYPES,
    QuicFrameType,
    QuicPacketType,
    encode_long_header_first_byte,
)
from aioquic.quic.packet_builder import (
    QuicDeliveryHandler,
    QuicPacketBuilder,
    QuicPacketBuilderStop,
    QuicSentPacket,
)
from aioquic.quic.stream import QuicStream, QuicStreamSender
from aioquic.tls import Epoch

from tercel.quic.transport.protection import (
    LEAST_PAYLOAD_BYTES,
    NUMBER_BYTES,
    TAG_BYTES,
    first_byte,
    seal_any,
)
from tercel.quic.transport.varint import encode_varint, varint_size

_LENGTH_BYTES = 2
# aioquic's: with less than that left in a datagram, a packet begins another one.
_LEAST_ROOM = 128

_INITIAL, _ONE_RTT = QuicPacketType.INITIAL, QuicPacketType.ONE_RTT

_CRYPTO = 0x06
_CRYPTO_TYPE = b"\x06"
_STREAM_TYPES = tuple(bytes((0x08 | bits,)) for bits in range(8))
_NO_DATA = b"\x40\0"
_FIN, _LENGTH, _OFFSET = 0x01, 0x02, 0x04
_PATH_FRAMES = (QuicFrameType.PATH_CHALLENGE, QuicFrameType.PATH_RESPONSE)


class PacketBuilder(QuicPacketBuilder):
    """aioquic's packet builder, for a server that writes no qlog."""

    _head = b""
    """The header of the current packet, up to its length or number."""

    def start_packet(self, packet_type: QuicPacketType, crypto: CryptoPair) -> None:
        """Begin a packet. Raises QuicPacketBuilderStop when there is no room for one."""
        if self._packet is not None:
            self._end_packet()
        start = self._buffer.tell()
        if self._buffer_capacity - start < _LEAST_ROOM or (
            # RFC 9002 2: its padding would count for congestion control.
            packet_type is _ONE_RTT
            and self._datagram_needs_padding
            and self._flight_capacity < self._buffer_capacity
        ):
            self._flush_current_datagram()
            start = 0
        if self._datagram_init:
            self._begin_datagram()
        epoch = Epoch.INITIAL if packet_type is _INITIAL else Epoch.HANDSHAKE
        if packet_type is _ONE_RTT:
            epoch = Epoch.ONE_RTT
            self._head = b"%c%b" % (
                first_byte(crypto, self._spin_bit),
                self._peer_cid,
            )
            size = len(self._head) + NUMBER_BYTES
        else:
            self._head = self._long_head(packet_type)
            size = len(self._head) + _LENGTH_BYTES + NUMBER_BYTES
        if start + size >= self._buffer_capacity:
            raise QuicPacketBuilderStop
        self._header_size = size
        self._packet = QuicSentPacket(epoch, False, False, False, self._packet_number, packet_type)
        self._packet_crypto = crypto
        self._packet_start = start
        self._packet_type = packet_type
        self._buffer.seek(start + size)

    def _begin_datagram(self) -> None:
        if self.max_total_bytes is not None:
            self._buffer_capacity = min(
                self._buffer_capacity, self.max_total_bytes - self._total_bytes
            )
        self._flight_capacity = self._buffer_capacity
        if self.max_flight_bytes is not None:
            self._flight_capacity = min(
                self._flight_capacity, self.max_flight_bytes - self._flight_bytes
            )
        self._datagram_flight_bytes = 0
        self._datagram_init = False
        self._datagram_needs_padding = False

    def _long_head(self, packet_type: QuicPacketType) -> bytes:
        peer, own, token = self._peer_cid, self._host_cid, b""
        if packet_type is _INITIAL:
            token = encode_varint(len(self._peer_token)) + self._peer_token
        first = encode_long_header_first_byte(self._version, packet_type, NUMBER_BYTES - 1)
        return b"%c%b%c%b%c%b%b" % (
            first,
            self._version.to_bytes(4, "big"),
            len(peer),
            peer,
            len(own),
            own,
            token,
        )

    def start_frame(
        self,
        frame_type: int,
        capacity: int = 1,
        handler: QuicDeliveryHandler | None = None,
        handler_args: Sequence[Any] = (),
    ) -> Buffer:
        """Begin a frame, as aioquic's."""
        buf, packet = self._buffer, self._packet
        assert packet is not None  # noqa: S101  # it was started
        used = buf.tell()
        if capacity < LEAST_PAYLOAD_BYTES and used - self._packet_start <= self._header_size:
            capacity = LEAST_PAYLOAD_BYTES
        needed = used + TAG_BYTES + capacity
        if needed > self._buffer_capacity:
            raise QuicPacketBuilderStop
        if frame_type not in NON_IN_FLIGHT_FRAME_TYPES:
            if needed > self._flight_capacity:
                raise QuicPacketBuilderStop
            packet.in_flight = True
        if frame_type not in NON_ACK_ELICITING_FRAME_TYPES:
            packet.is_ack_eliciting = True
            if frame_type == _CRYPTO:
                packet.is_crypto_packet = True
            elif frame_type in _PATH_FRAMES:
                self._datagram_needs_padding = True
        buf.push_uint_var(frame_type)
        if handler is not None:
            packet.delivery_handlers.append((handler, handler_args))
        return buf

    def add_data(self, frame: bytes, handler: QuicDeliveryHandler, arguments: Any) -> None:
        """Write a whole ack-eliciting frame, for which there is room."""
        packet = self._packet
        assert packet is not None  # noqa: S101  # it was started
        packet.in_flight = packet.is_ack_eliciting = True
        packet.delivery_handlers.append((handler, arguments))
        self._buffer.push_bytes(frame)

    def note_crypto(self) -> None:
        """Retransmit the current packet before others when it is not acknowledged in time."""
        assert self._packet is not None  # noqa: S101  # it was started
        self._packet.is_crypto_packet = True

    def _end_packet(self) -> None:
        buf, packet, crypto = self._buffer, self._packet, self._packet_crypto
        assert packet is not None and crypto is not None  # noqa: S101, PT018  # it was started
        start, end = self._packet_start, buf.tell()
        begin = start + self._header_size
        self._packet = None
        if end <= begin:
            buf.seek(start)  # nothing is in it
            return
        payload: bytes = buf.data_slice(begin, end)
        padding = LEAST_PAYLOAD_BYTES - len(payload)
        header = self._head
        if self._packet_type is _ONE_RTT:
            if self._datagram_needs_padding:
                padding = max(padding, self._flight_capacity - end - TAG_BYTES)
                self._datagram_needs_padding = False
        elif self._packet_type is _INITIAL and packet.is_ack_eliciting:
            self._datagram_needs_padding = True  # RFC 9000 14.1
        if padding > 0:
            payload += bytes(padding)
            packet.in_flight = True
        if self._packet_type is not _ONE_RTT:
            length = len(payload) + NUMBER_BYTES + TAG_BYTES
            header += (length | 0x4000).to_bytes(_LENGTH_BYTES, "big")
        number = self._packet_number
        header += (number & 0xFFFF).to_bytes(NUMBER_BYTES, "big")
        if crypto._update_key_requested:
            sealed = crypto.encrypt_packet(header, payload, number)
        else:
            sealed = seal_any(crypto.send, header, number, payload)
        buf.seek(start)
        buf.push_bytes(sealed)
        packet.sent_bytes = len(sealed)
        self._packets.append(packet)
        if packet.in_flight:
            self._datagram_flight_bytes += len(sealed)
        if self._packet_type is _ONE_RTT:
            self._flush_current_datagram()
        self._packet_number += 1


# -- frames ---------------------------------------------------------------------------------------


def pack_connection_id(
    builder: PacketBuilder, connection_id: QuicConnectionId, handler: QuicDeliveryHandler
) -> None:
    """Write a NEW_CONNECTION_ID frame (RFC 9000 19.15) that retires none.

    Raises QuicPacketBuilderStop when there is no room for it.
    """
    if builder.remaining_flight_space < NEW_CONNECTION_ID_FRAME_CAPACITY:
        raise QuicPacketBuilderStop
    cid = connection_id.cid
    frame = b"\x18%b\0%c%b%b" % (
        encode_varint(connection_id.sequence_number),
        len(cid),
        cid,
        connection_id.stateless_reset_token,
    )
    builder.add_data(frame, handler, (connection_id,))
    connection_id.was_sent = True


def pack_crypto(builder: PacketBuilder, stream: QuicStream) -> None:
    """Write a CRYPTO frame (RFC 9000 19.6) of pending data, if there is room."""
    sender = stream.sender
    pending = _pending(sender)
    if pending:
        start = pending[0].start
        overhead = 3 + varint_size(start)
        stop = min(pending[0].stop, start + builder.remaining_flight_space - overhead)
        if stop > start:
            frame = _CRYPTO_TYPE + encode_varint(start) + _taken(sender, pending, stop)
            builder.add_data(frame, sender.on_data_delivery, (start, stop, False))
            builder.note_crypto()
    sender.buffer_is_empty = not pending


def pack_stream(builder: PacketBuilder, stream: QuicStream, most: int) -> int:
    """Write a STREAM frame (RFC 9000 19.8) that ends at offset `most` at the latest.

    Returns how many of its bytes are sent for the first time.
    """
    sender = stream.sender
    pending = _pending(sender)
    start = pending[0].start if pending else sender._buffer_stop
    stream_id: int = stream.stream_id  # type: ignore[assignment]  # None only for CRYPTO
    ids = encode_varint(stream_id) + (encode_varint(start) if start else b"")
    overhead = 3 + len(ids)
    room, stop, highest = builder.remaining_flight_space - overhead, start, sender.highest_offset
    if pending:
        stop = min(pending[0].stop, start + room, most)
    if stop > start or (room >= 0 and not pending and sender._pending_eof):
        fin = stop == sender._buffer_fin
        kind = _STREAM_TYPES[_LENGTH | (_OFFSET if start else 0) | (_FIN if fin else 0)]
        frame = kind + ids + (_taken(sender, pending, stop) if pending else _NO_DATA)
        builder.add_data(frame, sender.on_data_delivery, (start, stop, fin))
        if fin:
            sender._pending_eof = False
    sender.buffer_is_empty = not (pending or sender._pending_eof)
    return sender.highest_offset - highest


def _pending(sender: QuicStreamSender) -> list[range]:
    ranges: list[range] = sender._pending._RangeSet__ranges  # type: ignore[attr-defined]
    return ranges


def _taken(sender: QuicStreamSender, pending: list[range], stop: int) -> bytes:
    """Remove the first pending data, up to `stop`; returns it after its length."""
    start, begin = pending[0].start, sender._buffer_start
    if stop == pending[0].stop:
        del pending[0]
    else:
        pending[0] = range(stop, pending[0].stop)
    if stop > sender.highest_offset:
        sender.highest_offset = stop
    length = (stop - start | 0x4000).to_bytes(2, "big")
    return length + sender._buffer[start - begin : stop - begin]
