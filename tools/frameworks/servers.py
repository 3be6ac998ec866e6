"""The servers that an application is tried on: tercel, and others for comparison."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.frameworks.apps.contract import HOME

APPS = Path(__file__).parent / "apps"
ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class Served:
    """An application that is being served at `url`."""

    def __init__(self, url: str, ca_path: Path | None, log_path: Path) -> None:
        self.url = url
        self.ca_path = ca_path
        self._log_path = log_path

    @property
    def port(self) -> int:
        """Its port, the same on UDP and TCP."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """All that it wrote so far."""
        return self._log_path.read_text("utf-8", "replace")


@contextmanager
def tercel(app: str, *, root_path: str = "", pathsend: bool = False) -> Iterator[Served]:
    """Serve `app` on HTTP/3 and HTTP/1.1."""
    port = _free_port()
    command = ["-m", "tercel", "--bind", f"localhost:{port}"]
    command += ["--root-path", root_path] if root_path else []
    command += ["--pathsend"] if pathsend else []
    with _running([*command, app], port) as log_path:
        yield Served(f"https://localhost:{port}", HOME / "ca.pem", log_path)


@contextmanager
def uvicorn(app: str, *, root_path: str = "") -> Iterator[Served]:
    """Serve `app` on HTTP/1.1 in cleartext."""
    port = _free_port()
    command = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--root-path", root_path]
    with _running([*command, app], port) as log_path:
        yield Served(f"http://localhost:{port}", None, log_path)


@contextmanager
def sanic(app: str, *, root_path: str = "") -> Iterator[Served]:
    """Serve the Sanic application `app` by Sanic's own server; it knows no root path."""
    port = _free_port()
    command = ["-m", "sanic", app.replace(":", "."), "--host", "127.0.0.1", "--port", str(port)]
    with _running([*command, "--single-process", "--no-motd"], port) as log_path:
        yield Served(f"http://localhost:{port}", None, log_path)


@contextmanager
def _running(arguments: list[str], port: int) -> Iterator[Path]:
    """Run a server until the end of the block; the file that it logs to."""
    environment = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    environment |= {"TERCEL_DATA_DIR": str(HOME), "PYTHONPATH": f"{APPS}:{ROOT}"}
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "REFLEX_TELEMETRY_ENABLED": "false"}
    # What it compiles is a frontend, for which it needs Node.js.
    environment |= {"__REFLEX_SKIP_COMPILE": "true"}
    # Kept after the run, to be looked at.
    log_path = HOME / f"{port}.log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            [sys.executable, *arguments], cwd=HOME, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            _wait_until_serving(process, port, log_path)
            yield log_path
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_until_serving(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("it does not start: " + log.read_text("utf-8", "replace")[-500:])


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
