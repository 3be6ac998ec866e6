"""Debian's Chromium: served over HTTP/1.1 first, over HTTP/3 from then on, by Alt-Svc alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import chromium, quiet_pages, trusting
from tests.support.process import ServerProcess
from tests.support.programs import program

# Chromium tries QUIC beside TCP and takes what is faster, so it may need a few.
MOST_RELOADS = 50
NEXT_HOP = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
READ_EVENTS = """url => new Promise((resolve, reject) => {
    const events = [];
    const source = new EventSource(url);
    source.onmessage = event => {
        events.push(JSON.parse(event.data));
        if (events.length === 5) { source.close(); resolve(events); }
    };
    source.onerror = () => { source.close(); reject(new Error("interrupted")); };
})"""


@pytest.fixture
def page(data_directory: Path, tmp_path: Path) -> Iterator[Page]:
    """A page of a browser that has never been anywhere."""
    arguments = [
        trusting(data_directory),
        # QUIC takes an authority that is not Chromium's own only for hosts that are named here.
        # Nothing is served, so nothing is forced, on port 1; to the other port Alt-Svc leads.
        "--origin-to-force-quic-on=localhost:1",
    ]
    with chromium(tmp_path, arguments) as context, quiet_pages(context) as new_page:
        yield new_page()


def load_until_http_3(page: Page, demo: ServerProcess) -> list[str]:
    """Load the demo page until it comes over h3; what each came over."""
    page.goto(demo.url)
    hops = [page.evaluate(NEXT_HOP)]
    while hops[-1] != "h3" and len(hops) <= MOST_RELOADS:
        page.reload()
        hops.append(page.evaluate(NEXT_HOP))
    return hops


def test_chromium_comes_over_http_1_and_goes_on_over_http_3(
    page: Page, demo: ServerProcess
) -> None:
    hops = load_until_http_3(page, demo)
    assert (hops[0], hops[-1]) == ("http/1.1", "h3")
    expect(page.locator("#version")).to_have_text("HTTP/3")
    expect(page.locator("#browser-says")).to_have_text("h3")
    expect(page.locator("#check-says")).to_have_text("HTTP/3, browser: h3")


def test_the_page_uploads_and_downloads_over_http_3(page: Page, demo: ServerProcess) -> None:
    assert load_until_http_3(page, demo)[-1] == "h3"
    page.click("#upload")
    expect(page.locator("#upload-result")).to_contain_text("(the same here)")
    expect(page.locator("#upload-result")).to_contain_text("16777216 bytes over HTTP/3")
    page.click("#download")
    expect(page.locator("#download-result")).to_contain_text("16777216 bytes in")


def test_an_upload_and_a_download_can_be_stopped(
    page: Page, demo: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert load_until_http_3(page, demo)[-1] == "h3"
    # A gigabyte, as for the download: not over before anyone can press the button.
    large = tmp_path_factory.mktemp("upload") / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    page.set_input_files("#file", large)
    page.click("#upload")
    page.click("#upload-stop")
    expect(page.locator("#upload-result")).to_have_text("Stopped.")
    page.select_option("#size", "1073741824")
    page.click("#download")
    page.click("#download-stop")
    expect(page.locator("#download-result")).to_have_text("Stopped.")
    page.reload()
    assert page.evaluate(NEXT_HOP) == "h3"


def test_server_sent_events_arrive_over_http_3(page: Page, demo: ServerProcess) -> None:
    assert load_until_http_3(page, demo)[-1] == "h3"
    events = page.evaluate(READ_EVENTS, "/events?count=5&interval_ms=20")
    assert [(event["event"], event["http_version"]) for event in events] == [
        (number, "3") for number in range(1, 6)
    ]
    page.click("#events")
    expect(page.locator("#events-log li").first).to_contain_text("1 of 20, HTTP/3")
    page.click("#events-stop")
    expect(page.locator("#events-status")).to_have_text("Stopped.")


def test_the_page_reloads_itself_once_http_3_is_there(page: Page, demo: ServerProcess) -> None:
    page.goto(demo.url)
    assert page.evaluate(NEXT_HOP) == "http/1.1"
    page.click("#recheck")
    expect(page.locator("#version")).to_have_text("HTTP/3")


def test_the_command_that_is_printed_brings_http_3_at_once(
    data_directory: Path, demo: ServerProcess, tmp_path: Path
) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "tercel", "certs"],
        env=os.environ | {"TERCEL_DATA_DIR": str(data_directory)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    (command,) = (line.split()[2:] for line in printed.splitlines() if "  Chromium  " in line)
    _, *flags, url = (word.replace(":4433", f":{demo.port}") for word in command)
    assert url == f"{demo.url}/"
    with chromium(tmp_path, flags) as context, quiet_pages(context) as new_page:
        page = new_page()
        page.goto(url)
        assert page.evaluate(NEXT_HOP) == "h3"
        expect(page.locator("#advice")).to_be_hidden()


def test_an_authority_that_was_imported_is_not_enough_and_the_page_says_what_is(
    demo: ServerProcess, tmp_path: Path
) -> None:
    database = tmp_path / "home" / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for arguments in (
        ["-N", "--empty-password"],
        ["-A", "-n", "tercel", "-t", "C,,", "-i", str(demo.ca_path)],
    ):
        subprocess.run([program("certutil"), *arguments, "-d", f"sql:{database}"], check=True)
    home = os.environ | {"HOME": str(tmp_path / "home")}
    with (
        chromium(tmp_path / "profile", env=home) as context,
        quiet_pages(context) as new_page,
    ):
        page = new_page()
        for _ in range(4):
            page.goto(demo.url)
            expect(page.locator("#check-says")).to_contain_text("HTTP/1.1")
        assert page.evaluate(NEXT_HOP) == "http/1.1"
        flag = f"--origin-to-force-quic-on=localhost:{demo.port}"
        expect(page.locator("#advice")).to_contain_text(flag)
        expect(page.locator("#advice")).to_contain_text("tercel certs")


def test_the_page_fits_a_narrow_screen(page: Page, demo: ServerProcess) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(demo.url)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
