"""Debian's Chromium, headless, which trusts the development certificate of a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, sync_playwright

from tercel.certs.load import spki_hash
from tercel.certs.selfsigned import DevelopmentCertificates
from tests.support.programs import program


@contextmanager
def chromium(profile: Path, data_directory: Path, *arguments: str) -> Iterator[BrowserContext]:
    """A browser with a new profile in `profile`; `data_directory` has the certificates.

    `arguments` are further ones of its command line.
    """
    pinned = spki_hash(DevelopmentCertificates(data_directory).ca_certificate)
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
                f"--ignore-certificate-errors-spki-list={pinned}",
                *arguments,
            ],
            viewport={"width": 1280, "height": 900},
        )
        context.set_default_timeout(60_000)
        try:
            yield context
        finally:
            context.close()
