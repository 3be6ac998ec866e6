"""Logging that cannot be forged, does not block the server, and cannot be disabled by accident.

A message may contain text from a client, which must neither end the line nor control a terminal.
Writing to a stopped terminal, an unread pipe or a slow disk blocks: therefore a thread writes, not
the event loop, and the oldest lines are dropped when it lags behind. An application may configure
logging at any time: by default `logging.config` closes all handlers and disables all loggers that
it finds, and errors would leave no trace.
"""

import atexit
import logging
import threading
from collections import deque
from datetime import datetime
from typing import TextIO

# At some 200 bytes each, 2 MB; a busy server writes as many in a second or two.
CAPACITY = 10_000
# How long lines wait for others to be written along with them.
_COLLECT_SECONDS = 0.05
# The longest wait for lines to be written: when the process ends, and when handlers are flushed.
_FLUSH_SECONDS = 1.0

# Of lines that `log_to` writes.
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

# Goes before all lines of a record but the first.
_INDENT = "    "


class _AlwaysEnabled:
    """Keeps a logger enabled: to log less, set its level."""

    @property
    def disabled(self) -> bool:
        """False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


def logger(name: str, *, escaped: bool = False) -> logging.Logger:
    """The logger called `name`, whose messages are one printable line each.

    With `escaped`, its messages are printable already. It cannot be disabled, as `logging.config`
    does with loggers that its configuration does not name. Configuration that names it applies.
    """
    found = logging.getLogger(name)
    if not isinstance(found, _AlwaysEnabled):
        kind = type(found)
        # Its class, not another logger: the program may have configured this one before.
        found.__class__ = type(kind.__name__, (_AlwaysEnabled, kind), {})
    if not escaped:
        found.addFilter(_make_printable)
    return found


def printable(text: str) -> str:
    """`text` with all unprintable characters escaped.

    These are control characters and line ends, characters that change the direction of text, blanks
    other than the space, and surrogates, which UTF-8 cannot encode: all that `str.isprintable`
    rejects.
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
    """Formats a record as one line; the lines of a traceback follow indented.

    So no text in a record can look like another record. Times are as in ISO 8601 and RFC 3339, with
    the offset of the time zone.
    """

    def __init__(self, format: str | None = None) -> None:
        super().__init__(format)
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        """The text of `record`. Unlike the base class, does not cache anything on the record."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += record.stack_info.split("\n")
        return f"\n{_INDENT}".join(map(printable, lines))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The time of `record`, to the second: `2026-01-31T23:59:59+01:00`."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._time = datetime.fromtimestamp(second).astimezone().isoformat()
        return self._time


class LogQueue(logging.Handler):
    """Writes records to `stream` in its own thread, so that `emit` never blocks.

    At most `capacity` records are queued; beyond that the oldest are dropped, and their number is
    logged when there is room again. It ends by `end`, which is called at the exit of the process,
    and not by `close`: configuring logging closes all existing handlers.
    """

    def __init__(
        self, stream: TextIO, *, formatter: logging.Formatter, capacity: int = CAPACITY
    ) -> None:
        # No handler writes to the stream: logging waits for the lock of each when the process ends,
        # and a stream that blocks would hold it for ever.
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._records: deque[logging.LogRecord] = deque(maxlen=capacity)
        self._dropped = 0
        self._reported = 0
        self._wakeup = threading.Event()
        self._hurry = threading.Event()
        self._written = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tercel log", daemon=True)
        self._thread.start()
        atexit.register(self.end)

    @property
    def dropped(self) -> int:
        """The number of records dropped so far."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue `record`."""
        if len(self._records) == self._records.maxlen:
            self._dropped += 1
        self._records.append(record)
        if not self._wakeup.is_set():
            self._wakeup.set()

    def flush(self) -> None:
        """Wait until all emitted records are written, for a short time at most."""
        if self._ending.is_set():
            return
        self._written.clear()
        self._hurry.set()
        self._wakeup.set()
        self._written.wait(_FLUSH_SECONDS)

    def end(self) -> None:
        """Write the queued records, for a short time at most, then stop writing."""
        atexit.unregister(self.end)
        self._ending.set()
        self._hurry.set()
        self._wakeup.set()
        self._thread.join(_FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            self._wakeup.wait()
            self._wakeup.clear()
            hurried = self._hurry.wait(_COLLECT_SECONDS)
            if hurried:
                self._hurry.clear()
            ending = self._ending.is_set()
            while self._records:
                self._write(self._records.popleft())
            if self._dropped != self._reported:
                self._report()
            if hurried:
                self._written.set()
            if ending:
                return

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)

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
        self._write(record)


def log_to(stream: TextIO, level: str) -> None:
    """Have the server's own loggers write to `stream`, from `level` on.

    Does not affect the application's loggers. The last lines are written when the process ends.
    """
    server = logging.getLogger("tercel")
    for handler in server.handlers:
        if isinstance(handler, LogQueue):
            handler.end()
    server.handlers[:] = [LogQueue(stream, formatter=LineFormatter(FORMAT))]
    server.setLevel(level.upper())
    server.propagate = False
    if logging.lastResort is not None:
        # What asyncio and libraries log where the application has set up nothing.
        logging.lastResort.setFormatter(LineFormatter())


def flush_log() -> None:
    """Wait until the server's own loggers have written all, for a short time at most."""
    for handler in logging.getLogger("tercel").handlers:
        handler.flush()
