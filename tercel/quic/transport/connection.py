"""One QUIC connection of a server: aioquic's, with credit by consumption and send accounting.

Uses private names of aioquic, each with a canary in tests/quic/transport, which fails
loudly when aioquic changes.

aioquic doubles a flow-control window when half of it has been received. Here a window moves by the
bytes that were consumed, so a peer can never make the server hold more than the window's size.
"""

from typing import Any, NamedTuple

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    Limit,
    QuicConnectionState,
    QuicReceiveContext,
    stream_is_unidirectional,
)
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from tercel.quic.transport.errors import EXCESSIVE_LOAD, ApplicationCloseError
from tercel.quic.transport.path_mtu_probes import ProbingConnection
from tercel.quic.transport.unacknowledged import MAX_UNACKNOWLEDGED_PACKETS, forget_oldest
from tercel.shared.settings import Settings

_VARINT_MAX_BYTES = 8
_LIMIT_FRAME_BYTES = 1 + _VARINT_MAX_BYTES
_STREAM_LIMIT_FRAME_BYTES = 1 + 2 * _VARINT_MAX_BYTES

# What is left of a window at the least when all of them are narrow.
_LEAST_WINDOW_BYTES = 65_536
# Congestion windows that are kept beside what is unsent: one in flight, others behind a loss.
_KEPT_WINDOWS = 4

# Stream data that is joined with what came before it in the same batch.
_LEAST_JOINED_BYTES = 512

# Unidirectional streams a client may open: control, two for QPACK, and room for reserved ones.
_MAX_UNIDIRECTIONAL_STREAMS = 16


class RequestProgress(NamedTuple):
    """The state of a request stream."""

    stream_id: int
    sent: int
    """A number that grows whenever the peer accepts or acknowledges data of the stream."""
    undelivered: bool
    """Whether there is data that the peer has not acknowledged."""
    arrived: bool
    """Whether the request is complete."""


# Each waits twice as long as the one before: about 1.5 seconds in all on a fast network.
_UNANSWERED_PROBES = 5
# Probes that a peer may leave unanswered while it goes on sending: 8 seconds on a fast network, and
# more on others.
_SILENT_PROBES = 8


