"""One time limit per connection, moved with every request and met by few."""

import asyncio
from collections.abc import Callable


class Deadline:
    """A point in time by `clock`; `check` is called at or after it.

    `check` asks `expired` and ends with `rearm`. Moving the deadline to a later time costs no
    timer: the one that is set fires early and is set again, which is cheaper than one per request.
    """

    __slots__ = ("_check", "_clock", "_loop", "_timer", "_timer_at", "at")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        check: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._check: Callable[[], None] | None = check
        self.at: float | None = None
        """The point in time. Set to None there is no limit for what goes on now."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def set(self, seconds: float) -> None:
        """Put the deadline `seconds` from now."""
        now = self._clock()
        self.at = now + seconds
        if self._timer is None or self.at < self._timer_at:
            self._arm(now)

    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.at is not None and self._clock() >= self.at

    def rearm(self) -> None:
        """Go on watching."""
        if self.at is not None:
            self._arm(self._clock())

    def cancel(self) -> None:
        """Stop watching for good: the deadline has no effect from here on."""
        self.at = None
        # Whose method it is has this deadline: both would wait for the garbage collector.
        self._check = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        if self._check is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        assert self.at is not None  # noqa: S101  # both callers have seen to it
        self._timer_at = self.at
        self._timer = self._loop.call_later(max(0.0, self.at - now), self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._check is not None:
            self._check()
