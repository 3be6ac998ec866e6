"""Firefox, driven by its own Marionette protocol: JSON arrays, each after its length."""

import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.programs import program

_START_SECONDS = 90
_POLL_SECONDS = 0.05


class Firefox:
    """A headless Firefox with a new profile that trusts the authority in `ca_path`.

    `preferences` are those of about:config.
    """

    def __init__(self, profile: Path, ca_path: Path, preferences: dict[str, Any]) -> None:
        self._profile = profile
        self._browser = program("firefox-esr", "firefox")
        certutil = program("certutil")
        database = f"sql:{profile}"
        for arguments in (
            ["-N", "--empty-password"],
            ["-A", "-n", "tercel", "-t", "C,,", "-i", str(ca_path)],
        ):
            subprocess.run([certutil, *arguments, "-d", database], check=True, capture_output=True)
        lines = (
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in ({"marionette.port": 0} | preferences).items()
        )
        (profile / "user.js").write_text("".join(lines))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                self._browser,
                "--headless",
                "--no-remote",
                "--marionette",
                "--profile",
                self._profile,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = self._connect()
            self._stream = self._socket.makefile("rb")
            self._read()
            self._commands = 0
            self.command("WebDriver:NewSession", {"acceptInsecureCerts": False})
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._socket.close()
        self._process.terminate()
        self._process.wait(_START_SECONDS)

    def navigate(self, url: str) -> None:
        """Load `url`, and wait until it has loaded."""
        self.command("WebDriver:Navigate", {"url": url})

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        script = {"script": f"return {expression}", "args": []}
        return self.command("WebDriver:ExecuteScript", script)["value"]

    def open_tab(self, url: str) -> None:
        """Load `url` in a new tab in front of the present one, which stays the one in use."""
        present = self.command("WebDriver:GetWindowHandle", {})["value"]
        tab = self.command("WebDriver:NewWindow", {"type": "tab", "focus": True})["handle"]
        self.command("WebDriver:SwitchToWindow", {"handle": tab, "focus": True})
        self.navigate(url)
        self.command("WebDriver:SwitchToWindow", {"handle": present, "focus": False})

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Run one command. Raises RuntimeError when Firefox refuses it."""
        self._commands += 1
        message = json.dumps([0, self._commands, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, number, error, result = self._read()
        assert number == self._commands
        if error is not None:
            raise RuntimeError(f"{name}: {error}")
        return result

    def _connect(self) -> socket.socket:
        port_file = self._profile / "MarionetteActivePort"
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                return socket.create_connection(
                    ("127.0.0.1", int(port_file.read_text())), timeout=_START_SECONDS
                )
            except (OSError, ValueError):
                time.sleep(_POLL_SECONDS)  # another process: there is nothing to wait on
        raise TimeoutError("Firefox did not open its Marionette port")

    def _read(self) -> Any:
        size = b""
        while (byte := self._stream.read(1)) != b":":
            if not byte:
                raise ConnectionError("Firefox has gone")
            size += byte
        return json.loads(self._stream.read(int(size)))
