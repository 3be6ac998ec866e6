"""Log lines that never make the server wait: written by a thread, the oldest dropped when it lags.

A terminal that somebody has stopped, a pipe that nobody reads and a slow disk block whoever writes
to them. That must not be the event loop.
"""

import logging
import threading
from collections import deque

# At some 200 bytes each, 2 MB; a busy server writes as many in a second or two.
CAPACITY = 10_000
# How long lines wait for others to be written along with them.
_COLLECT_SECONDS = 0.05
# How long the end of the process waits for the last lines.
_CLOSE_SECONDS = 1.0


class LogQueue(logging.Handler):
    """Passes records to `target` in a thread of its own; what it emits never waits.

    `capacity` records may wait; beyond it the oldest are dropped, which is logged with their number
    when there is room again.
    """

    def __init__(self, target: logging.Handler, *, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._target = target
        self._records: deque[logging.LogRecord] = deque(maxlen=capacity)
        self._dropped = 0
        self._reported = 0
        self._wakeup = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tercel log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records were dropped so far."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue `record`."""
        if len(self._records) == self._records.maxlen:
            self._dropped += 1
        self._records.append(record)
        if not self._wakeup.is_set():
            self._wakeup.set()

    def close(self) -> None:
        """Write what waits, as long as that takes little time, and write no more."""
        self._closing.set()
        self._wakeup.set()
        self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _run(self) -> None:
        while True:
            self._wakeup.wait()
            closing = self._closing.wait(_COLLECT_SECONDS)
            self._wakeup.clear()
            while self._records:
                self._target.handle(self._records.popleft())
            if self._dropped != self._reported:
                self._report()
            if closing:
                self._target.flush()
                return

    def _report(self) -> None:
        dropped = self._dropped
        record = logging.LogRecord(
            "tercel.log",
            logging.WARNING,
            __file__,
            0,
            "%d log lines were dropped: whoever takes them is too slow",
            (dropped - self._reported,),
            None,
        )
        self._reported = dropped
        self._target.handle(record)
