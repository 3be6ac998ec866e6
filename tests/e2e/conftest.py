"""A server with the demo application, shared by the tests that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.process import ServerProcess

# Five seconds by default: a browser's first page on a loaded machine may take longer.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the development certificates of these tests are."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def demo(data_directory: Path) -> Iterator[ServerProcess]:
    """`tercel` without an application, patient with clients on a loaded machine."""
    patience = ("--handshake-timeout", "120", "--header-timeout", "120", "--send-timeout", "120")
    with ServerProcess(*patience, data_directory=data_directory) as server:
        yield server
