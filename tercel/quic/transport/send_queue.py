"""The send queue: what there is to send, determined once and kept up to date.

Part of the fast path. Uses private names of aioquic, each with a canary in
tests/quic/transport. aioquic walks every open stream for every packet; here a survey
does so once. An event that would make its result stale discards it: aioquic's own code then handles
what a subclass does not expect, and the next survey starts afresh.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aioquic.quic.connection import Limit, QuicConnectionState
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from tercel.quic.transport.hardening import HardenedConnection

if TYPE_CHECKING:
    from aioquic.quic.crypto import CryptoPair
    from aioquic.quic.recovery import QuicPacketSpace

# More than the rounding of any sum of times, and less than any timer tells apart.
_ROUNDED_SECONDS = 1e-6

# Streams that are gone stay in aioquic's queue until so many are.
_MOST_STALE = 16


class QueuedConnection(HardenedConnection):
    """Knows which of its streams have something to send."""

    __slots__ = (
        "_armed",
        "_data_keys",
        "_data_marks",
        "_data_space",
        "_due",
        "_ended",
        "_limits_due",
        "_parked",
        "_stale",
        "_surveyed",
    )

    def __init__(self, *, fast_path: bool, **options: Any) -> None:
        super().__init__(fast_path=fast_path, **options)
        self._armed = False
        """Whether the handshake is over, so that the fast path may be used."""
        self._surveyed = False
        """Whether the four collections below are complete, and nothing uncommon is pending."""
        self._due: OrderedDict[int, QuicStream] = OrderedDict()
        """Streams with data to send, in the order of service."""
        self._parked: dict[int, QuicStream] = {}
        """Streams blocked by the peer's flow control."""
        self._limits_due: dict[int, QuicStream] = {}
        """Streams whose MAX_STREAM_DATA has to be sent."""
        self._ended: list[QuicStream] = []
        """Streams that have ended in both directions, to be forgotten."""
        self._stale = 0
        """How many of the streams in aioquic's queue have been forgotten."""
        self._data_space: QuicPacketSpace
        self._data_keys: CryptoPair
        self._data_marks: list[int]

    # -- what a subclass decides --------------------------------------------------------------

    def _connection_limits_due(self) -> list[Limit]:
        """The limits of the connection that are to be announced now."""
        raise NotImplementedError

    def _is_stream_limit_due(self, stream: QuicStream) -> bool:
        """Whether to announce a new flow control limit of `stream` to the peer."""
        raise NotImplementedError

    # -- what makes a survey necessary ----------------------------------------------------------

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Queue `data` on a stream."""
        stream = self._streams.get(stream_id)
        if stream is None or stream_id & 3 == 2:
            super().send_stream_data(stream_id, data, end_stream)
            self._surveyed = False
            return
        stream.sender.write(data, end_stream)
        self._due[stream_id] = stream

    def _queue(self, stream: QuicStream, data: bytes, end_stream: bool) -> None:
        """Queue `data` on a stream whose sending part is open, as aioquic's `write`."""
        sender = stream.sender
        start = sender._buffer_stop
        if data:
            stop = sender._buffer_stop = start + len(data)
            sender._buffer += data
            pending = sender._pending._RangeSet__ranges  # type: ignore[attr-defined]
            if pending and pending[-1].stop == start:
                pending[-1] = range(pending[-1].start, stop)
            else:
                pending.append(range(start, stop))
        if end_stream:
            sender._buffer_fin = sender._buffer_stop
            sender._pending_eof = True
        if data or end_stream:
            sender.buffer_is_empty = False
        self._due[stream.stream_id] = stream  # type: ignore[index]  # None only for CRYPTO

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Reset the sending part of a stream."""
        self._surveyed = False
        super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending on a stream (STOP_SENDING)."""
        self._surveyed = False
        super().stop_stream(stream_id, error_code)

    def close(self, *args: Any, **kwargs: Any) -> None:
        """Close the connection."""
        self._surveyed = False
        super().close(*args, **kwargs)

    def request_key_update(self) -> None:
        """Use new keys from the next packet on."""
        self._surveyed = False
        super().request_key_update()

    def change_connection_id(self) -> None:
        """Switch to another of the peer's connection IDs."""
        self._surveyed = False
        super().change_connection_id()

    def send_ping(self, uid: int) -> None:
        """Send a PING."""
        self._surveyed = False
        super().send_ping(uid)

    def handle_timer(self, now: float) -> None:
        """Handle the timers that have expired."""
        if (
            self._surveyed
            and self._close_at is not None
            and now < self._close_at
            and (self._loss_at is None or now < self._loss_at)
        ):
            return  # an acknowledgement or a pause between packets, which sending is for
        self._surveyed = False
        # aioquic sets the timer for when a packet is lost to `sent + delay`, and then asks whether
        # it was sent before `now - delay`: rounded, it may not be, and the timer fires for ever.
        super().handle_timer(now + _ROUNDED_SECONDS)

    def _send_probe(self) -> None:
        self._surveyed = False
        super()._send_probe()

    def has_nothing_to_do(self) -> bool:
        """Whether there is nothing to send and no timer to set until the next event.

        This is the case after the acknowledgement of all that was sent. False if it is not known.
        """
        if not self._surveyed or self._due or self._limits_due:
            return False
        space = self._data_space
        if space.ack_at is not None or space.ack_eliciting_in_flight or space.loss_time is not None:
            return False
        if self._ended:
            self._forget_ended()
        return not self._connection_limits_due()

    def _arm(self) -> None:
        """Enable the fast path, once the handshake is confirmed (RFC 9001 4.1.2)."""
        if (
            self._fast_path
            and self._handshake_confirmed
            and self._quic_logger is None
            and not self._cryptos[Epoch.ZERO_RTT].recv.is_valid()
        ):
            # Looked up once, because the hash of an enumeration's member is slow.
            self._data_space = self._spaces[Epoch.ONE_RTT]
            self._data_keys = self._cryptos[Epoch.ONE_RTT]
            self._data_marks = self._marks[Epoch.ONE_RTT]
            self._armed = True

    def _survey(self) -> bool:
        """Determine what there is to send; False if the fast path cannot send some of it."""
        if not self._armed or not self._is_common():
            return False
        self._due.clear()
        self._parked.clear()
        self._limits_due.clear()
        self._ended.clear()
        for stream_id, stream in self._streams.items():
            sender, receiver = stream.sender, stream.receiver
            if receiver.stop_pending or sender.reset_pending:
                return False
            if sender.is_finished and receiver.is_finished:
                self._ended.append(stream)
            elif not sender.buffer_is_empty and not stream.is_blocked:
                self._due[stream_id] = stream
            if self._is_stream_limit_due(stream):
                self._limits_due[stream_id] = stream
        self._surveyed = True
        return True

    def _is_common(self) -> bool:
        """Whether the fast path can send all that is pending."""
        return (
            self._state is QuicConnectionState.CONNECTED
            and not (
                self._close_pending
                or self._handshake_done_pending
                or self._probe_pending
                or self._ping_pending
                or self._datagrams_pending
                or self._retire_connection_ids
                or self._streams_blocked_pending
                or self._data_keys._update_key_requested
            )
            and self.ecn.is_settled
            and self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
            and self._network_paths[0].is_validated
            and not any(
                path.remote_challenges or not (path.is_validated or path.local_challenge_sent)
                for path in self._network_paths
            )
            and all(connection_id.was_sent for connection_id in self._host_cids)
        )

    # -- streams that have ended ------------------------------------------------------------------

    def _forget_ended(self) -> None:
        """Drop the state of ended streams, and let the client open as many new ones."""
        for stream in self._ended:
            stream_id: int = stream.stream_id  # type: ignore[assignment]  # None only for CRYPTO
            if self._streams.pop(stream_id, None) is None:
                continue
            self._due.pop(stream_id, None)
            if self._limits_due:
                self._limits_due.pop(stream_id, None)
            if not stream_id & 3:
                self._local_max_streams_bidi.value += 1  # RFC 9000 4.6
            elif not stream_id & 1:
                self._stream_limit(stream_id).value += 1
            self._stale += 1
        self._ended.clear()
        if self._stale > _MOST_STALE + len(self._streams):
            self._forget_stale()

    def _forget_stale(self) -> None:
        """Remove discarded streams from aioquic's queue."""
        if self._stale:
            self._stale = 0
            streams = self._streams
            self._streams_queue = [
                stream for stream in self._streams_queue if stream.stream_id in streams
            ]
