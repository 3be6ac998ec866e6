"""Explicit Congestion Notification (RFC 9000 13.4): counts, reports, sends and validates marks.

`EcnValidator` decides without aioquic's help whether a path carries marks. `EcnConnection` adds
what aioquic lacks: it counts the marks of received packets, reports them in ACK_ECN frames, and
treats CE as congestion. Uses private names of aioquic.
"""

from bisect import bisect_left, bisect_right
from enum import Enum, IntEnum, auto
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicReceiveContext
from aioquic.quic.packet import QuicFrameType, QuicPacketType, push_ack_frame
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import Epoch

from tercel.quic.transport.handshake_send import HandshakeSender
from tercel.quic.transport.unacknowledged import is_answer_due
from tercel.quic.transport.varint import encode_varint

_VARINT_MAX_BYTES = 8
COUNTS_MAX_BYTES = 3 * _VARINT_MAX_BYTES
_ACK_FRAME_BYTES = 1 + 4 * _VARINT_MAX_BYTES
# Every so many packets one asks for an acknowledgement of what it acknowledges (as aioquic).
ACK_OF_ACK_PERIOD = 8

# RFC 9000 A.4: what is lost with its mark must not be everything.
_TESTED_PACKETS = 10
# Changes of the marking that are remembered; one or two for each network path.
_MOST_FLIPS = 16

# What a peer says to have received: ECT(0), ECT(1) and CE, in the order of the frame.
Counts = tuple[int, int, int]


class Mark(IntEnum):
    """The ECN field of the IP header (RFC 3168 5)."""

    NOT_ECT = 0
    ECT_1 = 1
    ECT_0 = 2
    CE = 3


class EcnState(Enum):
    """The state of ECN validation on a path."""

    TESTING = auto()
    """The first packets are marked."""
    UNKNOWN = auto()
    """Enough marked packets were sent; no more are marked until the peer has answered."""
    CAPABLE = auto()
    FAILED = auto()
    """Marks are lost on the path, or cannot be sent; nothing is marked."""


class EcnValidator:
    """Which packets to mark, and whether the peer's counts are valid (RFC 9000 13.4.2)."""

    def __init__(self) -> None:
        self.state = EcnState.TESTING
        self.is_settled = False
        """Whether all packets are marked from now on, or none."""
        self._left = _TESTED_PACKETS
        # Packet numbers from which on the packets are marked, not marked, marked, and so on.
        self._flips = [0]
        self._told: dict[Epoch, Counts] = {}

    @property
    def mark(self) -> Mark:
        """The mark of the packets that are sent next."""
        if self.state in (EcnState.TESTING, EcnState.CAPABLE):
            return Mark.ECT_0
        return Mark.NOT_ECT

    def restart(self, number: int) -> None:
        """Start to validate another path, with packet `number`."""
        self._become(EcnState.TESTING, number)
        self._left = _TESTED_PACKETS

    def stop(self, number: int) -> None:
        """Mark nothing from packet `number` on, and ignore all counts."""
        self._become(EcnState.FAILED, number)

    def sent(self, first: int, stop: int) -> None:
        """Packets `first` to `stop`, exclusive, were sent with `mark`."""
        if self.state is EcnState.TESTING:
            self._left -= stop - first
            if self._left <= 0:
                self._become(EcnState.UNKNOWN, stop)

    def count_marked(self, numbers: list[int]) -> int:
        """How many of these packets, in ascending order, were sent with a mark."""
        if numbers[0] >= self._flips[-1]:
            return len(numbers) if self.mark else 0
        return sum(bisect_right(self._flips, number) & 1 for number in numbers)

    def acknowledged(
        self, epoch: Epoch, marked: int, unmarked: int, counts: Counts | None, next_number: int
    ) -> bool:
        """Validate an ACK of this many newly acknowledged packets; True for congestion.

        `counts` are those of the frame, None without any; `next_number` is the next packet's. Not
        to be called for an ACK that does not raise the largest acknowledged packet number.
        """
        if self.state is EcnState.FAILED:
            return False
        before = self._told.get(epoch, (0, 0, 0))
        if counts is None:
            if marked or (unmarked and self.state is EcnState.UNKNOWN):
                self._become(EcnState.FAILED, next_number)
            return False
        self._told[epoch] = counts
        ect_0, ect_1, ce = (now - then for now, then in zip(counts, before, strict=True))
        if (
            min(ect_0, ect_1, ce) < 0
            or ect_1 > 0  # nothing is sent with it
            or ect_0 + ce < marked
            or counts[0] + counts[2] > next_number  # more than all that was sent
            or (unmarked and not marked and self.state is EcnState.UNKNOWN)
        ):
            self._become(EcnState.FAILED, next_number)
            return False
        if marked:
            self._become(EcnState.CAPABLE, next_number)
        return ce > 0

    def _become(self, state: EcnState, number: int) -> None:
        """Enter `state` from packet `number` on."""
        before, self.state = self.mark, state
        self.is_settled = state in (EcnState.CAPABLE, EcnState.FAILED)
        if self.mark is not before:
            self._flips.append(number)
            if len(self._flips) > _MOST_FLIPS:
                del self._flips[:2]


