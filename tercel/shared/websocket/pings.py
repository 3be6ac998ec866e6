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
        """`data` if a ping may carry it, 4 random bytes if that is left open.

        Raises ValueError while a pong with that data is due.
        """
        if data in self._pings:
            raise ValueError("a pong with the same data is due already")
        while data is None or data in self._pings:
            data = secrets.token_bytes(4)
        return data

    def add(self, data: bytes, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Note that a ping with `data` was sent; the future is its pong's."""
        pong = self._pings[data] = loop.create_future()
        return pong

    def answered(self, data: bytes) -> None:
        """Acknowledge the ping with `data` and all before it; ignore what was not asked for."""
        if data not in self._pings:
            return
        payloads = list(self._pings)
        for payload in payloads[: payloads.index(data) + 1]:
            pong = self._pings.pop(payload)
            if not pong.done():
                pong.set_result(None)

    def abort(self, error: Callable[[], Exception]) -> None:
        """No pong comes any more: whoever waits for one gets `error()`."""
        pings, self._pings = self._pings, {}
        for pong in pings.values():
            if not pong.done():
                pong.set_exception(error())
                pong.exception()  # Not every ping has somebody who waits for its pong.
