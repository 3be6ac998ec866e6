"""One time limit per connection, which every request moves and few reach."""

import asyncio
from collections.abc import Callable


class Deadline:
    """A point in time by `clock`; `check` is called at or after it.

    `check` has to call `expired`, and `rearm` at its end. Moving the deadline to a later time needs
    no new timer: the current one fires early and is set again, which is cheaper than one per
    request.
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
        """The point in time. None means that there is no limit now."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def set(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        now = self._clock()
        self.at = now + seconds
        if self._timer is None or self.at < self._timer_at:
            self._arm(now)

    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.at is not None and self._clock() >= self.at

    def rearm(self) -> None:
        """Continue watching."""
        if self.at is not None:
            self._arm(self._clock())

    def cancel(self) -> None:
        """Stop watching for good: the deadline has no effect from here on."""
        self.at = None
        # The owner of the method refers to this deadline: a cycle for the garbage collector.
        self._check = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        if self._check is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        assert self.at is not None  # noqa: S101  # both callers have checked it
        self._timer_at = self.at
        self._timer = self._loop.call_later(max(0.0, self.at - now), self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._check is not None:
            self._check()
