"""The clients of a comparison. Each load is bounded, and says how much work it did.

`h2load` with HTTP/3 and `curl` with HTTP/3 are looked for in PATH, then through the command in
TERCEL_BENCH_TOOLS, which is called with the tool's name and arguments; see README.md.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from servers import Certificate, Server

_LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Work:
    """What one run of a load did: `units` of work, in `seconds`."""

    units: float
    seconds: float


def small_gets(server: Server, connections: int, in_flight: int, seconds: float) -> Work:
    """Small GETs over HTTP/3 for `seconds`; a unit is a request."""
    output = _run(
        *tool("h2load"),
        *("--alpn-list=h3", "-D", f"{seconds:g}", "-c", f"{connections}", "-m", f"{in_flight}"),
        f"https://127.0.0.1:{server.port}/plaintext",
    )
    done = int(_find(r"(\d+) succeeded", output))
    failed = int(_find(r"(\d+) failed", output))
    if failed or not done:
        raise RuntimeError(f"h2load against {server.name}: {done} done, {failed} failed")
    return Work(done, seconds)


def small_gets_h1(server: Server, connections: int, seconds: float) -> Work:
    """Small GETs over cleartext HTTP/1.1 with keep-alive; a unit is a request."""
    output = _run(
        *tool("wrk"),
        *("-t", "1", "-c", f"{connections}", "-d", f"{seconds:g}s"),
        f"http://127.0.0.1:{server.port}/plaintext",
    )
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"wrk against {server.name}: {output}")
    return Work(int(_find(r"(\d+) requests in", output)), seconds)


def download(server: Server, certificate: Certificate, size: int) -> Work:
    """One download of `size` bytes over HTTP/3; a unit is a megabit."""
    return _transfer(server, certificate, size, f"/bytes/{size}", ())


def upload(server: Server, certificate: Certificate, size: int, source: Path) -> Work:
    """One upload of `size` bytes from the file `source` over HTTP/3; a unit is a megabit."""
    return _transfer(server, certificate, size, "/upload", ("--data-binary", f"@{source}"))


def handshakes(server: Server, count: int, concurrent: int) -> Work:
    """`count` connections with one request each; a unit is a connection."""
    output = _run(
        *tool("h2load"),
        *("--alpn-list=h3", "-n", f"{count}", "-c", f"{count}", "-m", "1"),
        *("-r", f"{concurrent}"),
        f"https://127.0.0.1:{server.port}/plaintext",
    )
    return Work(int(_find(r"(\d+) succeeded", output)), 0)


def _transfer(
    server: Server, certificate: Certificate, size: int, path: str, extra: tuple[str, ...]
) -> Work:
    output = _run(
        *tool("curl"),
        *("-sS", "--http3-only", "--cacert", f"{certificate.ca}", "-o", "/dev/null"),
        *("-w", '{"code": %{http_code}, "down": %{size_download}, "up": %{size_upload}}'),
        *extra,
        f"https://localhost:{server.port}{path}",
    )
    result = json.loads(output)
    if result["code"] != 200 or max(result["down"], result["up"]) < size:
        raise RuntimeError(f"curl against {server.name}: {output}")
    return Work(size * 8 / 1e6, 0)


@lru_cache
def tool(name: str) -> tuple[str, ...]:
    """The command that runs an external client."""
    wrapper = os.environ.get("TERCEL_BENCH_TOOLS")
    if wrapper and name != "wrk":
        return (*shlex.split(wrapper), name)
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing; benchmarks/README.md says how to get it")
    return (found,)


def _run(*command: str) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in: {text}")
    return match[1]
