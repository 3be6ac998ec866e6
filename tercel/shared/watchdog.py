"""Tells when the event loop is blocked, and where. Off the data path: a thread looks now and then.

Code that does not give way holds up every connection at once, and nothing in the loop can tell.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from tercel.shared.logs import logger

log = logger("tercel.loop")

# How often the thread looks within the limit. By default it wakes up twice a second for that.
_LOOKS = 2


class LoopWatchdog:
    """Logs where `loop` is when it has run nothing new for `limit` seconds, and when it does again.

    `place` names the one of some stack frames, the innermost last, that is to blame. A pause of
    less than one and a half times `limit` may go unnoticed: a thread looks twice within `limit`,
    and a loop that it finds at work has `limit` from then on to answer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limit: float,
        place: Callable[[Sequence[FrameType]], str],
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._place = place
        self._thread_id = 0
        self._ended = threading.Event()
        self._asked: float | None = None
        """Since when the loop has been asked for an answer."""
        self._reported = False
        self._answered: float | None = None
        """When it gave that."""
        self._depth = 0
        """How many frames of the loop's thread were below that of the answer."""

    def begin(self) -> None:
        """Watch the loop; to be called in its thread. A limit of 0 watches nothing."""
        if self._limit:
            self._thread_id = threading.get_ident()
            threading.Thread(target=self._run, name="tercel watchdog", daemon=True).start()

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._limit / _LOOKS) and not self._loop.is_closed():
            self._look()

    def _look(self) -> None:
        """See what the loop does. A call of its own: frames must not be held between two looks."""
        asked, answered = self._asked, self._answered
        if asked is not None and answered is not None:
            if self._reported:
                log.warning("the event loop runs again, after %.1f s", answered - asked)
            asked = self._asked = None
            self._reported = False
        callback = self._callback()
        if not callback:
            return  # the loop waits: a question would only wake it up
        if asked is None:
            self._ask()
        elif not self._reported and (seconds := time.monotonic() - asked) >= self._limit:
            self._reported = True
            place = self._place(callback)
            log.warning("the event loop is blocked for %.1f s, in %s", seconds, place)

    def _ask(self) -> None:
        """Ask the loop for an answer."""
        self._asked, self._answered = time.monotonic(), None
        with suppress(RuntimeError):  # the loop was closed at this very moment
            self._loop.call_soon_threadsafe(self._answer)

    def _callback(self) -> Sequence[FrameType]:
        """The frames of the callback that runs, the innermost last; none while the loop waits."""
        stack = _stack(sys._current_frames().get(self._thread_id))
        # asyncio waits in one frame, in place of the one that it runs callbacks from; uvloop has
        # none for either. Any other number is a callback, or a loop that runs from elsewhere now.
        return [] if len(stack) == self._depth else stack[self._depth :] or stack

    def _answer(self) -> None:
        self._depth = len(_stack(sys._getframe())) - 1
        self._answered = time.monotonic()


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, the innermost last."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
