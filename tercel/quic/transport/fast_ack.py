"""Handles acknowledgements (RFC 9002), and the timers that wait for one, on the fast path.

Uses private names of aioquic, each with a canary in tests/quic/transport. Loss
detection and congestion control are aioquic's.
"""

from contextlib import suppress
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicReceiveContext
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from tercel.quic.transport.ecn import Counts, EcnState
from tercel.quic.transport.fast_send import FastSender
from tercel.quic.transport.sent_packets import SentPacket, SentPiece, forget_acknowledged
from tercel.quic.transport.varint import decode_varint

_ACK_ECN = 0x03
# Finding a member of an enumeration by its class costs 0.1 us.
_ACKED = QuicDeliveryState.ACKED
_FAILED = EcnState.FAILED

_LEAST_RTT = 0.001
# RFC 9000 16: from this on an integer takes more.
_ONE_BYTE = 0x40

UNCOMMON = 0
"""Returned instead of a position if the frame is not for the fast path; no state has changed."""


class FastAcknowledger(FastSender):
    """Handles the acknowledgements of the packets that it sent."""

    # -- acknowledgements -------------------------------------------------------------------------

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        # That of a packet that is not for the fast path, as in a handshake.
        begin, end, epoch = buf.tell() - 1, UNCOMMON, context.epoch
        if (
            self._fast_path
            and self._quic_logger is None
            and self._acknowledged_in is not context  # else the guard counts
        ):
            plain = buf.data_slice(begin, buf.capacity)
            with suppress(IndexError):  # cut off: the guard says so
                end = self._take_ack(plain, 0, context.time, epoch, self._spaces[epoch])
        if end == UNCOMMON:
            super()._handle_ack_frame(context, frame_type, buf)
            return
        self._acknowledged_in = context
        buf.seek(begin + end)

    def _take_ack(
        self, plain: bytes, position: int, now: float, epoch: Epoch, space: QuicPacketSpace
    ) -> int:
        """Apply an ACK frame (RFC 9000 19.3) of packets in `space`; returns where it ends."""
        largest, end = decode_varint(plain, position + 1)
        delay, end = decode_varint(plain, end)
        count, length = plain[end], plain[end + 1]
        if count or length >= _ONE_BYTE:
            count, end = decode_varint(plain, end)
            length, end = decode_varint(plain, end)
        else:
            end += 2  # one range, of few packets: nearly all are
        start = largest - length
        ranges = [range(start, largest + 1)]
        if count:
            for _ in range(count):
                gap, end = decode_varint(plain, end)
                length, end = decode_varint(plain, end)
                stop = start - gap - 1
                start = stop - length - 1
                ranges.append(range(start, stop))
            ranges.reverse()
        counts = None
        if plain[position] == _ACK_ECN:
            ect_0, end = decode_varint(plain, end)
            ect_1, end = decode_varint(plain, end)
            ce, end = decode_varint(plain, end)
            counts = ect_0, ect_1, ce
        if start < 0:
            return UNCOMMON
        skipped = self._skipped
        if largest >= self._packet_number or (skipped and skipped[-1] >= start):
            self.check_acknowledged(ranges, plain[position])
        seconds = (delay << self._remote_ack_delay_exponent) / 1_000_000
        if self._acknowledge(epoch, space, ranges, seconds, counts, now):
            self._idle = False
        return end

    def _acknowledge(
        self,
        epoch: Epoch,
        space: QuicPacketSpace,
        ranges: list[range],
        delay: float,
        counts: Counts | None,
        now: float,
    ) -> bool:
        """Process an ACK as aioquic's recovery (RFC 9002 A.7); whether it had anything new."""
        loss = self._loss
        sent: dict[int, Any] = space.sent_packets
        largest = ranges[-1].stop - 1
        numbers = _still_in_flight(ranges, sent)
        if largest > space.largest_acked_packet:
            space.largest_acked_packet = largest
            if numbers and self.ecn.state is not _FAILED:
                marked = self.ecn.count_marked(numbers)
                sent_time = sent[numbers[-1]].sent_time
                self.take_counts(epoch, marked, len(numbers) - marked, counts, sent_time, now)
        newest = None
        acknowledged = loss._cc.on_packet_acked
        eliciting = 0
        stream, start, stop = None, 0, 0
        for number in numbers:
            newest = sent.pop(number)
            if newest.is_ack_eliciting:
                eliciting += 1
            if newest.in_flight:
                acknowledged(packet=newest, now=now)
            if type(newest) is not SentPiece:
                self._delivered(newest)
            elif newest.start == stop and newest.stream is stream:
                stop = newest.stop
            else:
                # What follows one another is told of at once: of a long response, mostly all that
                # an ACK is about.
                if stream is not None:
                    self._piece_delivered(stream, start, stop, False)
                stream, start, stop = newest.stream, newest.start, newest.stop
        if stream is not None:
            self._piece_delivered(stream, start, stop, False)
        space.ack_eliciting_in_flight -= eliciting
        if newest is None:
            return False
        if newest.packet_number == largest and eliciting:
            self._measure(now - newest.sent_time, delay, now)
        if not sent or next(iter(sent)) > space.largest_acked_packet:
            space.loss_time = None
        else:
            in_flight = len(sent)
            loss._detect_loss(now=now, space=space)
            if len(sent) != in_flight:
                self._surveyed = False
        loss._pto_count = 0
        return True

    def _delivered(self, packet: Any) -> None:
        """Report the delivery of `packet` to the senders of its content."""
        if type(packet) is not SentPacket:
            self._surveyed = False
            self.kept_bytes.certain = False
            for handler, arguments in packet.delivery_handlers:
                handler(_ACKED, *arguments)
            return
        if packet.acknowledged is not None:
            space, largest = packet.acknowledged
            forget_acknowledged(space, largest)
        for handler, arguments in packet.handlers:
            handler(_ACKED, *arguments)
        for stream, start, stop, fin in packet.pieces:
            self._piece_delivered(stream, start, stop, fin)

    def _piece_delivered(self, stream: QuicStream, start: int, stop: int, fin: bool) -> None:
        sender = stream.sender
        if (
            start == sender._buffer_start
            and not sender._acked._RangeSet__ranges  # type: ignore[attr-defined]
            and sender._reset_error_code is None
        ):
            # As on_data_delivery, where nothing is missing before it: a third of the time.
            del sender._buffer[: stop - start]
            sender._buffer_start = stop
            self.kept_bytes.release(stop - start)
            sender._acked_fin = sender._acked_fin or fin
            if sender._acked_fin and stop == sender._buffer_fin:
                sender.is_finished = True
        else:
            begin = sender._buffer_start
            sender.on_data_delivery(_ACKED, start, stop, fin)
            self.kept_bytes.release(sender._buffer_start - begin)
        if sender.is_finished and stream.receiver.is_finished:
            self._ended.append(stream)

    def _measure(self, rtt: float, delay: float, now: float) -> None:
        """Add a round-trip time sample, as aioquic does (RFC 9002 5)."""
        loss, control = self._loss, self._loss._cc
        latest = rtt if rtt > _LEAST_RTT else _LEAST_RTT
        least = loss._rtt_min
        if latest < least:
            loss._rtt_min = least = latest
        if delay > loss.max_ack_delay:
            delay = loss.max_ack_delay
        if latest > least + delay:
            latest -= delay
        loss._rtt_latest = latest
        self._known_times = None
        if loss._rtt_initialized:
            deviation = abs(least - latest)
            loss._rtt_variance = 3 / 4 * loss._rtt_variance + 1 / 4 * deviation
            loss._rtt_smoothed = 7 / 8 * loss._rtt_smoothed + 1 / 8 * latest
        else:
            loss._rtt_first_sample_time = now
            loss._rtt_initialized = True
            loss._rtt_variance = rtt / 2
            loss._rtt_smoothed = rtt
        control.on_rtt_measurement(now=now, rtt=rtt)
        self._pacer.update_rate(control.congestion_window, loss._rtt_smoothed)

    # -- timers -----------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """The time to call `handle_timer` at; None for no timer."""
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
            timeout = (self._known_times or self._times())[0] * (1 << loss._pto_count)
            self._loss_at = loss._time_of_last_sent_ack_eliciting_packet + timeout
        else:
            self._loss_at = None
        if self._loss_at is not None and self._loss_at < timer:
            timer = self._loss_at
        if self._pacing_at is not None and self._pacing_at < timer:
            timer = self._pacing_at
        return timer

    def is_loss_timer(self, at: float) -> bool:
        """Whether `at`, as `get_timer` last returned it, is for a late acknowledgement."""
        return self._loss_at == at


def _still_in_flight(ranges: list[range], sent: dict[int, Any]) -> list[int]:
    """The numbers in `ranges` that are keys of `sent`, both in ascending order."""
    if not sent:
        return []
    oldest = next(iter(sent))
    if len(sent) == 1:
        # A client that asks for one thing after another.
        for part in ranges:
            if oldest in part:
                return [oldest]
        return []
    numbers: list[int] = []
    for part in ranges:
        start = max(part.start, oldest)
        if part.stop - start > 2 * len(sent):
            # Clients may acknowledge any number of packets that were never sent.
            numbers.extend(number for number in sent if start <= number < part.stop)
        else:
            numbers.extend(number for number in range(start, part.stop) if number in sent)
    return numbers
