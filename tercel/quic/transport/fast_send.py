"""The fast path out: builds common packets directly as bytes.

Uses private names of aioquic, each with a canary in tests/quic/transport.

aioquic writes each frame through several objects. A packet built here has the content of aioquic's:
ACK, MAX_DATA, MAX_STREAMS, MAX_STREAM_DATA and STREAM frames. If any other frame is to be sent,
aioquic's own code sends it. Recovery, pacing and congestion control are aioquic's throughout.
"""

import math
from typing import Any

from aioquic.quic.connection import Limit
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream, QuicStreamSender

from tercel.quic.transport.ecn import ACK_OF_ACK_PERIOD, COUNTS_MAX_BYTES, encode_counts, has_marks
from tercel.quic.transport.pacing import Pacer
from tercel.quic.transport.protection import (
    NUMBER_BYTES,
    TAG_BYTES,
    first_byte,
    seal,
)
from tercel.quic.transport.send_queue import QueuedConnection
from tercel.quic.transport.sent_packets import SentPacket, SentPiece, forget_acknowledged
from tercel.quic.transport.unacknowledged import is_answer_due
from tercel.quic.transport.varint import encode_varint, varint_size

_VARINT_MAX_BYTES = 8
_LIMIT_FRAME_BYTES = 1 + _VARINT_MAX_BYTES
_STREAM_LIMIT_FRAME_BYTES = 1 + 2 * _VARINT_MAX_BYTES
_PING_FRAME = b"\x01"
_ACK = b"\x02"
_ACK_ECN = b"\x03"
_MAX_STREAM_DATA = b"\x11"

# Type, stream, two bytes of length, and a byte of data.
_LEAST_STREAM_FRAME_BYTES = 5
_STREAM_TYPES = tuple(bytes((0x08 | bits,)) for bits in range(8))
_FIN, _LENGTH, _OFFSET = 0x01, 0x02, 0x04


