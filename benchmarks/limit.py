"""An end to everything: what hangs is interrupted, wherever it waits.

For the main thread of a program only, whose alarm this is.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside after `seconds`; not to be nested."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    # Again and again: cleaning up may hang as well.
    signal.setitimer(signal.ITIMER_REAL, seconds, 20.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
