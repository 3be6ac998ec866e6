"""Log lines that never make anybody wait."""

import logging
import os
import threading
from pathlib import Path

import pytest

from tercel.shared import logs
from tercel.shared.logs import LineFormatter, LogQueue, printable
from tests.support.asynchronous import PATIENCE_SECONDS


class Gate(logging.Handler):
    """Writes nothing until it is opened."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.lines = []
        self.entered = threading.Event()

    def emit(self, record):
        self.entered.set()
        self.open.wait(PATIENCE_SECONDS)
        self.lines.append(record.getMessage())


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a loaded machine it may take more than a second to write what is left."""
    monkeypatch.setattr(logs, "_CLOSE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def logger():
    logger = logging.Logger("test")
    yield logger
    for handler in logger.handlers:
        handler.close()


def test_lines_are_written_in_order_until_the_end(gate, logger):
    gate.open.set()
    queue = LogQueue(gate)
    logger.addHandler(queue)
    for number in range(1000):
        logger.info("line %d", number)
    queue.close()
    assert gate.lines == [f"line {number}" for number in range(1000)]


def test_a_stream_that_blocks_does_not_block_who_logs_and_costs_the_oldest_lines(gate, logger):
    queue = LogQueue(gate, capacity=100)
    logger.addHandler(queue)
    logger.info("first")
    assert gate.entered.wait(PATIENCE_SECONDS)
    for number in range(1000):
        logger.info("line %d", number)  # would never return
    assert queue.dropped == 900
    gate.open.set()
    queue.close()
    assert gate.lines[:2] == ["first", "line 900"]
    assert gate.lines[-2:] == [
        "line 999",
        "900 log lines were dropped: whoever takes them is too slow",
    ]


def test_a_stream_that_blocks_for_ever_does_not_keep_the_process(gate, logger, monkeypatch):
    monkeypatch.setattr(logs, "_CLOSE_SECONDS", 0.05)
    queue = LogQueue(gate)
    logger.addHandler(queue)
    logger.info("never written")
    assert gate.entered.wait(PATIENCE_SECONDS)
    queue.close()
    assert gate.lines == []


def test_a_pipe_that_nobody_reads_does_not_block(logger):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        queue = LogQueue(logging.StreamHandler(stream), capacity=1000)
        logger.addHandler(queue)
        for number in range(20_000):
            logger.info("line %d of many that fill a pipe of 64 KiB soon", number)
        assert queue.dropped > 10_000
        drained = threading.Thread(target=_read_all, args=(reader,))
        drained.start()
        queue.close()
    drained.join(PATIENCE_SECONDS)


def _read_all(reader):
    with os.fdopen(reader, "rb") as stream:
        while stream.read(65_536):
            pass


# -- what a client may have written ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Grüße 你好", "plain text, Grüße 你好"),
        ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("\x1b[31m\x9b1m\x7f", r"\x1b[31m\x9b1m\x7f"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\u202e\u2066\u200b\ufeff", r"\u202e\u2066\u200b\ufeff"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_printable_text_has_nothing_that_a_terminal_or_a_reader_of_lines_acts_on(text, shown):
    assert printable(text) == shown


def test_a_logger_s_messages_are_one_line_for_every_handler(caplog):
    log = logs.logger("tercel.test")
    log.error("of %s", "a client\n12:00:00 forged")
    log.error("of %d values, %r", 5, "text")
    assert caplog.messages == [r"of a client\n12:00:00 forged", "of 5 values, 'text'"]
    # Who matches templates and values finds those of what is printable.
    assert (caplog.records[1].msg, caplog.records[1].args) == ("of %d values, %r", (5, "text"))


def test_a_message_that_cannot_be_made_is_the_handler_s_to_tell(caplog, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logs.logger("tercel.test").warning("%d", "no number")


def test_no_line_of_a_record_but_its_first_begins_where_records_do():
    try:
        raise ValueError("one\n12:00:00 INFO forged\r\x1b[2J")
    except ValueError as error:
        record = logging.LogRecord(
            "tercel", logging.ERROR, __file__, 1, "of %s", ("x\ny",), (ValueError, error, None)
        )
    record.stack_info = "Stack (most recent call last):\n  here"
    lines = LineFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert lines[0] == r"ERROR of x\ny"
    assert all(line.startswith("    ") for line in lines[1:])
    assert r"    12:00:00 INFO forged\r\x1b[2J" in lines
    assert lines[-1] == "      here"


def test_every_logger_of_the_package_is_made_so_that_its_messages_are_one_line():
    package = Path(logs.__file__).parent.parent
    by_hand = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        if 'getLogger("tercel' in path.read_text("utf-8")
    ]
    # The first gives the handler to all; the second escapes what it logs.
    assert by_hand == ["entry.py", "shared/accesslog.py"]
