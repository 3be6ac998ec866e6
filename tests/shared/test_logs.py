"""Log lines that never make anybody wait."""

import logging
import os
import threading

import pytest

from tercel.shared import logs
from tercel.shared.logs import LogQueue
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
