"""What aioquic logs of a connection."""

import logging

import pytest

from tercel.quic.transport.log_adapter import DebugLog

LOGGER = logging.getLogger("tests.quic.log_adapter")
LEVELS = ["debug", "info", "warning", "error", "critical"]


@pytest.fixture
def adapter(caplog):
    caplog.set_level(logging.DEBUG, LOGGER.name)
    return DebugLog(LOGGER, {"id": "c0ffee"})


@pytest.mark.parametrize("level", LEVELS)
def test_a_record_of_any_level_is_debug_and_names_its_connection(adapter, caplog, level):
    getattr(adapter, level)("%d bytes", 3)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.DEBUG, "c0ffee: 3 bytes")


def test_a_level_that_is_named_is_debug_too(adapter, caplog):
    adapter.log(logging.ERROR, "lost")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.DEBUG, "c0ffee: lost")


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_of_any_level_is_logged_above_debug(adapter, caplog, level):
    caplog.set_level(logging.INFO, LOGGER.name)
    getattr(adapter, level)("lost")
    adapter.log(logging.ERROR, "lost")
    assert not adapter.isEnabledFor(logging.ERROR)
    assert caplog.records == []
