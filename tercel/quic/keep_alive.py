"""How long a client may keep a connection on which it asks for nothing.

A connection without traffic ends by `idle_timeout`, in silence. A client that sends PINGs now and
then (RFC 9000 10.1.2) puts that off for as long as it likes. Knows no frames.
"""

import weakref
from typing import TYPE_CHECKING, Any

from tercel.quic.errors import ErrorCode

if TYPE_CHECKING:
    from tercel.quic.protocol import Http3Protocol

# Looks within `unused_timeout`: a connection lasts a quarter longer than that at the most, and
# nothing has to be noted when a request comes or ends.
_LOOKS = 4
# From GOAWAY to CONNECTION_CLOSE, so that the client knows that what it sends meanwhile is rejected
# and may be sent again (RFC 9114 5.2).
_GOAWAY_SECONDS = 1.0


class KeepAliveLimit:
    """Closes a connection that has had no request for `unused_timeout`."""

    __slots__ = ("_begun", "_protocol", "_seconds", "_timer", "_used_at")

    def __init__(self, protocol: "Http3Protocol", seconds: float) -> None:
        """`seconds` is `unused_timeout`; 0 is no limit."""
        # Weakly: it has this, and in a ring the two would wait for the garbage collector.
        self._protocol: Http3Protocol = weakref.proxy(protocol)
        self._seconds = seconds
        self._timer: Any = None
        self._begun = 0
        self._used_at = 0.0
        """When a look has last found the connection in use."""

    def start(self) -> None:
        """Begin to look."""
        if self._seconds and self._timer is None:
            self._used_at = self._protocol.context.clock()
            self._set_timer(self._seconds / _LOOKS, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._protocol.context.clock()
        begun = self._protocol.requests_begun
        if begun != self._begun or self._protocol.quic.requests():
            self._begun, self._used_at = begun, now
        if now - self._used_at < self._seconds:
            self._set_timer(self._seconds / _LOOKS, self._look)
            return
        self._protocol.stop_accepting()
        self._set_timer(_GOAWAY_SECONDS, self._close)

    def _close(self) -> None:
        self._protocol.close(ErrorCode.NO_ERROR, "no request for a long time")

    def _set_timer(self, seconds: float, action: Any) -> None:
        self._timer = self._protocol.context.loop.call_later(seconds, action)
