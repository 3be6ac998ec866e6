"""The warm path in: the common packets of a connection, opened and applied without objects between.

Beside `tercel.quic.connection`, `guard` and `warm_send` the only file that touches names of aioquic
that start with an underscore; each use has a canary in tests/quic/test_warm.py.

A packet with a short header, under the keys in use, on the path in use, is opened here, and its
ACK, STREAM, PADDING, PING, MAX_DATA and MAX_STREAM_DATA frames are applied. A packet that is
uncommon in itself goes to aioquic before anything has changed; from the first uncommon frame on,
aioquic's own handlers take the rest of a packet. What `guard` holds against a peer is held here,
too.
"""

from typing import Any

from aioquic.quic.connection import (
    END_STATES,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import FinalSizeError, QuicStream, QuicStreamReceiver, QuicStreamSender
from aioquic.tls import Epoch
from cryptography.exceptions import InvalidTag

from tercel.quic.budget import Flood
from tercel.quic.ecn import Counts, EcnState, Mark
from tercel.quic.errors import H3ConnectionError
from tercel.quic.receiver import Receiver
from tercel.quic.varint import decode_varint
from tercel.quic.warm_send import SentPacket, WarmSender

_TAG_BYTES = 16
_SAMPLE_BYTES = 16
_NUMBER_MAX_BYTES = 4
_FORM_AND_FIXED_BITS = 0xC0
_FIXED_BIT = 0x40
_SPIN_BIT = 0x20
_RESERVED_BITS = 0x18
_KEY_PHASE_BIT = 0x04

# Frame types (RFC 9000 19).
_PADDING, _PING, _ACK, _ACK_ECN, _MAX_DATA, _MAX_STREAM_DATA = 0x00, 0x01, 0x02, 0x03, 0x10, 0x11
_STREAM, _STREAM_LAST = 0x08, 0x0F
_FIN, _LENGTH, _OFFSET = 0x01, 0x02, 0x04

_LEAST_RTT = 0.001
_CHACHA20_ZEROS = bytes(5)

# A limit that is raised by less is the guard's business.
_LEAST_RAISE_BYTES = 256

_new = object.__new__

_UNCOMMON = 0
"""Returned instead of a position: the frame is not for the warm path, and nothing has changed."""


class WarmConnection(WarmSender):
    """Receives what is common by itself, and leaves the rest to its base classes."""

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Take one datagram from `addr`."""
        if self._armed and self._receive(data, addr, now):
            return
        self._surveyed = False
        super().receive_datagram(data, addr, now)
        if not self._armed:
            self._arm()

    def _receive(self, data: bytes, addr: Any, now: float) -> bool:
        """Take a datagram if it holds one common packet; if not, nothing has changed."""
        path = self._network_paths[0]
        if (
            self._state is not QuicConnectionState.CONNECTED
            or self._close_pending
            or not path.is_validated
            or path.addr != addr
        ):
            return False
        space = self._data_space
        opened = self._open(data)
        if opened is None:
            return False
        first, number, plain = opened
        if not plain or number in space.received_packets:
            return False
        self.budgets.passes(now)
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & _SPIN_BIT)
            self._spin_highest_pn = number
        try:
            is_ack_eliciting = self._take_payload(plain, path, now)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            return True
        if self._state in END_STATES or self._close_pending:
            return True
        self._close_at = now + self._idle_time()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        _add_number(space.ack_queue, number)
        space.received_packets.add(number)
        mark = self.arriving_mark
        if mark:
            self._data_marks[mark] += 1
        if is_ack_eliciting:
            if mark == Mark.CE:
                space.ack_at = now  # RFC 9000 13.2.1
            elif space.ack_at is None:
                space.ack_at = now + self._ack_delay
        return True

    def _open(self, data: bytes) -> tuple[int, int, bytes] | None:
        """The first byte, packet number and payload of a short-header packet (RFC 9001 5.3, 5.4).

        None for every other packet, and for one that cannot be opened with the keys in use.
        """
        cid = self.host_cid
        begin = 1 + len(cid)
        sample = begin + _NUMBER_MAX_BYTES
        if (
            len(data) < sample + _SAMPLE_BYTES
            or data[0] & _FORM_AND_FIXED_BITS != _FIXED_BIT
            or data[1:begin] != cid
        ):
            return None
        keys = self._data_keys.recv
        mask = _mask(keys.hp, data[sample : sample + _SAMPLE_BYTES])
        first = data[0] ^ mask[0] & 0x1F
        if first & _RESERVED_BITS or first & _KEY_PHASE_BIT != keys.key_phase << 2:
            return None
        end = begin + 1 + (first & 0x03)
        size = end - begin
        truncated = int.from_bytes(data[begin:end], "big") ^ int.from_bytes(
            mask[1 : 1 + size], "big"
        )
        number = _whole_number(truncated, 8 * size, self._data_space.expected_packet_number)
        header = bytes((first,)) + cid + truncated.to_bytes(size, "big")
        aead: Any = keys.aead
        try:
            plain = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), data[end:], header)
        except InvalidTag:
            return None
        return first, number, plain

    # -- frames -----------------------------------------------------------------------------------

    def _take_payload(self, plain: bytes, path: QuicNetworkPath, now: float) -> bool:
        """Apply the frames of a packet; whether it asks for an acknowledgement.

        Raises QuicConnectionError.
        """
        self._idle = True
        try:
            is_ack_eliciting = self._take_frames(plain, path, now)
            if self._idle:
                self.budgets.spend(Flood.IDLE_PACKETS)
        except H3ConnectionError as error:
            self.exceeded = str(error)
            raise QuicConnectionError(error.code, None, str(error)) from error  # type: ignore[arg-type]
        return is_ack_eliciting

    def _take_frames(self, plain: bytes, path: QuicNetworkPath, now: float) -> bool:
        position, end = 0, len(plain)
        is_ack_eliciting = has_ack = False
        while position < end:
            kind = plain[position]
            taken = _UNCOMMON
            try:
                if _STREAM <= kind <= _STREAM_LAST:
                    taken = self._take_stream(plain, position)
                elif _ACK <= kind <= _ACK_ECN and not has_ack and self.ecn.is_settled:
                    taken = self._take_ack(plain, position, now)
                    has_ack = taken != _UNCOMMON
                elif kind == _PADDING:
                    taken = end - len(plain[position:].lstrip(b"\0"))
                elif kind == _MAX_DATA:
                    taken = self._take_max_data(plain, position)
                elif kind == _MAX_STREAM_DATA:
                    taken = self._take_max_stream_data(plain, position)
            except IndexError:
                pass  # cut off: aioquic says so
            if taken == _UNCOMMON:
                rest = self._take_uncommon(plain[position:], path, now, has_ack=has_ack)
                return rest or is_ack_eliciting
            is_ack_eliciting = is_ack_eliciting or kind > _ACK_ECN
            position = taken
        return is_ack_eliciting

    def _take_uncommon(
        self, rest: bytes, path: QuicNetworkPath, now: float, *, has_ack: bool
    ) -> bool:
        """Let aioquic, and the guard, apply the rest of a packet, which may have begun with ACK."""
        self._surveyed = False
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=self.host_cid,
            network_path=path,
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        if has_ack:
            self._acknowledged_in = context
        # Not the guard's, which asks whether a whole packet was of any use; so does _take_payload.
        return QuicConnection._payload_received(self, context, rest)[0]

    def _take_stream(self, plain: bytes, position: int) -> int:
        """Apply a STREAM frame (RFC 9000 19.8); returns where it ends."""
        kind = plain[position]
        stream_id, begin = decode_varint(plain, position + 1)
        offset = 0
        if kind & _OFFSET:
            offset, begin = decode_varint(plain, begin)
        end = len(plain)
        if kind & _LENGTH:
            length, begin = decode_varint(plain, begin)
            end = begin + length
            if end > len(plain):
                return _UNCOMMON
        stop = offset + end - begin
        stream = self._streams.get(stream_id)
        if stream is None:
            limit = self._local_max_streams_bidi
            if stream_id == 4 * limit.used and limit.used < limit.value:
                stream = self._next_request()
            elif stream_id & 1 or self._stream_is_discarded(stream_id):
                return _UNCOMMON
            else:
                stream = self._get_or_create_stream(kind, stream_id)
        elif stream_id & 3 == 3:
            return _UNCOMMON
        elif type(stream.receiver) is QuicStreamReceiver:
            stream = self._get_or_create_stream(kind, stream_id)  # the guard's has to replace it
        receiver, limit = stream.receiver, self._local_max_data
        newly_received = max(0, stop - receiver.highest_offset)
        if (
            stop > stream.max_stream_data_local
            or limit.used + newly_received > limit.value
            or receiver.is_finished
        ):
            return _UNCOMMON
        data, fin = plain[begin:end], bool(kind & _FIN)
        if (
            newly_received
            and offset == receiver._buffer_start
            and not receiver._buffer
            and receiver._final_size is None
        ):
            receiver._buffer_start = receiver.highest_offset = stop
            if fin:
                receiver._final_size = stop
                receiver.is_finished = True
            event: StreamDataReceived | None = StreamDataReceived(data, fin, stream_id)
        else:
            filled = self.budgets.filled
            try:
                event = receiver.handle_frame(QuicStreamFrame(data=data, fin=fin, offset=offset))
            except FinalSizeError:
                return _UNCOMMON
            if event is None and filled == self.budgets.filled:
                self.budgets.spend(Flood.REPETITIONS)
                limit.used += newly_received
                return end
        limit.used += newly_received
        if event is not None:
            self._events.append(event)
        self._idle = False
        if receiver.is_finished and stream.sender.is_finished:
            self._ended.append(stream)
        return end

    def _next_request(self) -> QuicStream:
        """The stream that a client opens next, as aioquic and the guard make it."""
        # By way of theirs it is 5 us of the 40 that a small request costs, by this one 3.
        limit = self._local_max_streams_bidi
        stream_id = 4 * limit.used
        limit.used += 1
        stream = _new(QuicStream)
        stream.is_blocked = False
        stream.max_stream_data_local = self._local_max_stream_data_bidi_remote
        stream.max_stream_data_local_sent = stream.max_stream_data_local
        stream.max_stream_data_remote = self._remote_max_stream_data_bidi_local
        stream.receiver = Receiver(stream_id, self.budgets)
        stream.sender = QuicStreamSender(stream_id, True)
        stream.stream_id = stream_id
        self._streams[stream_id] = stream
        self._streams_queue.append(stream)
        return stream

    def _take_max_data(self, plain: bytes, position: int) -> int:
        """Apply MAX_DATA (RFC 9000 19.9); returns where it ends."""
        limit, end = decode_varint(plain, position + 1)
        if limit < self._remote_max_data + _LEAST_RAISE_BYTES:
            return _UNCOMMON
        self._remote_max_data = limit
        self._due.update(self._parked)
        self._parked.clear()
        return end

    def _take_max_stream_data(self, plain: bytes, position: int) -> int:
        """Apply MAX_STREAM_DATA (RFC 9000 19.10); returns where it ends."""
        stream_id, end = decode_varint(plain, position + 1)
        limit, end = decode_varint(plain, end)
        stream = self._streams.get(stream_id)
        if (
            stream is None
            or stream_id & 3 == 2
            or limit < stream.max_stream_data_remote + _LEAST_RAISE_BYTES
        ):
            return _UNCOMMON
        stream.max_stream_data_remote = limit
        if stream_id in self._parked:
            self._due[stream_id] = self._parked.pop(stream_id)
        return end

    # -- acknowledgements -------------------------------------------------------------------------

    def _take_ack(self, plain: bytes, position: int, now: float) -> int:
        """Apply an ACK frame (RFC 9000 19.3); returns where it ends."""
        largest, end = decode_varint(plain, position + 1)
        delay, end = decode_varint(plain, end)
        count, end = decode_varint(plain, end)
        length, end = decode_varint(plain, end)
        start = largest - length
        ranges = [range(start, largest + 1)]
        for _ in range(count):
            gap, end = decode_varint(plain, end)
            length, end = decode_varint(plain, end)
            stop = start - gap - 1
            start = stop - length - 1
            ranges.append(range(start, stop))
        counts = None
        if plain[position] == _ACK_ECN:
            ect_0, end = decode_varint(plain, end)
            ect_1, end = decode_varint(plain, end)
            ce, end = decode_varint(plain, end)
            counts = ect_0, ect_1, ce
        if start < 0:
            return _UNCOMMON
        ranges.reverse()
        skipped = self._skipped
        if largest >= self._packet_number or (skipped and skipped[-1] >= start):
            self.check_acknowledged(ranges)
        seconds = (delay << self._remote_ack_delay_exponent) / 1_000_000
        if self._acknowledge(ranges, seconds, counts, now):
            self._idle = False
        return end

    def _acknowledge(
        self, ranges: list[range], delay: float, counts: Counts | None, now: float
    ) -> bool:
        """As aioquic's recovery on an ACK (RFC 9002 A.7); whether it was of anything new."""
        space, loss = self._data_space, self._loss
        sent = space.sent_packets
        largest = ranges[-1].stop - 1
        numbers = _still_in_flight(ranges, sent)
        if largest > space.largest_acked_packet:
            space.largest_acked_packet = largest
            if numbers and self.ecn.state is EcnState.CAPABLE:
                marked = self.ecn.count_marked(numbers)
                sent_time = sent[numbers[-1]].sent_time
                self.take_counts(
                    Epoch.ONE_RTT, marked, len(numbers) - marked, counts, sent_time, now
                )
        newest = None
        is_ack_eliciting = False
        for number in numbers:
            newest = sent.pop(number)
            if newest.is_ack_eliciting:
                is_ack_eliciting = True
                space.ack_eliciting_in_flight -= 1
            if newest.in_flight:
                loss._cc.on_packet_acked(packet=newest, now=now)
            self._delivered(newest)
        if newest is None:
            return False
        if newest.packet_number == largest and is_ack_eliciting:
            self._measure(now - newest.sent_time, delay, now)  # type: ignore[operator]
        oldest = next(iter(sent), None)
        if oldest is None or oldest > space.largest_acked_packet:
            space.loss_time = None
        else:
            in_flight = len(sent)
            loss._detect_loss(now=now, space=space)
            if len(sent) != in_flight:
                self._surveyed = False
        loss._pto_count = 0
        return True

    def _delivered(self, packet: Any) -> None:
        """Tell of the delivery of `packet` those who sent something in it."""
        if type(packet) is not SentPacket:
            self._surveyed = False
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.ACKED, *arguments)
            return
        for handler, arguments in packet.handlers:
            handler(QuicDeliveryState.ACKED, *arguments)
        for stream, start, stop, fin in packet.pieces:
            sender = stream.sender
            sender.on_data_delivery(QuicDeliveryState.ACKED, start, stop, fin)
            if sender.is_finished and stream.receiver.is_finished:
                self._ended.append(stream)

    def _measure(self, rtt: float, delay: float, now: float) -> None:
        """A new sample of the round-trip time, as aioquic takes it (RFC 9002 5)."""
        loss = self._loss
        latest = max(rtt, _LEAST_RTT)
        loss._rtt_min = min(loss._rtt_min, latest)
        delay = min(delay, loss.max_ack_delay)
        if latest > loss._rtt_min + delay:
            latest -= delay
        loss._rtt_latest = latest
        if loss._rtt_initialized:
            deviation = abs(loss._rtt_min - latest)
            loss._rtt_variance = 3 / 4 * loss._rtt_variance + 1 / 4 * deviation
            loss._rtt_smoothed = 7 / 8 * loss._rtt_smoothed + 1 / 8 * latest
        else:
            loss._rtt_first_sample_time = now
            loss._rtt_initialized = True
            loss._rtt_variance = rtt / 2
            loss._rtt_smoothed = rtt
        loss._cc.on_rtt_measurement(now=now, rtt=rtt)
        loss._pacer.update_rate(
            congestion_window=loss._cc.congestion_window, smoothed_rtt=loss._rtt_smoothed
        )

    # -- timers -----------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called; None for never."""
        if not self._surveyed:
            return super().get_timer()
        # As aioquic's, for a connection whose handshake is over, on a validated path.
        space, loss = self._data_space, self._loss
        timer: float = self._close_at  # type: ignore[assignment]  # set with the first datagram
        if space.ack_at is not None and space.ack_at < timer:
            timer = space.ack_at
        if space.loss_time is not None:
            self._loss_at = space.loss_time
        elif space.ack_eliciting_in_flight:
            timeout = loss.get_probe_timeout() * (1 << loss._pto_count)
            self._loss_at = loss._time_of_last_sent_ack_eliciting_packet + timeout
        else:
            self._loss_at = None
        if self._loss_at is not None and self._loss_at < timer:
            timer = self._loss_at
        if self._pacing_at is not None and self._pacing_at < timer:
            timer = self._pacing_at
        return timer


