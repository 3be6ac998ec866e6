"""Chromium: python -m interop.clients.chromium COMMAND... URL...

Driven by its DevTools protocol over two pipes, so it needs no port and no driver.
"""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from interop.clients.pages import page_of, public_key_hash, save_all


class Pages:
    """One page of a running Chromium."""

    def __init__(self, read: BinaryIO, write: BinaryIO) -> None:
        self._read = read
        self._write = write
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def open(self, url: str) -> None:
        """Go to `url`. Raises RuntimeError."""
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")

    def evaluate(self, script: str) -> dict[str, Any]:
        """The value of the promise that `script` results in. Raises RuntimeError."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        value: dict[str, Any] = answer["result"]["value"]
        return value

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result. Raises RuntimeError."""
        self._number += 1
        message: dict[str, Any] = {
            "id": self._number,
            "method": method,
            "params": parameters,
        }
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = json.loads(self._receive())
            if answer.get("id") != self._number:
                continue  # an event
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _receive(self) -> bytes:
        data = bytearray()
        while (byte := self._read.read(1)) not in (b"\0", b""):
            data += byte
        if not data:
            raise RuntimeError("Chromium has gone")
        return bytes(data)


def main() -> None:
    """Download."""
    first = next(i for i, text in enumerate(sys.argv) if text.startswith("https://"))
    command, urls = sys.argv[1:first], sys.argv[first:]
    origin = urlsplit(urls[0]).netloc
    to_browser, from_browser = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            (
                # The protocol's descriptors are 3 and 4.
                *("/bin/sh", "-c", f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}', "sh"),
                *command,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
                *(f"--user-data-dir={profile}", f"--origin-to-force-quic-on={origin}"),
                # A page that nothing was known of before gets a connection pool of its own.
                "--disable-features=PartitionConnectionsByNetworkIsolationKey",
                f"--ignore-certificate-errors-spki-list={public_key_hash()}",
                f"--ssl-key-log-file={os.environ['SSLKEYLOGFILE']}",
            ),
            pass_fds=(to_browser[0], from_browser[1]),
        )
        try:
            with open(from_browser[0], "rb") as read, open(to_browser[1], "wb") as write:
                pages = Pages(read, write)
                pages.open(page_of(urls[0]))
                save_all(urls, pages.evaluate)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
