"""Waiting without polling: wake-ups by an event, and write back-pressure by watermarks."""

import asyncio

from tercel.shared.errors import ServerError


class Wakeup:
    """Lets tasks wait for the next `set()`. Costs nothing while nobody waits."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[bool]] = []

    async def wait(self, timeout: float | None = None) -> bool:
        """Suspend until the next `set()`; False when `timeout` seconds passed without one."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        timer = None if timeout is None else loop.call_later(timeout, _answer, waiter, False)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def set(self) -> None:
        """Wake all current waiters."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                _answer(waiter, True)


class WriteGate:
    """Holds writers back while more than `high` bytes are unsent, until at most `low` are."""

    __slots__ = ("_error", "_high", "_low", "_wakeup", "paused")

    def __init__(self, *, high: int, low: int) -> None:
        self._high = high
        self._low = low
        self._error: ServerError | None = None
        self._wakeup = Wakeup()
        self.paused = False

    def update(self, size: int) -> None:
        """Set the number of unsent bytes to `size`."""
        if self.paused:
            if size <= self._low:
                self.resume()
        elif size > self._high:
            self.paused = True

    def pause(self) -> None:
        """Hold writers back until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Let writers continue."""
        self.paused = False
        self._wakeup.set()

    def close(self, error: ServerError) -> None:
        """End writing: `error` is raised to all waiters, present and future."""
        if self._error is None:
            self._error = error
            self._wakeup.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Return when writing may continue; False if it may not within `timeout` seconds.

        Raises the error that `close` was given.
        """
        while self.paused and self._error is None:
            if not await self._wakeup.wait(timeout):
                return False
        if self._error is not None:
            raise self._error
        return True


def _answer(waiter: asyncio.Future[bool], woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)
