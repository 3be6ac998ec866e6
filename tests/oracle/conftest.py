"""Keeps aioquic quiet, which warns of everything that a script does wrong."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def quiet() -> Iterator[None]:
    """Turn aioquic's log off."""
    log = logging.getLogger("quic")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)
