"""System calls of a server per unit of work, counted by strace. Never in a timed round."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import commands
import programs
from loads import Work
from servers import Server

_ATTACH_SECONDS = 10.0


def per_unit(server: Server, load: Callable[[], Work]) -> float | None:
    """System calls per unit of `load`; None without strace, or where it may not attach."""
    strace = programs.find("strace")
    if strace is None:
        return None
    report = commands.state_directory() / "strace"
    report.unlink(missing_ok=True)
    command = [*strace, "-c", "-f", "-o", str(report)]
    for pid in server.processes():
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            if not _attached(process, server):
                return None
            work = load()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=_ATTACH_SECONDS)
    total = re.search(
        r"^ *100\.00 +\S+ +(?:\S+ +)?(\d+) +(?:\d+ +)?total", report.read_text(), re.M
    )
    return None if total is None else int(total[1]) / work.units


def _attached(process: "subprocess.Popen[bytes]", server: Server) -> bool:
    deadline = time.monotonic() + _ATTACH_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        statuses = (Path(f"/proc/{pid}/status").read_text() for pid in server.processes())
        if all("TracerPid:\t0" not in status for status in statuses):
            return True
        time.sleep(0.05)
    return False
