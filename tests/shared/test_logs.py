"""Log lines that never make anybody wait, and that nothing silences."""

import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.shared import logs
from tercel.shared.logs import LineFormatter, LogQueue, printable
from tests.support.asynchronous import PATIENCE_SECONDS


class Gate(io.StringIO):
    """A stream that takes nothing until it is opened."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()

    def write(self, text):
        self.entered.set()
        self.open.wait(PATIENCE_SECONDS)
        return super().write(text)

    @property
    def lines(self):
        return self.getvalue().splitlines()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a loaded machine it may take more than a second to write what is left."""
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def logger():
    return logging.Logger("test")


@pytest.fixture
def queue_to():
    queues = []

    def make(stream, **options):
        queues.append(LogQueue(stream, formatter=LineFormatter(), **options))
        return queues[-1]

    yield make
    for queue in queues:
        queue.end()


def test_lines_are_written_in_order_until_the_end(gate, logger, queue_to):
    gate.open.set()
    queue = queue_to(gate)
    logger.addHandler(queue)
    for number in range(1000):
        logger.info("line %d", number)
    queue.end()
    assert gate.lines == [f"line {number}" for number in range(1000)]


def test_a_stream_that_blocks_does_not_block_who_logs_and_costs_the_oldest_lines(
    gate, logger, queue_to
):
    queue = queue_to(gate, capacity=100)
    logger.addHandler(queue)
    logger.info("first")
    assert gate.entered.wait(PATIENCE_SECONDS)
    for number in range(1000):
        logger.info("line %d", number)  # would never return
    assert queue.dropped == 900
    gate.open.set()
    queue.end()
    assert gate.lines[:2] == ["first", "line 900"]
    assert gate.lines[-2:] == [
        "line 999",
        "900 log lines were dropped: whoever takes them is too slow",
    ]


def test_flushing_waits_for_what_was_emitted_and_closing_ends_nothing(gate, logger, queue_to):
    gate.open.set()
    queue = queue_to(gate)
    logger.addHandler(queue)
    for number in range(3):
        logger.info("before %d", number)
        queue.flush()
        queue.close()
        assert gate.lines[-1] == f"before {number}"


def test_a_pipe_that_nobody_ever_reads_does_not_keep_the_process():
    reader, writer = os.pipe()
    program = """
import logging, sys
from tercel.shared.logs import log_to
log_to(sys.stderr, "info")
for number in range(2000):
    logging.getLogger("tercel.server").info("line %d of many that fill a pipe of 64 KiB", number)
"""
    try:
        subprocess.run(
            [sys.executable, "-c", program], stderr=writer, timeout=PATIENCE_SECONDS, check=True
        )
    finally:
        os.close(reader)
        os.close(writer)


def test_a_record_that_cannot_be_written_costs_no_other(logger, queue_to, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = io.StringIO()
    queue = queue_to(stream)
    logger.addHandler(queue)
    logger.info("%d", "no number")
    logger.info("a line")
    queue.flush()
    assert stream.getvalue() == "a line\n"


def test_a_pipe_that_nobody_reads_does_not_block(logger, queue_to):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        queue = queue_to(stream, capacity=1000)
        logger.addHandler(queue)
        for number in range(20_000):
            logger.info("line %d of many that fill a pipe of 64 KiB soon", number)
        assert queue.dropped > 10_000
        drained = threading.Thread(target=_read_all, args=(reader,))
        drained.start()
        queue.end()
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


def test_a_logger_cannot_be_disabled_and_keeps_the_class_that_a_program_gave_it():
    class Own(logging.Logger):
        pass

    before = logging.getLoggerClass()
    logging.setLoggerClass(Own)
    try:
        logging.getLogger("tercel.test.own")
    finally:
        logging.setLoggerClass(before)
    for _ in range(2):
        log = logs.logger("tercel.test.own")
        log.disabled = True
        assert log.isEnabledFor(logging.ERROR)
        assert isinstance(log, Own)


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


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-07-01T12:00:00+00:00"),
        ("Europe/Vienna", "2026-07-01T14:00:00+02:00"),
        ("Asia/Kolkata", "2026-07-01T17:30:00+05:30"),
    ],
)
def test_a_line_says_the_date_and_the_offset_of_its_zone(in_zone, zone, shown):
    in_zone(zone)
    formatter = LineFormatter("%(asctime)s %(message)s")
    record = logging.makeLogRecord({"msg": "text", "created": 1_782_907_200.9})
    later = logging.makeLogRecord({"msg": "text", "created": 1_782_907_201.0})
    assert formatter.format(record) == f"{shown} text"
    assert (
        formatter.format(later)
        == f"{shown.replace(':00:00', ':00:01').replace(':30:00', ':30:01')} text"
    )


@pytest.fixture
def in_zone(monkeypatch) -> Iterator:
    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def test_every_logger_of_the_package_is_made_so_that_its_messages_are_one_line():
    package = Path(logs.__file__).parent.parent
    by_hand = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        if 'getLogger("tercel' in path.read_text("utf-8")
    ]
    # Both are about the handlers of all of them.
    assert by_hand == ["entry.py", "shared/logs.py"]
