"""Browsers on heavy pages over HTTP/3: whatever they do, no budget comes near its end.

Chromium and Firefox speak HTTP/3 here from their first request on.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.budgets import logged_peaks
from tests.support.chromium import chromium, trusting
from tests.support.firefox import Firefox
from tests.support.process import ServerProcess

APP = "tests.e2e.apps.heavy:app"
# Of a burst.
MOST = 0.1


class Browser(Protocol):
    """What the tests need of a browser."""

    def navigate(self, url: str) -> None: ...

    def evaluate(self, expression: str) -> Any: ...

    def open_tab(self, url: str) -> None: ...


class ChromiumPage:
    """Chromium by the same names as Firefox."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._page = context.new_page()

    def navigate(self, url: str) -> None:
        self._page.goto(url)

    def evaluate(self, expression: str) -> Any:
        return self._page.evaluate(expression)

    def open_tab(self, url: str) -> None:
        self._context.new_page().goto(url, wait_until="commit")


@pytest.fixture
def server(data_directory: Path) -> Iterator[ServerProcess]:
    """A server for one test, which fails if a connection came near the end of a budget."""
    patience = ("--handshake-timeout", "120", "--header-timeout", "120", "--send-timeout", "120")
    # A browser that is told to quit leaves its downloads unfinished.
    options = (*patience, "--graceful-timeout", "0.1", "--log-level", "debug", "--no-access-log")
    with ServerProcess(APP, *options, data_directory=data_directory) as server:
        yield server
        server.terminate()
        assert server.wait(60) == 0
        log = server.log
    assert "limit met" not in log
    assert "closing the connection" not in log
    connections = logged_peaks(log)
    assert connections
    assert [peaks for peaks in connections if max(peaks.values(), default=0) > MOST] == []


def in_chromium(server: ServerProcess, data_directory: Path, profile: Path) -> Iterator[Browser]:
    """Chromium, on the first page."""
    forced = f"--origin-to-force-quic-on=localhost:{server.port}"
    with chromium(profile, [trusting(data_directory), forced]) as context:
        yield ChromiumPage(context)


def in_firefox(server: ServerProcess, data_directory: Path, profile: Path) -> Iterator[Browser]:
    """Firefox, on the first page."""
    preferences = {
        # Else an authority of the user's own turns HTTP/3 off.
        "network.http.http3.disable_when_third_party_roots_found": False,
        "network.http.http3.alt-svc-mapping-for-testing": f"localhost;h3=:{server.port}",
    }
    with Firefox(profile, server.ca_path, preferences) as firefox:
        yield firefox


@pytest.fixture(params=[in_chromium, in_firefox], ids=["chromium", "firefox"])
def browser(
    request: pytest.FixtureRequest, server: ServerProcess, data_directory: Path, tmp_path: Path
) -> Iterator[Browser]:
    """A browser on a page with the script."""
    start: Callable[..., Iterator[Browser]] = request.param
    for browser in start(server, data_directory, tmp_path):
        browser.navigate(f"{server.url}/")
        yield browser


def test_two_thousand_fetches_use_one_connection_and_no_budget(browser: Browser) -> None:
    came = browser.evaluate("heavy.fetches(2000, 50)")
    assert came == {"failed": 0, "ports": 1, "versions": ["3"]}


def test_five_hundred_images_that_scroll_by_use_no_budget(
    browser: Browser, server: ServerProcess
) -> None:
    browser.navigate(f"{server.url}/gallery?images=500&loading=lazy")
    assert browser.evaluate("heavy.images()") == 500


def test_three_hundred_cancelled_requests_use_no_budget(browser: Browser) -> None:
    assert browser.evaluate("heavy.cancelled(300, 100)") == 300
    assert browser.evaluate("heavy.fetches(10, 10)")["ports"] == 1


def test_a_hundred_websockets_use_no_budget(browser: Browser) -> None:
    assert browser.evaluate("heavy.websockets(100, 20)") == 2000


def test_a_storm_of_reloads_uses_no_budget(browser: Browser) -> None:
    assert browser.evaluate("heavy.storm(20, 500)") == 500


def test_tabs_in_the_background_and_abandoned_downloads_use_no_budget(
    browser: Browser, server: ServerProcess
) -> None:
    for tab in range(4):
        browser.open_tab(f"{server.url}/gallery?images=200&tab={tab}")
    assert browser.evaluate("heavy.abandoned(30)") == 30
    assert browser.evaluate("heavy.fetches(500, 50)")["failed"] == 0
