"""Pings that wait for their pong (RFC 6455 5.5.2, 5.5.3). Knows only payloads and futures."""

import asyncio
import secrets
from collections.abc import Callable


class PendingPings:
    """The pings that were sent and not yet answered, in that order."""

    __slots__ = ("_pings",)

    def __init__(self) -> None:
        self._pings: dict[bytes, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._pings)

    def payload(self, data: bytes | None) -> bytes:
        """The payload for a ping: `data`, or 4 random bytes for None.

        Raises ValueError while a pong with that data is due.
        """
        if data in self._pings:
            raise ValueError("a pong with the same data is due already")
        while data is None or data in self._pings:
            data = secrets.token_bytes(4)
        return data

    def add(self, data: bytes, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Note that a ping with `data` was sent; return the future of its pong."""
        pong = self._pings[data] = loop.create_future()
        return pong

    def answered(self, data: bytes) -> None:
        """Acknowledge the ping with `data` and all before it; ignore an unsolicited pong."""
        if data not in self._pings:
            return
        payloads = list(self._pings)
        for payload in payloads[: payloads.index(data) + 1]:
            pong = self._pings.pop(payload)
            if not pong.done():
                pong.set_result(None)

    def abort(self, error: Callable[[], Exception]) -> None:
        """No more pongs will arrive: every pending ping fails with `error()`."""
        pings, self._pings = self._pings, {}
        for pong in pings.values():
            if not pong.done():
                pong.set_exception(error())
                pong.exception()  # Not every pong is awaited.
