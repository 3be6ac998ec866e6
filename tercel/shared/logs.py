"""Log lines that nobody can forge, and that never make the server wait.

What a client has sent may be in a message: nothing of it may end the line, or be an order to a
terminal. And a terminal that somebody has stopped, a pipe that nobody reads and a slow disk block
whoever writes to them: that must not be the event loop, so a thread does it, and the oldest lines
are dropped when it lags.
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


# Goes before all lines of a record but the first.
_INDENT = "    "


def logger(name: str) -> logging.Logger:
    """The logger called `name`, whose messages are one printable line each, whoever writes them."""
    found = logging.getLogger(name)
    found.addFilter(_make_printable)
    return found


def printable(text: str) -> str:
    """`text` with everything escaped that is not for showing.

    That is control characters and line ends, what changes the direction of text, blanks other than
    the space, and what UTF-8 has no bytes for: whatever `str.isprintable` says no to.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _make_printable(record: logging.LogRecord) -> bool:
    try:
        message = record.getMessage()
    except Exception:
        return True  # the handler says what is wrong with it
    # A message that is printable keeps its template and its values, for who matches them.
    if not message.isprintable():
        record.msg, record.args = printable(message), ()
    return True


class LineFormatter(logging.Formatter):
    """Formats a record as one line; those of a traceback follow indented.

    So no text in a record can pass for another record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The text of `record`. Unlike the base class this keeps nothing on the record."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += record.stack_info.split("\n")
        return f"\n{_INDENT}".join(map(printable, lines))


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