def _whole_number(truncated: int, bits: int, expected: int) -> int:
    """The packet number that `truncated` are the low bits of (RFC 9000 A.3)."""
    window = 1 << bits
    candidate = expected & -window | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def _still_in_flight(ranges: list[range], sent: dict[int, Any]) -> list[int]:
    """The numbers in `ranges` that are keys of `sent`, both in ascending order."""
    if not sent:
        return []
    oldest = next(iter(sent))
    numbers: list[int] = []
    for part in ranges:
        start = max(part.start, oldest)
        if part.stop - start > 2 * len(sent):
            # Clients may acknowledge any number of packets that were never sent.
            numbers.extend(number for number in sent if start <= number < part.stop)
        else:
            numbers.extend(number for number in range(start, part.stop) if number in sent)
    return numbers


def _add_number(received: RangeSet, number: int) -> None:
    """Add a packet number to those to be acknowledged."""
    parts = received._RangeSet__ranges  # type: ignore[attr-defined]
    if parts and parts[-1].stop == number:
        parts[-1] = range(parts[-1].start, number + 1)
        return
    received.add(number)
    if len(received) > MAX_ACK_RANGES:
        # As aioquic: the oldest ones would be taken for duplicates from now on.
        received.shift()


def _mask(protection: Any, sample: bytes) -> bytes:
    """The header protection mask for `sample` (RFC 9001 5.4.3, 5.4.4)."""
    encryptor = protection._encryptor
    if protection._is_chacha20:
        encryptor.reset_nonce(sample)
        return bytes(encryptor.update(_CHACHA20_ZEROS))
    return bytes(encryptor.update(sample))