class QuicServerConnection(ProbingConnection):
    """What HTTP/3 needs of a QUIC connection beyond aioquic's public interface.

    Sans-I/O: datagrams in by `receive_datagram`, out by `datagrams_to_send`, time as a parameter.
    """

    __slots__ = (
        "_connection_step",
        "_connection_window",
        "_consumed",
        "_max_connection_window",
        "_max_unacknowledged",
        "_max_unsent",
        "_most_kept",
        "_stream_step",
        "_stream_window",
        "narrowing",
    )

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        settings: Settings,
        original_destination_connection_id: bytes,
        narrowing: int = 0,
        **options: Any,
    ) -> None:
        """Windows start as after `narrow_windows(narrowing)`; `options` are the base class's."""
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            fast_path=settings.quic_fast_path,
            max_datagram_bytes=settings.max_datagram_bytes,
            limits=_allowed(settings),
            **options,
        )
        self._stream_window = settings.stream_window_bytes
        self._stream_step = settings.stream_window_bytes // 4
        self._consumed = 0
        """Bytes of stream data that were consumed, for which credit was returned."""
        self._max_connection_window = settings.connection_window_bytes
        # RFC 9000 7.4.1: what a client remembers for 0-RTT is not to become less.
        self.narrow_windows(0 if settings.early_data else narrowing)
        self._local_max_data.value = self._local_max_data.sent = self._connection_window
        self._max_unacknowledged = settings.max_unacknowledged_bytes
        self._max_unsent = settings.max_unsent_bytes
        self._most_kept = 0
        """What may be kept of responses, once it was asked for since something was sent."""
        self._local_max_streams_bidi.value = settings.max_concurrent_streams
        self._local_max_streams_bidi.sent = settings.max_concurrent_streams
        self._local_max_streams_uni.value = _MAX_UNIDIRECTIONAL_STREAMS
        self._local_max_streams_uni.sent = _MAX_UNIDIRECTIONAL_STREAMS

    # -- receive credit ---------------------------------------------------------------------

    def grant(self, stream_id: int, size: int) -> None:
        """Raise the flow control limits by `size` bytes, which were consumed from this stream."""
        self._consumed += size
        # What was announced before windows became narrower cannot be taken back.
        most = self._consumed + self._connection_window
        if most > self._local_max_data.value:
            self._local_max_data.value = most
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.max_stream_data_local += size
            if not stream.receiver.is_finished and self._is_stream_limit_due(stream):
                self._limits_due[stream_id] = stream

    def may_open(self, stream_id: int) -> bool:
        """Whether the peer is allowed to open this request stream, or has opened it."""
        return not stream_id & 3 and stream_id >> 2 < self._local_max_streams_bidi.value

    def release(self, stream_id: int) -> None:
        """Return to the connection the credit that a reset stream used.

        A reset stream counts up to its final size (RFC 9000 4.5), including bytes that never
        arrived.
        """
        stream = self._streams.get(stream_id)
        if stream is not None:
            granted: int = stream.max_stream_data_local - self._stream_window
            unconsumed: int = stream.receiver.highest_offset - granted
            if unconsumed > 0:
                self.grant(stream_id, unconsumed)
                self.work.unconsumed += unconsumed

    def stop(self, stream_id: int, code: int) -> None:
        """Send STOP_SENDING for a stream (RFC 9000 3.5), unless all data has arrived."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, code)

    def narrow_windows(self, narrowing: int) -> None:
        """Shift windows and the limit on kept bytes right by this many bits; 0 is no change.

        A minimum remains, so that every exchange can make progress.
        """
        self.narrowing = narrowing
        most = self._max_connection_window
        self._connection_window = max(most >> narrowing, min(most, _LEAST_WINDOW_BYTES))
        self._connection_step = self._connection_window // 4

    # -- receiving --------------------------------------------------------------------------

    def has_events(self) -> bool:
        """Whether `next_event` would return one."""
        return bool(self._events)

    def next_event(self) -> QuicEvent | None:
        """The next event; None when there are no more.

        Data of one stream from several datagrams of a batch is combined into one event, which saves
        30 % of the cost of an upload. Data in small frames is not combined: the layer above counts
        them.
        """
        events = self._events
        if not events:
            return None
        event = events.popleft()
        if not events or type(event) is not StreamDataReceived:
            return event
        parts = [event.data]
        end = event.end_stream
        while events and not end:
            following = events[0]
            if (
                type(following) is not StreamDataReceived
                or following.stream_id != event.stream_id
                or len(following.data) < _LEAST_JOINED_BYTES
            ):
                break
            parts.append(events.popleft().data)  # type: ignore[attr-defined]
            end = following.end_stream
        if len(parts) == 1:
            return event
        return StreamDataReceived(b"".join(parts), end, event.stream_id)

    # -- sending ----------------------------------------------------------------------------

    def write(self, stream_id: int, data: bytes, end_stream: bool) -> bool:
        """Queue `data` on a request stream; False if `can_send` is False.

        One step instead of several saves 1 of the 40 us of a small request.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        sender = stream.sender
        if sender._reset_error_code is not None or sender._buffer_fin is not None:
            return False
        self.kept_bytes.size += len(data)
        self._queue(stream, data, end_stream)
        return True

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Queue `data` on a stream."""
        super().send_stream_data(stream_id, data, end_stream)
        self.kept_bytes.size += len(data)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The datagrams to send, each with its address."""
        self._most_kept = 0
        if self._handshake_complete and not self._surveyed:
            path = self._network_paths[0]
            if not (path.is_validated or path.local_challenge_sent):
                # RFC 9000 9.3: the challenge of a new path comes first. What fills the congestion
                # window went to where nobody may be any more, and a probe may exceed it.
                self._probe_pending = True
        # Not by `super()`, nor there: to look it up takes 0.5 % of a small request.
        datagrams = ProbingConnection.datagrams_to_send(self, now)
        for space in self._loss.spaces:
            if len(space.sent_packets) > MAX_UNACKNOWLEDGED_PACKETS and forget_oldest(space):
                self._give_up_silent_peer()
        return datagrams

    def _give_up_silent_peer(self) -> None:
        """Close if the peer keeps sending but acknowledges nothing at all."""
        if self._loss._pto_count >= _SILENT_PROBES:
            self.exceed(ApplicationCloseError(EXCESSIVE_LOAD, "too few acknowledgements"))

    def backlog(self, stream_id: int) -> int:
        """Bytes of this stream that wait to be sent for the first time.

        Bytes in flight count only beyond the limit on kept bytes: a client that acknowledges
        nothing must not make the server keep ever more of them.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        sender = stream.sender
        unsent: int = sender._buffer_stop - sender.highest_offset
        kept = sender._buffer_stop - sender._buffer_start
        # A fair share is everybody's; beyond it all streams together may keep one maximum.
        most = self._most_kept or self._find_most_kept()
        if kept > most // len(self._streams) and (kept > most or self.kept() > most):
            return max(unsent, self._max_unsent + 1)
        return unsent

    def kept(self) -> int:
        """Bytes of responses that the peer has not acknowledged, sent or not."""
        kept = self.kept_bytes
        if not kept.certain:
            senders = [stream.sender for stream in self._streams.values()]
            kept.recount(sum(sender._buffer_stop - sender._buffer_start for sender in senders))
        return kept.size

    def buffered(self) -> int:
        """Bytes of responses that are kept, and of requests that were received and not consumed.

        A gap in stream data counts as received, as it does for flow control.
        """
        kept = self.kept_bytes
        sent = kept.size if kept.certain else self.kept()
        return sent + self._local_max_data.used - self._consumed

    def moved(self) -> int:
        """A number that grows by the bytes that were acknowledged or consumed."""
        return self.kept_bytes.released + self._consumed

    def forget_streams(self) -> None:
        """Drop all stream data, when only CONNECTION_CLOSE is still to be sent."""
        self._streams.clear()
        self._streams_queue.clear()
        self._events.clear()
        for space in self._spaces.values():
            space.sent_packets.clear()  # which know their streams
        self.kept_bytes.recount(0)

    def _find_most_kept(self) -> int:
        """Limit on kept bytes of responses, for all streams together.

        Covers the data in flight, the data acknowledged behind a gap, and the data to be sent next.
        More has no benefit, and a client that has acknowledged little has a small congestion
        window.
        """
        most: int = self._max_unsent + _KEPT_WINDOWS * self._loss._cc.congestion_window
        most = min(most, self._max_unacknowledged)
        self._most_kept = max(most >> self.narrowing, min(most, _LEAST_WINDOW_BYTES))
        return self._most_kept

    def kept_of(self, stream_id: int) -> int:
        """Bytes of this stream that the peer has not acknowledged, sent or not."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def requests(self) -> list[RequestProgress]:
        """The state of each request stream."""
        return [
            RequestProgress(
                stream_id,
                sent=stream.sender.highest_offset + stream.sender._buffer_start,
                undelivered=stream.sender._buffer_stop > stream.sender._buffer_start
                or (stream.sender._buffer_fin is not None and not stream.sender.is_finished),
                arrived=stream.receiver.is_finished,
            )
            for stream_id, stream in self._streams.items()
            if not stream_is_unidirectional(stream_id) and stream.sender._reset_error_code is None
        ]

    def progress(self, stream_id: int) -> int:
        """A number that grows whenever the peer accepts or acknowledges data of this stream."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        return int(stream.sender.highest_offset + stream.sender._buffer_start)

    def can_send(self, stream_id: int) -> bool:
        """Whether the sending part of the stream is open: not ended, not reset, not stopped."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        sender = stream.sender
        return sender._reset_error_code is None and sender._buffer_fin is None

    def is_delivered(self) -> bool:
        """Whether the peer has acknowledged the end of every response."""
        return all(
            stream.sender.is_finished
            for stream_id, stream in self._streams.items()
            if not stream_is_unidirectional(stream_id)
        )

    def is_unresponsive(self) -> bool:
        """Whether the peer has left so many probes unanswered (RFC 9002 6.2) that it must be gone.

        A client that has all its responses often just stops reading, its last ACK unsent.
        """
        return bool(self._loss._pto_count >= _UNANSWERED_PROBES)

    def awaits_acknowledgement(self) -> bool:
        """Whether an ack-eliciting packet has not been acknowledged yet."""
        return any(space.ack_eliciting_in_flight for space in self._loss.spaces)

    def hasten_acknowledgement(self, now: float) -> None:
        """Send an acknowledgement that is due soon with the next packet, not in its own.

        A response that follows its request at once then costs one datagram instead of two.
        """
        space = self._data_space if self._armed else self._spaces.get(Epoch.ONE_RTT)
        if space is not None and space.ack_at is not None and space.ack_at > now:
            space.ack_at = now

    def abandon(self) -> None:
        """Forget a connection that is not closed regularly, once its qlog is written."""
        log, self._quic_logger = self._quic_logger, None
        if log is not None and self._configuration.quic_logger is not None:
            self._configuration.quic_logger.end_trace(log)
        # They know what to call when they are acknowledged: methods of this connection, which would
        # stay with them until the garbage collector comes.
        for space in self._spaces.values():
            space.sent_packets.clear()

    # -- state ------------------------------------------------------------------------------

    @property
    def handshake_completed(self) -> bool:
        """Whether the TLS handshake has completed (RFC 9001 4.1.1)."""
        return bool(self._handshake_complete)

    @property
    def has_received_packet(self) -> bool:
        """Whether any packet could be decrypted; until then there is no state worth keeping."""
        return bool(self._state != QuicConnectionState.FIRSTFLIGHT)

    @property
    def close_event(self) -> ConnectionTerminated | None:
        """Why the connection closes, as soon as either side has closed it (RFC 9000 10.2).

        aioquic reports the event only when the closing or draining period is over.
        """
        return self._close_event

    @property
    def drains_until(self) -> float | None:
        """When the draining period ends (RFC 9000 10.2.2); None unless the peer has closed."""
        return self._close_at if self._state is QuicConnectionState.DRAINING else None

    @property
    def idle_timeout(self) -> float:
        """The shorter of both sides' idle timeouts, at least three probe timeouts (10.1)."""
        return self._idle_timeout()

    @property
    def idle_ends_at(self) -> float:
        """When the connection times out as idle if nothing is received or sent."""
        assert self._close_at is not None  # noqa: S101  # set with the first datagram
        return self._close_at

    @property
    def version(self) -> int | None:
        """The QUIC version in use, None before the first packet."""
        return self._version

    @property
    def network_paths(self) -> list[Any]:
        """The addresses that the peer has used, the current one first."""
        return self._network_paths

    @property
    def server_name(self) -> str:
        """The host name in the client's SNI, if any."""
        name: str = self.tls.server_name  # type: ignore[attr-defined]  # a ServerHandshake's
        return name

    @property
    def cipher_suite(self) -> int | None:
        """The cipher suite's number (RFC 8446 B.4), None before the handshake has chosen it."""
        schedule = self.tls.key_schedule
        return None if schedule is None else int(schedule.cipher_suite)

    # -- aioquic's limits, moved by consumption -----------------------------------------------

    def _connection_limits_due(self) -> list[Limit]:
        due = []
        data, bidi, uni = (
            self._local_max_data,
            self._local_max_streams_bidi,
            self._local_max_streams_uni,
        )
        if data.value - data.sent >= self._connection_step:
            due.append(data)
        # As many again as the peer has left to open: neither a frame a stream, nor a stall.
        if bidi.value - bidi.sent > bidi.sent - bidi.used:
            due.append(bidi)
        if uni.value - uni.sent > uni.sent - uni.used:
            due.append(uni)
        return due

    def _are_limits_due(self) -> bool:
        return bool(self._connection_limits_due()) or any(
            map(self._is_stream_limit_due, self._streams.values())
        )

    def _is_stream_limit_due(self, stream: QuicStream) -> bool:
        # A lost update sets `sent` to 0 (aioquic), which makes the step large enough.
        if stream.max_stream_data_local - stream.max_stream_data_local_sent < self._stream_step:
            return False
        # RFC 9000 4.1: the peer needs no credit once the final size is known.
        return not stream.receiver.is_finished and stream.receiver._final_size is None

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for limit in self._connection_limits_due():
            self._write_connection_limit(builder, limit)

    def _write_connection_limit(self, builder: QuicPacketBuilder, limit: Any) -> None:
        buf = builder.start_frame(
            limit.frame_type,
            capacity=_LIMIT_FRAME_BYTES,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        buf.push_uint_var(limit.value)
        limit.sent = limit.value
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            builder.quic_logger_frames.append(
                self._quic_logger.encode_connection_limit_frame(
                    frame_type=limit.frame_type, maximum=limit.value
                )
            )

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if not self._is_stream_limit_due(stream):
            return
        limit = stream.max_stream_data_local
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=_STREAM_LIMIT_FRAME_BYTES,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        stream_id: int = stream.stream_id  # type: ignore[assignment]  # None only for CRYPTO
        buf.push_uint_var(stream_id)
        buf.push_uint_var(limit)
        stream.max_stream_data_local_sent = limit
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            builder.quic_logger_frames.append(
                self._quic_logger.encode_max_stream_data_frame(maximum=limit, stream_id=stream_id)
            )

    # -- aioquic's slow spots ---------------------------------------------------------------------

    def _handle_padding_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        # Clients pad small packets; counted byte by byte, as aioquic does, that was 95 of the 320
        # microseconds of a small request.
        position = buf.tell()
        rest = buf.data_slice(position, buf.capacity)
        buf.seek(position + len(rest) - len(rest.lstrip(b"\0")))
        if self._quic_logger is not None and context.quic_logger_frames is not None:
            context.quic_logger_frames.append(self._quic_logger.encode_padding_frame())


def _allowed(settings: Settings) -> str:
    """The limits that a client remembers for 0-RTT, which must not be reduced (RFC 9001 4.6.1)."""
    limits = (
        settings.stream_window_bytes,
        settings.connection_window_bytes,
        settings.max_concurrent_streams,
        settings.max_field_section_bytes,
    )
    return repr(limits)
