"""A timer for checks that are made now and then, while there is something to check."""

import asyncio
from collections.abc import Callable


class CheckTimer:
    """Calls one function, once, some time after it was set."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether a call is due."""
        return self._handle is not None

    def set(self, seconds: float, check: Callable[[], None]) -> None:
        """Call `check` after `seconds`, instead of what was due before."""
        # Only until then: who has this timer and is called by it would be a ring with it.
        self.cancel()
        self._handle = self._loop.call_later(seconds, self._fired, check)

    def cancel(self) -> None:
        """No call is due any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fired(self, check: Callable[[], None]) -> None:
        self._handle = None
        check()
