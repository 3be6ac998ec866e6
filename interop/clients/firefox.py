"""Firefox: python -m interop.clients.firefox COMMAND... URL...

Driven by Marionette, its own remote protocol (length, colon, JSON on TCP), so it needs no driver.
The authority gets into the profile by certutil (Debian: libnss3-tools).
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from interop.clients.pages import AUTHORITY, page_of, save_all
from interop.endpoint.contract import UNSUPPORTED

_PORT = 2828
_START_SECONDS = 30.0
_PREFERENCES = {
    "marionette.port": _PORT,
    # Without them, the first connection would be by TCP, and HTTP/3 only trusted for known roots.
    "network.http.http3.alt-svc-mapping-for-testing": "{host};h3=:{port}",
    "network.http.http3.disable_when_third_party_roots_found": False,
    "network.dns.forceResolve": "193.167.100.100",
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.normandy.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Marionette:
    """A session with a running Firefox."""

    def __init__(self) -> None:
        self._sock = _connect()
        self._number = 0
        self._receive()  # it introduces itself
        self.call("WebDriver:NewSession", {"acceptInsecureCerts": True})
        self.call("WebDriver:SetTimeouts", {"script": 60_000, "pageLoad": 60_000})

    def open(self, url: str) -> None:
        """Go to `url`."""
        self.call("WebDriver:Navigate", {"url": url})

    def evaluate(self, script: str) -> dict[str, Any]:
        """The value of the promise that `script` results in. Raises RuntimeError."""
        answer = self.call("WebDriver:ExecuteScript", {"script": f"return {script}", "args": []})
        value: dict[str, Any] = answer["value"]
        return value

    def call(self, name: str, parameters: dict[str, Any]) -> Any:
        """Run a command and wait for its result. Raises RuntimeError."""
        self._number += 1
        text = json.dumps([0, self._number, name, parameters]).encode()
        self._sock.sendall(b"%d:" % len(text) + text)
        _, _, error, result = self._receive()
        if error is not None:
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
        return result

    def _receive(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._read(1)
        return json.loads(self._read(int(length[:-1])))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._sock.recv(size - len(data))
            if not part:
                raise RuntimeError("Firefox has gone")
            data += part
        return bytes(data)


def main() -> None:
    """Download."""
    if shutil.which("certutil") is None:
        print("certutil is missing")
        sys.exit(UNSUPPORTED)
    first = next(i for i, text in enumerate(sys.argv) if text.startswith("https://"))
    command, urls = sys.argv[1:first], sys.argv[first:]
    with tempfile.TemporaryDirectory() as profile:
        _prepare(Path(profile), urls[0])
        process = subprocess.Popen(
            (*command, "--headless", "--marionette", "--no-remote", "--profile", profile)
        )
        try:
            browser = Marionette()
            browser.open(page_of(urls[0]))
            save_all(urls, browser.evaluate)
        finally:
            process.terminate()
            process.wait()


def _prepare(profile: Path, url: str) -> None:
    parts = urlsplit(url)
    lines = []
    for name, value in _PREFERENCES.items():
        if isinstance(value, str):
            value = value.format(host=parts.hostname, port=parts.port)
        lines.append(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    (profile / "user.js").write_text("".join(lines))
    database = f"sql:{profile}"
    subprocess.run(("certutil", "-N", "-d", database, "--empty-password"), check=True)
    add = ("certutil", "-A", "-d", database, "-n", "interop", "-t", "C,,", "-i", str(AUTHORITY))
    subprocess.run(add, check=True)


def _connect() -> socket.socket:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", _PORT), timeout=60)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
