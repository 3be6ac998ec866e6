"""Request timeouts: exchanges that make no progress on a connection that stays open.

A connection that is idle as a whole ends by `idle_timeout`. The timeouts here are for exchanges on
an active connection: heads and content that do not arrive, responses that are not read. All are
checked periodically, which costs nothing per packet. Knows no frames.
"""

import weakref
from typing import Any, Protocol

from tercel.quic.http3.check_timer import CheckTimer
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.http3.stream import H3RequestStream
from tercel.quic.transport.connection import QuicServerConnection
from tercel.shared.connection import ServerContext
from tercel.shared.errors import RemoteProtocolError, RequestTimeout, StreamAborted
from tercel.shared.settings import Settings
from tercel.shared.stream import RequestStream

# A look is due so many times within the shortest of the times.
_LOOKS = 4


class Owner(Protocol):
    """What is asked of the connection that is watched."""

    context: ServerContext
    quic: QuicServerConnection
    streams: dict[int, RequestStream]

    def is_blocked(self, stream_id: int) -> bool:
        """Whether a field section of a request waits for the QPACK encoder stream."""

    def awaits_head(self, stream_id: int) -> bool:
        """Whether a stream that the client opened has not received its request head."""

    def give_up(self, stream_id: int, error: StreamAborted, code: ErrorCode) -> None:
        """Reset an exchange."""

    def fail(self, stream_id: int, error: RemoteProtocolError, seconds: float) -> None:
        """Answer a request that has not arrived properly within `seconds`."""


class RequestTimeouts:
    """Watches the exchanges of one connection while there are any."""

    __slots__ = ("_first_seen", "_interval", "_protocol", "_settings", "_taken", "_timer")

    def __init__(self, protocol: Owner, settings: Settings) -> None:
        # Weakly: it has this, and in a ring the two would wait for the garbage collector.
        self._protocol: Owner = weakref.proxy(protocol)
        self._settings = settings
        shortest = min(settings.header_timeout, settings.content_timeout, settings.send_timeout)
        self._interval = shortest / _LOOKS
        self._timer = CheckTimer(protocol.context.loop)
        self._first_seen: dict[int, float] = {}
        self._taken: dict[int, tuple[int, float]] = {}

    def watch(self) -> None:
        """Start the periodic check, if it is not running."""
        if not self._timer.is_set:
            self._timer.set(self._interval, self._look)

    def stop(self) -> None:
        """Stop the periodic check."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._protocol.context.clock()
        requests = self._protocol.quic.requests()
        self._taken = {
            request.stream_id: self._progress(request.stream_id, request.sent, now)
            for request in requests
            if request.undelivered
        }
        self._first_seen = {
            request.stream_id: self._first_seen.get(request.stream_id, now)
            for request in requests
            # What has arrived may still wait for what a QPACK encoder has to say.
            if not request.arrived or self._protocol.is_blocked(request.stream_id)
        }
        self._give_up_untaken(now)
        self._give_up_unsent(now)
        if requests:
            self.watch()

    def _progress(self, stream_id: int, sent: int, now: float) -> tuple[int, float]:
        before = self._taken.get(stream_id)
        return (sent, now) if before is None or before[0] != sent else before

    def _give_up_untaken(self, now: float) -> None:
        """Reset responses of which the client has accepted no data for `send_timeout`."""
        for stream_id, (_, since) in list(self._taken.items()):
            stream = self._protocol.streams.get(stream_id)
            if now - since < self._settings.send_timeout or _is_upgraded(stream):
                continue
            error = StreamAborted("the client took nothing of the response in its time")
            self._protocol.give_up(stream_id, error, ErrorCode.REQUEST_CANCELLED)

    def _give_up_unsent(self, now: float) -> None:
        """Answer 408 to requests whose head or content does not arrive in time."""
        for stream_id, since in list(self._first_seen.items()):
            stream: Any = self._protocol.streams.get(stream_id)
            if stream is None:
                late = self._protocol.awaits_head(stream_id) and (
                    now - since >= self._settings.header_timeout
                )
            else:
                late = not _is_upgraded(stream) and self._is_content_late(stream, now)
            if late:
                error = RequestTimeout("the request did not arrive in time")
                self._protocol.fail(stream_id, error, now - since)

    def _is_content_late(self, stream: H3RequestStream, now: float) -> bool:
        if stream.waiting_since is None:
            return False
        seconds = self._settings.content_timeout
        if rate := self._settings.min_content_rate:
            # content_timeout is also the grace: what was received buys further time to wait.
            seconds = min(seconds, seconds + stream.content.received / rate - stream.waited)
        return now - stream.waiting_since >= seconds


def _is_upgraded(stream: Any) -> bool:
    return stream is not None and stream.upgraded is not None