class EcnConnection(HandshakeSender):
    """A QUIC connection with ECN.

    Before each `receive_datagram`, `arriving_mark` is set to the ECN field of its packet; after
    each `datagrams_to_send`, `departing_mark` is the mark for the datagrams that it returned.
    """

    __slots__ = ("_marked_address", "_marks", "arriving_mark", "departing_mark", "ecn")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ecn = EcnValidator()
        self.arriving_mark = 0
        self.departing_mark = Mark.NOT_ECT
        # By epoch: how many packets came with each value of the ECN field.
        self._marks = {
            epoch: [0] * len(Mark) for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)
        }
        self._marked_address: Any = None

    # -- marks of the peer ------------------------------------------------------------------------

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        result = super()._payload_received(context, plain, crypto_frame_required)
        if self.arriving_mark:
            epoch = Epoch.ONE_RTT if context.epoch is Epoch.ZERO_RTT else context.epoch
            self._marks[epoch][self.arriving_mark] += 1
            if self.arriving_mark == Mark.CE and result[0]:
                # RFC 9000 13.2.1: congestion is told at once.
                self._spaces[epoch].ack_at = context.time
        return result

    def _write_ack_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float
    ) -> None:
        # aioquic asks by itself where there are gaps, but never a peer whose packets all arrive.
        asks = is_answer_due(space) and not (
            len(space.ack_queue) > 1 and builder.packet_number % ACK_OF_ACK_PERIOD == 0
        )
        marks = next(self._marks[epoch] for epoch, it in self._spaces.items() if it is space)
        if has_marks(marks):
            self._write_ack_ecn_frame(builder, space, now, marks)
        else:
            super()._write_ack_frame(builder, space, now)
        if asks:
            self._write_ping_frame(builder, comment="ACK-of-ACK trigger")

    def _write_ack_ecn_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float, marks: list[int]
    ) -> None:
        # As aioquic's, with three counts behind the ranges.
        ack_delay = now - space.largest_received_time  # type: ignore[operator]
        buf = builder.start_frame(
            QuicFrameType.ACK_ECN,
            capacity=_ACK_FRAME_BYTES + COUNTS_MAX_BYTES,
            handler=self._on_ack_delivery,
            handler_args=(space, space.largest_received_packet),
        )
        ranges = push_ack_frame(
            buf,
            space.ack_queue,
            int(ack_delay * 1_000_000) >> self._local_ack_delay_exponent,
            builder.remaining_buffer_space - COUNTS_MAX_BYTES,
        )
        buf.push_bytes(encode_counts(marks))
        space.ack_at = None
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            frame = self._quic_logger.encode_ack_frame(
                ranges=list(space.ack_queue)[-ranges:],
                delay=ack_delay,
            )
            counts = {"ect0": marks[Mark.ECT_0], "ect1": marks[Mark.ECT_1], "ce": marks[Mark.CE]}
            builder.quic_logger_frames.append(frame | counts)
        if ranges > 1 and builder.packet_number % ACK_OF_ACK_PERIOD == 0:
            self._write_ping_frame(builder, comment="ACK-of-ACK trigger")

    # -- marks of this side -----------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The datagrams to send, each with its address."""
        first = self._packet_number
        address = self._network_paths[0].addr if self._network_paths else None
        if address != self._marked_address:
            if self._marked_address is not None:
                self.ecn.restart(first)  # RFC 9000 13.4.2: another path may not carry marks
            self._marked_address = address
        self.departing_mark = self.ecn.mark
        datagrams = super().datagrams_to_send(now)
        self.ecn.sent(first, self._packet_number)
        return datagrams

    def stop_marking(self) -> None:
        """Send no more marks on this path: the kernel refused one, and none has been sent."""
        self.ecn.stop(self._packet_number)
        self.departing_mark = self.ecn.mark

    def judge_marks(
        self, epoch: Epoch, acknowledged: list[range], counts: Counts | None, now: float
    ) -> None:
        """Validate the counts of an ACK with ascending ranges.

        A subclass reads the frame, and calls this before recovery handles it.
        """
        space = self._spaces[epoch]
        if (
            self.ecn.state is EcnState.FAILED
            # RFC 9000 13.4.2.1: an older ACK that comes later proves nothing.
            or acknowledged[-1].stop - 1 <= space.largest_acked_packet
        ):
            return
        numbers = list(space.sent_packets)
        newly = [
            number
            for part in acknowledged
            for number in numbers[
                bisect_left(numbers, part.start) : bisect_left(numbers, part.stop)
            ]
        ]
        if newly:
            marked = self.ecn.count_marked(newly)
            sent_time = space.sent_packets[newly[-1]].sent_time
            self.take_counts(epoch, marked, len(newly) - marked, counts, sent_time, now)

    def take_counts(
        self,
        epoch: Epoch,
        marked: int,
        unmarked: int,
        counts: Counts | None,
        sent_time: float | None,
        now: float,
    ) -> None:
        """As EcnValidator.acknowledged; the newest of the packets was sent at `sent_time`."""
        if self.ecn.acknowledged(epoch, marked, unmarked, counts, self._packet_number):
            # RFC 9002 7.1, B.8: as a loss, but nothing was lost.
            self._loss._cc.on_packets_lost(
                now=now,
                packets=[
                    QuicSentPacket(
                        epoch=epoch,
                        in_flight=False,
                        is_ack_eliciting=False,
                        is_crypto_packet=False,
                        packet_number=self._packet_number,
                        packet_type=QuicPacketType.ONE_RTT,
                        sent_time=sent_time,
                        sent_bytes=0,
                    )
                ],
            )
        self.departing_mark = self.ecn.mark


def has_marks(marks: list[int]) -> bool:
    """Whether any packet was received with a mark."""
    _, ect_1, ect_0, ce = marks
    return bool(ect_1 or ect_0 or ce)


def encode_counts(marks: list[int]) -> bytes:
    """The end of an ACK_ECN frame (RFC 9000 19.3.2)."""
    return b"".join(encode_varint(marks[mark]) for mark in (Mark.ECT_0, Mark.ECT_1, Mark.CE))


def pull_counts(buf: Buffer) -> Counts:
    """Decode the result of `encode_counts`."""
    return buf.pull_uint_var(), buf.pull_uint_var(), buf.pull_uint_var()
