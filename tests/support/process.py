"""tercel as users run it: a process of its own, from its command line."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path(__file__).parents[2]
_START_LINES = 10


def begin_stop(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Send a signal that stops a server, and return when its log on standard error says so.

    Without that line, returns when the process has ended.
    """
    process.send_signal(number)
    assert process.stderr is not None
    for line in process.stderr:
        if f"{number.name}: stopping" in line:
            return


class ServerProcess:
    """`python -m tercel` with `arguments`, on a free port of localhost unless they bind others.

        with ServerProcess(data_directory=path) as server:
            client.get(f"{server.url}/health")

    `data_directory` is where its development certificates are. The end of the block stops it
    gracefully, and fails if that fails.
    """

    def __init__(
        self, *arguments: str, data_directory: Path, may_log_tracebacks: bool = False
    ) -> None:
        self.port = 0
        self._terminated = False
        self._may_log_tracebacks = may_log_tracebacks
        self.ca_path = data_directory / "ca.pem"
        binding = () if "--bind" in arguments else ("--bind", "localhost:0")
        self._command = [sys.executable, "-m", "tercel", *binding, *arguments]
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TERCEL_")
        }
        self._environment["TERCEL_DATA_DIR"] = str(data_directory)

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"https://localhost:{self.port}"

    @property
    def resident_bytes(self) -> int:
        """How much memory it has now."""
        return self._memory("VmRSS")

    @property
    def peak_resident_bytes(self) -> int:
        """How much memory it has ever had."""
        return self._memory("VmHWM")

    @property
    def virtual_bytes(self) -> int:
        """How much address space it has now."""
        return self._memory("VmSize")

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to stop, once: a second time would mean not to wait."""
        if not self._terminated:
            self._terminated = True
            self._process.terminate()

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired when it has not ended by then."""
        return self._process.wait(seconds)

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        self._log.seek(0)
        return self._log.read().decode()

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            cwd=_ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        for _ in range(_START_LINES):
            line = self._process.stdout.readline().decode()
            if place := re.search(r"https://\S+:(\d+)", line):
                self.port = int(place[1])
                return self
        self._process.kill()
        self._process.wait()
        raise AssertionError(f"it does not serve: {self.log}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()
        try:
            code = self.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        finally:
            self._process.stdout.close()
        log = self.log
        self._log.close()
        if kind is None:
            assert code == 0, f"it ended with {code}: {log}"
            assert self._may_log_tracebacks or "Traceback" not in log, log

    def _memory(self, kind: str) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        size = re.search(rf"{kind}:\s+(\d+) kB", status)
        assert size is not None
        return int(size[1]) * 1024
