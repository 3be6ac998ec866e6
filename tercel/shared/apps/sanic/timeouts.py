"""RESPONSE_TIMEOUT: how long an exchange may go on without a byte in either direction.

One timer for all exchanges. Knows no messages.
"""

import asyncio
from typing import Protocol

# A sweep looks at every exchange; many that time out one after another share one.
_LEAST_INTERVAL_SECONDS = 0.05


class Watched(Protocol):
    """An exchange under watch."""

    active_at: float
    """When something was received or sent last, by the loop's clock."""

    def time_out(self) -> None:
        """Too long ago."""


class ResponseTimeouts:
    """Watches exchanges, and tells those that were inactive for more than `seconds`."""

    __slots__ = ("_loop", "_seconds", "_timer", "_watched")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._watched: dict[Watched, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, exchange: Watched) -> None:
        """Watch `exchange`, which is active now."""
        exchange.active_at = self._loop.time()
        self._watched[exchange] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._sweep)

    def forget(self, exchange: Watched) -> None:
        """Watch it no longer; nothing happens when it is not watched."""
        self._watched.pop(exchange, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        overdue_from = self._loop.time() - self._seconds
        for exchange in [item for item in self._watched if item.active_at <= overdue_from]:
            del self._watched[exchange]
            exchange.time_out()
        if self._watched:
            next_at = min(exchange.active_at for exchange in self._watched)
            wait = max(next_at - overdue_from, _LEAST_INTERVAL_SECONDS)
            self._timer = self._loop.call_later(wait, self._sweep)