class FastSender(QueuedConnection):
    """Sends common packets itself, and leaves the others to its base class."""

    __slots__ = ("_known_times", "_pacer")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known_times: tuple[float, float] | None = None
        self._pacer = Pacer(max_datagram_size=self._max_datagram_size)
        self._loss._pacer = self._pacer

    # -- datagrams --------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The datagrams to send, each with its address."""
        if not self._surveyed and not self._survey():
            self._forget_stale()
            self._exempt_acknowledgement(now)
            return super().datagrams_to_send(now)
        self._pacing_at = None
        if self._ended:
            self._forget_ended()
        limits = self._connection_limits_due()
        ack_at = self._data_space.ack_at
        if not (self._due or self._limits_due or limits or (ack_at is not None and ack_at <= now)):
            return []
        if self._packet_number >= self._skip_at:
            self._skip_packet_number()
        first_number = self._packet_number
        payloads = self._build(now, limits)
        if not payloads:
            return []
        keys = self._data_keys.send
        first = first_byte(keys, self._spin_bit)
        datagrams = seal(keys, first, self._peer_cid.cid, first_number, payloads)
        self._count_sealed(keys.key_phase)
        path = self._network_paths[0]
        addressed = []
        for datagram in datagrams:
            path.bytes_sent += len(datagram)
            addressed.append((datagram, path.addr))
        return addressed

    def _exempt_acknowledgement(self, now: float) -> None:
        """Let aioquic's code also send an acknowledgement due exactly now, without the pacer.

        It sends late acknowledgements past the pacer (RFC 9002 7.7). One that is not yet late would
        wait while its own timer fires again and again.
        """
        for space in self._loss.spaces:
            if space.ack_at == now:
                space.ack_at = math.nextafter(now, 0.0)

    def _build(self, now: float, limits: list[Limit]) -> list[bytes]:
        """The payloads of the packets that may be sent now, each registered with recovery.

        None needs padding to be sampled (RFC 9001 5.4.2): no frame has less than two bytes.
        """
        space, loss, pacer = self._data_space, self._loss, self._pacer
        control, due = loss._cc, self._due
        overhead = 1 + len(self._peer_cid.cid) + NUMBER_BYTES + TAG_BYTES
        room = self._max_datagram_size - overhead
        flight = control.congestion_window - control.bytes_in_flight
        pace = pacer.packet_time
        if pace is not None:
            pacer.update_bucket(now=now)
        payloads: list[bytes] = []
        while True:
            acknowledges = space.ack_at is not None and space.ack_at <= now
            # RFC 9002 7.7: paced, except for an acknowledgement that is due.
            if pace is not None and pacer.bucket_time <= 0 and not acknowledges:
                self._pacing_at = now + pacer.pause
                break
            packet = SentPacket(self._packet_number, now)
            flight_room = flight - overhead
            if flight_room > room:
                flight_room = room
            parts: list[bytes | bytearray] = []
            if acknowledges:
                flight_room -= self._add_ack(packet, parts, room, flight_room, now)
            if limits or self._limits_due:
                flight_room = self._add_limits(packet, parts, flight_room, limits)
            if due:
                self._add_stream_data(packet, parts, flight_room)
            payload = b"".join(parts)
            if not payload:
                break
            packet.sent_bytes = overhead + len(payload)
            payloads.append(payload)
            space.sent_packets[packet.packet_number] = packet  # type: ignore[assignment]
            self._register(packet, now, 1)
            if pace is not None:
                pacer.bucket_time -= pace
            if not (due or self._limits_due or limits):
                break
            if packet.in_flight:
                flight -= packet.sent_bytes
            if len(due) == 1 and not (self._limits_due or limits):
                flight -= self._add_run(payloads, room, flight, now)
        return payloads

    def _add_run(self, payloads: list[bytes], room: int, flight: int, now: float) -> int:
        """Build the full packets with data of the one stream that is due.

        Returns their size. The rest, up to the stream's end, is left.
        """
        (stream_id, stream), *_ = self._due.items()
        sender, sent = stream.sender, self._data_space.sent_packets
        pending = sender._pending._RangeSet__ranges  # type: ignore[attr-defined]
        if not pending:
            return 0
        start, end = pending[0].start, pending[0].stop
        last = self._sendable_stop(stream, end, end)
        size, total = self._max_datagram_size, 0
        if last - start <= 2 * size:
            return 0
        pacer = self._pacer
        pace, bucket = pacer.packet_time or 0.0, pacer.bucket_time
        buffer, begin = sender._buffer, sender._buffer_start
        kind = _STREAM_TYPES[_LENGTH | _OFFSET] + encode_varint(stream_id)
        number = self._packet_number
        while last - start > room and total + size <= flight and (bucket > 0 or not pace):
            header = kind + encode_varint(start)
            stop = start + room - len(header) - 2
            header += (stop - start | 0x4000).to_bytes(2, "big")
            payloads.append(header + buffer[start - begin : stop - begin])
            sent[number] = SentPiece(number, now, size, stream, start, stop)  # type: ignore[assignment]
            start = stop
            number += 1
            total += size
            bucket -= pace
        if total:
            pacer.bucket_time = bucket
            self._take(sender, pending, start)
            run = SentPacket(self._packet_number, now)
            run.sent_bytes, run.in_flight, run.is_ack_eliciting = total, True, True
            self._register(run, now, total // size)
        return total

    def _register(self, packet: SentPacket, now: float, count: int) -> None:
        """Register a packet with recovery, or `count` that `packet` sums up, as aioquic does."""
        loss = self._loss
        self._packet_number += count
        if packet.is_ack_eliciting:
            self._data_space.ack_eliciting_in_flight += count
            loss._time_of_last_sent_ack_eliciting_packet = now
            if not self._ack_eliciting_sent_since_receipt:
                # RFC 9000 10.1
                self._close_at = now + (self._known_times or self._times())[1]
                self._ack_eliciting_sent_since_receipt = True
        if packet.in_flight:
            loss._cc.on_packet_sent(packet=packet)  # type: ignore[arg-type]

    def _times(self) -> tuple[float, float]:
        """aioquic's `get_probe_timeout()` and `_idle_timeout()`, for a connection on the fast path.

        `_known_times` caches them until the next round-trip time sample.
        """
        probe = self._loss.get_probe_timeout()
        idle = self._configuration.idle_timeout
        remote = self._remote_max_idle_timeout
        if remote is not None and remote < idle:
            idle = remote
        self._known_times = times = probe, idle if idle > 3 * probe else 3 * probe
        return times

    # -- frames -----------------------------------------------------------------------------------

    def _add_ack(
        self,
        packet: SentPacket,
        parts: list[bytes | bytearray],
        room: int,
        flight_room: int,
        now: float,
    ) -> int:
        """Add an ACK of all received packets; returns its size."""
        space = self._data_space
        space.ack_at = None
        delay = int((now - space.largest_received_time) * 1_000_000)  # type: ignore[operator]
        frame, count = encode_ack(
            space.ack_queue._RangeSet__ranges,  # type: ignore[attr-defined]
            delay >> self._local_ack_delay_exponent,
            room - 1 - COUNTS_MAX_BYTES,
        )
        if has_marks(self._data_marks):
            frame = _ACK_ECN + frame[1:] + encode_counts(self._data_marks)
        packet.acknowledged = space, space.largest_received_packet
        if flight_room > len(frame) and (
            (count > 1 and packet.packet_number % ACK_OF_ACK_PERIOD == 0) or is_answer_due(space)
        ):
            frame += _PING_FRAME
            packet.handlers.append((self._on_ping_delivery, ((),)))
            packet.is_ack_eliciting = packet.in_flight = True
        parts.append(frame)
        return len(frame)

    def _add_limits(
        self, packet: SentPacket, parts: list[bytes | bytearray], room: int, limits: list[Limit]
    ) -> int:
        """Add MAX_DATA, MAX_STREAMS and MAX_STREAM_DATA; returns the room that is left."""
        frames = []
        while limits and room >= _LIMIT_FRAME_BYTES:
            limit = limits.pop(0)
            limit.sent = limit.value
            packet.handlers.append((self._on_connection_limit_delivery, (limit,)))
            frames.append(encode_varint(limit.frame_type) + encode_varint(limit.value))
            room -= len(frames[-1])
        while self._limits_due and room >= _STREAM_LIMIT_FRAME_BYTES:
            stream_id, stream = self._limits_due.popitem()
            if not self._is_stream_limit_due(stream):
                continue
            maximum = stream.max_stream_data_local
            stream.max_stream_data_local_sent = maximum
            packet.handlers.append((self._on_max_stream_data_delivery, (stream,)))
            frames.append(_MAX_STREAM_DATA + encode_varint(stream_id) + encode_varint(maximum))
            room -= len(frames[-1])
        if frames:
            parts.extend(frames)
            packet.in_flight = packet.is_ack_eliciting = True
        return room

    def _add_stream_data(
        self, packet: SentPacket, parts: list[bytes | bytearray], room: int
    ) -> None:
        """Add STREAM frames of the streams that are due, in turn, while there is room."""
        due = self._due
        while due:
            stream_id, stream = due.popitem(False)
            sender = stream.sender
            pending = sender._pending._RangeSet__ranges  # type: ignore[attr-defined]
            if sender.buffer_is_empty or not (pending or sender._pending_eof):
                sender.buffer_is_empty = True
                continue
            start = pending[0].start if pending else sender._buffer_stop
            # Type, length in two bytes as aioquic, stream, offset.
            header = encode_varint(stream_id)
            kind = _LENGTH
            if start:
                header += encode_varint(start)
                kind = _LENGTH | _OFFSET
            fixed = 3 + len(header)
            if room < fixed + (1 if pending else 0):
                due[stream_id] = stream
                due.move_to_end(stream_id, last=False)
                return
            stop = start
            if pending:
                stop = self._sendable_stop(stream, pending[0].stop, start + room - fixed)
                if stop <= start:
                    self._parked[stream_id] = stream
                    continue
            fin = sender._buffer_fin == stop
            if fin:
                kind |= _FIN
                sender._pending_eof = False
            size = stop - start
            parts += _STREAM_TYPES[kind], header, (size | 0x4000).to_bytes(2, "big")
            if size:
                begin = sender._buffer_start
                parts.append(sender._buffer[start - begin : stop - begin])
                self._take(sender, pending, stop)
            packet.pieces.append((stream, start, stop, fin))
            packet.in_flight = packet.is_ack_eliciting = True
            room -= fixed + size
            if not (pending or sender._pending_eof):
                sender.buffer_is_empty = True
                continue
            due[stream_id] = stream
            if room < _LEAST_STREAM_FRAME_BYTES:
                return

    def _sendable_stop(self, stream: QuicStream, pending: int, room: int) -> int:
        """The offset up to which data may be sent, limited by data, room and the peer's credit."""
        credit = stream.sender.highest_offset + self._remote_max_data - self._remote_max_data_used
        most = stream.max_stream_data_remote
        # `min` of all four takes twice the time.
        if credit < most:
            most = credit
        if room < most:
            most = room
        return most if most < pending else pending

    def _take(self, sender: QuicStreamSender, pending: list[range], stop: int) -> None:
        """Record that the data up to `stop` is sent and no longer pending."""
        if stop == pending[0].stop:
            del pending[0]
        else:
            pending[0] = range(stop, pending[0].stop)
        if stop > sender.highest_offset:
            self._remote_max_data_used += stop - sender.highest_offset
            sender.highest_offset = stop

    def _on_ack_delivery(
        self, delivery: QuicDeliveryState, space: QuicPacketSpace, highest_acked: int
    ) -> None:
        if delivery is QuicDeliveryState.ACKED:
            forget_acknowledged(space, highest_acked)


def encode_ack(ranges: list[range], delay: int, room: int) -> tuple[bytes, int]:
    """An ACK frame (RFC 9000 19.3), and how many of the ranges, the newest, it contains.

    `ranges` are in ascending order; `room` is how many bytes the frame may have after its type.
    """
    newest = ranges[-1]
    largest, start = newest.stop - 1, newest.start
    known = count = len(ranges)
    if 2 * (known + 1) * _VARINT_MAX_BYTES > room:
        # As aioquic: no field is larger than these two.
        count = min(known, room // (2 * varint_size(max(largest, delay))) - 1)
    parts = [
        _ACK,
        encode_varint(largest),
        encode_varint(delay),
        encode_varint(count - 1),
        encode_varint(largest - start),
    ]
    if count > 1:
        for older in ranges[known - 2 : known - 1 - count if count < known else None : -1]:
            parts.append(encode_varint(start - older.stop - 1))
            parts.append(encode_varint(older.stop - older.start - 1))
            start = older.start
    return b"".join(parts), count
