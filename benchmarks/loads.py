"""The loads of a comparison. Each is bounded, and says how much work it was and what it cost.

The CPU time of the server is read around the measured part alone: not while connections are made,
unless they are what is measured.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import commands
import programs
from commands import NotSupported
from servers import Server

HERE = Path(__file__).resolve().parent
_IN_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass
class Work:
    """What one run of a load did: units of work, in `seconds`, for `cpu` seconds of the server.

    Latencies are milliseconds, None where the load cannot tell.
    """

    units: float
    seconds: float
    cpu: float
    p50: float | None = None
    p99: float | None = None


def h3(
    server: Server,
    seconds: int,
    *,
    connections: int,
    in_flight: int,
    path: str = "/plaintext",
    body: int = 0,
) -> Work:
    """Requests over HTTP/3 for `seconds`, with `body` bytes of content each; a unit is one."""
    if programs.speaks_http3("h2load"):
        command = [*programs.tool("h2load"), "--alpn-list=h3", "-D", f"{seconds}"]
        # As long as the slowest takes to make its connections.
        command += [f"--warm-up-time={1 + connections // 50}"]
        command += ["-c", f"{connections}", "-m", f"{in_flight}", f"{server.url}{path}"]
        if body:
            command += ["-d", str(body_file(body))]
    else:
        command = [sys.executable, str(HERE / "ngtcp2_load.py"), f"{server.url}{path}"]
        command += [f"{connections}", f"{in_flight}", f"{seconds}", f"{body}"]
    output, cpu = _run_marked(command, server)
    done = int(_find(r"(\d+) succeeded", output))
    failed = int(_find(r"(\d+) failed", output))
    if failed or not done:
        raise RuntimeError(f"{server.name}: {done} requests done, {failed} failed")
    times = _find(r"^(?:request|time for request) *: *(.*)$", output).split()
    # min, max, median, p95, p99, mean ...
    return Work(done, seconds, cpu, _milliseconds(times[2]), _milliseconds(times[4]))


def h1(
    server: Server, seconds: int, *, connections: int, path: str = "/plaintext", body: int = 0
) -> Work:
    """Requests over HTTP/1.1 with keep-alive for `seconds`; a unit is one."""
    command = [*programs.tool("wrk"), "-t", "1", "-c", f"{connections}", "-d", f"{seconds}s"]
    command += ["--latency", f"{server.url}{path}"]
    if body:
        command += ["-s", str(HERE / "post.lua"), "--", f"{body}"]
    before = server.cpu_seconds()
    output = programs.run(*command)
    cpu = server.cpu_seconds() - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"wrk against {server.name}: {output}")
    done = int(_find(r"(\d+) requests in", output))
    shares = dict(re.findall(r"^ *(50|99)% +([\d.]+(?:us|ms|s|m))$", output, re.MULTILINE))
    p50, p99 = (_milliseconds(shares[key]) if key in shares else None for key in ("50", "99"))
    return Work(done, seconds, cpu, p50, p99)


def download(server: Server, seconds: int, ca: Path, size: int) -> Work:
    """Downloads of `size` bytes, one after another for `seconds`; a unit is a megabit."""
    return _transfers(server, seconds, ca, size, f"/bytes/{size}", ())


def upload(server: Server, seconds: int, ca: Path, size: int) -> Work:
    """Uploads of `size` bytes, one after another for `seconds`; a unit is a megabit."""
    extra = ("-T", str(body_file(size)), "-H", "Expect:")
    return _transfers(server, seconds, ca, size, "/upload", extra)


def handshakes(server: Server, count: int, kind: str) -> Work:
    """`count` connections with one request each; a unit is a connection.

    `kind` is "full", or "resumed" for such as take up the session of an earlier one.
    """
    command = [sys.executable, str(HERE / "ngtcp2_handshakes.py"), f"{server.url}/plaintext"]
    output, cpu = _run_marked([*command, f"{count}", kind], server)
    return Work(int(_find(r"(\d+) succeeded, 0 failed", output)), 0, cpu)


def body_file(size: int) -> Path:
    """A file of `size` bytes to send."""
    path = commands.state_directory() / f"body-{size}"
    if not path.exists():
        path.write_bytes((bytes(range(256)) * (size // 256 + 1))[:size])
    return path


def _transfers(
    server: Server, seconds: int, ca: Path, size: int, path: str, extra: tuple[str, ...]
) -> Work:
    """At least one transfer: CPU time is counted in 10 ms, and some servers need less for one."""
    version = "--http1.1"
    if server.http == "3":
        if not programs.speaks_http3("curl"):
            raise NotSupported("no curl with HTTP/3")
        version = "--http3-only"
    command = [*programs.tool("curl"), "-sS", version, "--cacert", f"{ca}", "-o", "/dev/null"]
    command += ["-w", "%{json}", *extra, f"{server.url.replace('127.0.0.1', 'localhost')}{path}"]
    taken, count = 0.0, 0
    before = server.cpu_seconds()
    while taken < seconds:
        result = json.loads(programs.run(*command))
        if result["http_code"] != 200 or max(result["size_download"], result["size_upload"]) < size:
            seen = {key: result[key] for key in ("http_code", "size_download", "size_upload")}
            raise RuntimeError(f"curl against {server.name}: {seen}")
        taken += float(result["time_total"])
        count += 1
    return Work(count * size * 8 / 1e6, taken, server.cpu_seconds() - before)


def _run_marked(command: list[str], server: Server) -> tuple[str, float]:
    """Run a load that says when its measured part begins and ends; the server's CPU between."""
    lines = []
    cpu = 0.0
    # A terminal: into a pipe h2load writes its lines only when it ends.
    terminal, its_end = os.openpty()
    with subprocess.Popen(command, stdout=its_end, stderr=its_end) as process:
        os.close(its_end)
        try:
            for line in _lines(terminal):
                lines.append(line)
                if "Main benchmark duration is started" in line:
                    cpu -= server.cpu_seconds()
                elif "Main benchmark duration is over" in line:
                    cpu += server.cpu_seconds()
        except BaseException:
            process.kill()
            raise
    output = "".join(lines)
    if process.returncode or not cpu > 0:
        raise RuntimeError(f"{command!r}: {output}")
    return output, cpu


def _lines(terminal: int) -> Iterator[str]:
    with open(terminal, errors="replace", newline="\n") as reader:
        try:
            for line in reader:
                yield line.replace("\r", "")
        except OSError:  # Linux says so when the other end is closed
            return


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in: {text}")
    return match[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * _IN_MILLISECONDS[unit]
