"""Logs when the event loop is blocked, and where. Off the data path: a thread checks periodically.

Code that does not yield delays every connection, and nothing that runs in the loop can report it.
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
    """Logs the position of `loop` when it is blocked for `limit` seconds, and when it resumes.

    Of some stack frames, the innermost last, `place` names the one to blame. A pause of less than
    one and a half times `limit` may go unnoticed: a thread checks twice within `limit`, and a loop
    that it finds busy has `limit` from then on to answer.
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
        """Since when an answer of the loop is pending."""
        self._reported = False
        self._answered: float | None = None
        """When the loop last answered."""
        self._depth = 0
        """Depth of the stack below the frame of the answer, in the loop's thread."""

    def begin(self) -> None:
        """Watch the loop; to be called in its thread. With a limit of 0, does nothing."""
        if self._limit:
            self._thread_id = threading.get_ident()
            threading.Thread(target=self._run, name="tercel watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._limit / _LOOKS) and not self._loop.is_closed():
            self._look()

    def _look(self) -> None:
        """Check the loop. A separate call, so that no frame is held between two checks."""
        if self._answered is not None:
            self._report_the_end()  # for an answer that came while the place was looked for
            self._asked = None
        asked = self._asked
        callback = self._callback()
        if not callback:
            return  # the loop waits: a question would only wake it up
        if asked is None:
            self._ask()
        elif not self._reported and (seconds := time.monotonic() - asked) >= self._limit:
            self._reported = True
            place = self._place(callback)
            log.warning("the event loop has been blocked for %.1f s, in %s", seconds, place)

    def _ask(self) -> None:
        """Ask the loop for an answer."""
        self._asked, self._answered = time.monotonic(), None
        with suppress(RuntimeError):  # the loop was closed at this very moment
            self._loop.call_soon_threadsafe(self._answer)

    def _callback(self) -> Sequence[FrameType]:
        """The frames of the running callback, the innermost last; none while the loop waits."""
        stack = _stack(sys._current_frames().get(self._thread_id))
        # asyncio waits in one frame, in place of the one that it runs callbacks from; uvloop has
        # none for either. Any other number is a callback, or a loop that runs from elsewhere now.
        return [] if len(stack) == self._depth else stack[self._depth :] or stack

    def _answer(self) -> None:
        self._depth = len(_stack(sys._getframe())) - 1
        self._answered = time.monotonic()
        self._report_the_end()  # here, as the watching may end before the next check

    def _report_the_end(self) -> None:
        if self._reported and self._asked is not None and self._answered is not None:
            self._reported = False
            log.warning("the event loop runs again, after %.1f s", self._answered - self._asked)


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, the innermost last."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
