"""Lifetime of a connection without traffic, or with traffic but no request.

A connection with a request in progress is kept as long as the client is there, one without a
request no longer than `unused_timeout`. A connection without traffic ends silently by the idle
timeout of either side (RFC 9000 10.1). PINGs of either side defer that (10.1.2). Knows no frames.
"""

import weakref
from typing import Protocol

from tercel.quic.http3.check_timer import CheckTimer
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.transport.connection import QuicServerConnection
from tercel.shared.connection import ServerContext
from tercel.shared.stream import RequestStream

# Looks within `unused_timeout`: a connection lasts a quarter longer than that at the most, and
# nothing has to be noted when a request comes or ends.
_LOOKS = 4
# From GOAWAY to CONNECTION_CLOSE, so that the client knows that what it sends meanwhile is rejected
# and may be sent again (RFC 9114 5.2).
_GOAWAY_SECONDS = 1.0

# The part of the idle time-out after which a PING is sent. What is left is enough for it to get
# lost and be sent again: a time-out is three probe time-outs at least (RFC 9000 10.1).
_PING_AFTER = 0.5
# A client that names an idle time-out of no time at all gets no stream of PINGs.
LEAST_PING_SECONDS = 0.5


class Owner(Protocol):
    """What is asked of the connection whose lifetime this is."""

    context: ServerContext
    quic: QuicServerConnection
    streams: dict[int, RequestStream]

    @property
    def requests_begun(self) -> int:
        """A number that grows with each request of the client."""

    def stop_accepting(self) -> None:
        """Send GOAWAY."""

    def close(self, code: int, reason: str = "") -> None:
        """Send CONNECTION_CLOSE with an application error code."""

    def send_ping(self) -> None:
        """Send a PING."""


class KeepAliveLimit:
    """Closes a connection that has had no request for `unused_timeout`."""

    __slots__ = ("_begun", "_protocol", "_seconds", "_timer", "_used_at")

    def __init__(self, protocol: Owner, seconds: float) -> None:
        """`seconds` is `unused_timeout`; 0 is no limit."""
        # Weakly: it has this, and in a ring the two would wait for the garbage collector.
        self._protocol: Owner = weakref.proxy(protocol)
        self._seconds = seconds
        self._timer = CheckTimer(protocol.context.loop)
        self._begun = 0
        self._used_at = 0.0
        """When a look has last found the connection in use."""

    def start(self) -> None:
        """Start the periodic check."""
        if self._seconds and not self._timer.is_set:
            self._used_at = self._protocol.context.clock()
            self._timer.set(self._seconds / _LOOKS, self._look)

    def stop(self) -> None:
        """Stop the periodic check."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._protocol.context.clock()
        begun = self._protocol.requests_begun
        if begun != self._begun or self._protocol.quic.requests():
            self._begun, self._used_at = begun, now
        if now - self._used_at < self._seconds:
            self._timer.set(self._seconds / _LOOKS, self._look)
            return
        self._protocol.stop_accepting()
        self._timer.set(_GOAWAY_SECONDS, self._close)

    def _close(self) -> None:
        self._protocol.close(ErrorCode.NO_ERROR, "no request for a long time")


class KeepAlivePings:
    """Sends a PING when a connection with an open exchange is about to time out as idle.

    Otherwise a client with a short idle timeout that sends no PINGs would time out before a slow
    application answers. A client that has gone is still noticed: a PING is not repeated before one
    is acknowledged, and only the first packet sent restarts the timeout (RFC 9000 10.1).
    """

    __slots__ = ("_protocol", "_timer")

    def __init__(self, protocol: Owner) -> None:
        # Weakly: it has this, and in a ring the two would wait for the garbage collector.
        self._protocol: Owner = weakref.proxy(protocol)
        self._timer = CheckTimer(protocol.context.loop)

    def watch(self) -> None:
        """Start the periodic check, if it is not running: an exchange is open."""
        if not self._timer.is_set:
            self._set_timer()

    def stop(self) -> None:
        """Stop the periodic check."""
        self._timer.cancel()

    def _look(self) -> None:
        protocol = self._protocol
        if not protocol.streams:
            return
        # What waits for its acknowledgement is sent again until it comes: that keeps a connection.
        if self._seconds_left() <= 0 and not protocol.quic.awaits_acknowledgement():
            protocol.send_ping()
        self._set_timer()

    def _set_timer(self) -> None:
        left = self._seconds_left()
        seconds = left if left > 0 else self._quiet_seconds()
        self._timer.set(seconds, self._look)

    def _seconds_left(self) -> float:
        """The time until a PING is due."""
        quic = self._protocol.quic
        quiet_since = quic.idle_ends_at - quic.idle_timeout
        return quiet_since + self._quiet_seconds() - self._protocol.context.clock()

    def _quiet_seconds(self) -> float:
        """The time without traffic after which a PING is sent."""
        return max(self._protocol.quic.idle_timeout * _PING_AFTER, LEAST_PING_SECONDS)
