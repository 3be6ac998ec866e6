"""Debian's Chromium, headless, driven by playwright."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

from tercel.certs.load import spki_hash
from tercel.certs.selfsigned import DevelopmentCertificates
from tests.support.programs import program


@contextmanager
def chromium(
    profile: Path, arguments: Sequence[str] = (), **options: Any
) -> Iterator[BrowserContext]:
    """A browser with a profile in `profile`, and with `arguments` on its command line.

    `options` are playwright's.
    """
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program("chromium"),
            headless=True,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                *arguments,
            ],
            viewport={"width": 1280, "height": 900},
            **options,
        )
        context.set_default_timeout(60_000)
        try:
            yield context
        finally:
            context.close()


def trusting(data_directory: Path) -> str:
    """The argument by which it trusts the development authority in `data_directory`."""
    pinned = spki_hash(DevelopmentCertificates(data_directory).ca_certificate)
    return f"--ignore-certificate-errors-spki-list={pinned}"


@contextmanager
def quiet_pages(context: BrowserContext) -> Iterator[Callable[[], Page]]:
    """Makes pages of one browser; its end fails for what their consoles show."""
    complaints: list[str] = []

    def make() -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: complaints.append(line.text) if line.type == "error" else None,
        )
        return page

    yield make
    assert complaints == []
