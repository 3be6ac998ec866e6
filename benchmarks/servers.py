"""Starts tercel and its peers as subprocesses, and reads what they cost from /proc.

Each peer lives in a virtual environment of its own under `benchmarks/.venvs`, made on first use
from the pinned requirements in `benchmarks/peers`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS = 20.0


@dataclass(frozen=True)
class Certificate:
    """PEM files that every server in a run is given."""

    cert: Path
    key: Path
    ca: Path


class Server:
    """A running server: where it listens and what it has cost so far."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.process = process
        self.port = port

    def cpu_seconds(self) -> float:
        """User and system time of the process and all its children so far."""
        return sum(_cpu_seconds(pid) for pid in self._processes())

    def resident_bytes(self) -> int:
        """Resident memory of the process and all its children."""
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
            for pid in self._processes()
        )

    def _processes(self) -> list[int]:
        pids = [self.process.pid]
        for pid in pids:  # grows while it is walked: children of children too
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids.extend(int(child) for child in children)
        return pids


@contextmanager
def running(name: str, certificate: Certificate, *, http: str) -> Iterator[Server]:
    """Run server `name` with `benchmarks.app` on a free port; `http` is "3", "1" or "1-plain"."""
    port = _free_port()
    command = _COMMANDS[name](certificate, port, http)
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    with open(HERE / ".venvs" / f"{name}.log", "ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=HERE)
    try:
        _wait_until_serving(process, port, http)
        yield Server(name, process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def names() -> list[str]:
    """The servers that can be started, tercel first."""
    return list(_COMMANDS)


def _tercel(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [sys.executable, "-m", "tercel", "--no-access-log", "--log-level", "warning"]
    if http == "1-plain":
        # --bind is there for the certificate's sake only; nothing is sent to it.
        command += ["--bind", "127.0.0.1:0", "--plain-bind", f"127.0.0.1:{port}"]
    else:
        command += ["--bind", f"127.0.0.1:{port}"]
    command += ["--http", "3" if http == "3" else "1"]
    return [*command, "--cert", str(certificate.cert), "--key", str(certificate.key), "app:app"]


def _hypercorn(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [str(_peer_python("hypercorn")), "-m", "hypercorn", "-k", "uvloop"]
    if http == "1-plain":
        return [*command, "-b", f"127.0.0.1:{port}", "app:app"]
    command += ["--certfile", str(certificate.cert), "--keyfile", str(certificate.key)]
    if http == "3":
        command += ["--quic-bind", f"127.0.0.1:{port}"]
    return [*command, "-b", f"127.0.0.1:{port}", "app:app"]


_COMMANDS = {"tercel": _tercel, "hypercorn": _hypercorn}


def _peer_python(name: str) -> Path:
    home = HERE / ".venvs" / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        requirements = HERE / "peers" / f"{name}.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        (home / "ready").touch()
    return python


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_until_serving(process: subprocess.Popen[bytes], port: int, http: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.3 if http == "3" else 0.1)  # UDP comes up beside TCP, not before
            return
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def _cpu_seconds(pid: int) -> float:
    # The process name may hold blanks and brackets; the fields after it are fixed.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
