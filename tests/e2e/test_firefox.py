"""Debian's Firefox, with the development authority imported: by Alt-Svc to HTTP/3, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.shared.apps.demo.pattern import pattern_sha256
from tests.support.firefox import Firefox
from tests.support.process import ServerProcess

MOST_RELOADS = 50
SIZE = 2_000_000
NEXT_HOP = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
# Down by /bytes and up again: the server tells the hash of what it made itself.
DOWN_AND_UP = f"""fetch("/bytes/{SIZE}").then(response => response.blob())
    .then(body => fetch("/upload", {{ method: "POST", body }}))
    .then(response => response.json())"""
READ_EVENTS = """new Promise((resolve, reject) => {
    const events = [];
    const source = new EventSource("/events?count=5&interval_ms=20");
    source.onmessage = event => {
        events.push(JSON.parse(event.data).http_version);
        if (events.length === 5) { source.close(); resolve(events); }
    };
    source.onerror = () => { source.close(); reject(new Error("interrupted")); };
})"""


# True, as it is by default, an authority of the user's own turns HTTP/3 off.
PREFERENCE = "network.http.http3.disable_when_third_party_roots_found"
ADVICE = "document.getElementById('advice').textContent"


WHEN_ADVISED = """new Promise(resolve => {
    const look = () => document.getElementById("advice").hidden
        ? requestAnimationFrame(look) : resolve(true);
    look();
})"""


@pytest.fixture
def firefox(demo: ServerProcess, tmp_path: Path) -> Iterator[Firefox]:
    with Firefox(tmp_path, demo.ca_path, {PREFERENCE: False}) as browser:
        yield browser


def test_firefox_comes_over_http_1_and_goes_on_over_http_3(
    firefox: Firefox, demo: ServerProcess
) -> None:
    hops: list[str] = []
    while hops[-1:] != ["h3"] and len(hops) < MOST_RELOADS:
        firefox.navigate(demo.url)
        hops.append(firefox.evaluate(NEXT_HOP))
    assert (hops[0], hops[-1]) == ("http/1.1", "h3")
    assert firefox.evaluate("document.getElementById('version').textContent") == "HTTP/3"
    expected = {"size": SIZE, "sha256": pattern_sha256(SIZE), "http_version": "3"}
    assert firefox.evaluate(DOWN_AND_UP) == expected
    assert firefox.evaluate(READ_EVENTS) == ["3"] * 5


def test_firefox_stays_on_http_1_by_default_and_the_page_says_why(
    demo: ServerProcess, tmp_path: Path
) -> None:
    with Firefox(tmp_path, demo.ca_path, {}) as firefox:
        for _ in range(4):
            firefox.navigate(demo.url)
            # The page has asked once more by then, and tells what it found.
            assert firefox.evaluate(WHEN_ADVISED)
        assert firefox.evaluate(NEXT_HOP) == "http/1.1"
        assert PREFERENCE in firefox.evaluate(ADVICE)
