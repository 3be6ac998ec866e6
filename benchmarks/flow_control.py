"""Memory and latency while one side of an exchange is slow: the full sizes of what tests show.

    python benchmarks/flow_control.py [--seconds 30]

Two exchanges of 1 GiB each, over HTTP/3 and over HTTP/1.1: an upload to an application that reads
1 MiB/s, and a download to a client that all but stops reading. While each runs for `--seconds`,
small GETs go on, on another connection and (HTTP/3) on one that itself has a stalled upload.
"""

import argparse
import asyncio
import statistics
import subprocess
import time
from asyncio.subprocess import DEVNULL
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import programs
import servers
from quic_client import open_client
from servers import Certificate, Server, development_certificate

_RESULTS = servers.HERE / "results" / "flow-control.md"
GIB = 1 << 30
STALLED_UPLOAD_BYTES = 16 << 20


@dataclass
class Seen:
    """What was seen while one exchange was slow."""

    name: str
    memory_before: int
    memory_most: int
    latencies: dict[str, list[float]]


async def observe(name: str, server: Server, command: list[str], seconds: float) -> Seen:
    """Run the slow exchange that `command` is for `seconds`, and watch."""
    latencies: dict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        other = await open_client(stack, server.port)
        same = await open_client(stack, server.port)
        probes: dict[str, Callable[[], Awaitable[None]]] = {
            "same connection": lambda: same.get(b"/plaintext"),
            "other connection": lambda: other.get(b"/plaintext"),
        }
        for _ in range(20):
            await time_each(probes, latencies, " before")
        before = most = server.resident_bytes()
        same.offer_upload(b"/slow-upload", STALLED_UPLOAD_BYTES)
        slow = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if slow.returncode is not None:
                    raise RuntimeError(f"{command!r} ended early with {slow.returncode}")
                await time_each(probes, latencies, " during")
                most = max(most, server.resident_bytes())
                await asyncio.sleep(0.1)
        finally:
            if slow.returncode is None:
                slow.kill()
                await slow.wait()
    return Seen(name, before, most, latencies)


def memory_added(server: Server, *, upload: bool, seconds: float = 12.0) -> float:
    """KiB that a transfer of 1 GiB adds at most within `seconds`, while its reader is slow."""
    version = "--http3-only" if server.http == "3" else "--http1.1"
    name = f"{'upload' if upload else 'download'} {version}"
    for path in ("/plaintext", "/bytes/1000000"):  # what is loaded or grown once
        curl = [*programs.tool("curl"), "-sSk", version, "-o", "/dev/null"]
        programs.run(*curl, f"{server.url}{path}")
    before = most = server.resident_bytes()
    command = slow_exchanges(server, development_certificate())[name]
    with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as slow:
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if slow.poll() is not None:
                    raise RuntimeError(f"{command!r} ended early with {slow.returncode}")
                most = max(most, server.resident_bytes())
                time.sleep(0.05)
        finally:
            slow.kill()
    return (most - before) / 1024


async def time_each(
    probes: dict[str, Callable[[], Awaitable[None]]], into: dict[str, list[float]], suffix: str
) -> None:
    """Time one request of each probe."""
    for name, probe in probes.items():
        started = time.perf_counter()
        await probe()
        into[name + suffix].append((time.perf_counter() - started) * 1000)


def slow_exchanges(server: Server, certificate: Certificate) -> dict[str, list[str]]:
    """The commands of the slow exchanges. The shell is only there to make a 1 GiB body."""
    curl = [*programs.tool("curl"), "-sS", "--cacert", str(certificate.ca)]
    base = f"https://localhost:{server.port}"
    commands = {}
    for version in ("--http3-only", "--http1.1"):
        upload = [*curl, version, "-T", "-", "-o", "/dev/null", f"{base}/slow-upload"]
        script = f'head -c {GIB} /dev/zero | exec "$@"'
        commands[f"upload {version}"] = ["sh", "-c", script, "sh", *upload]
        commands[f"download {version}"] = [
            *curl,
            *(version, "--limit-rate", "1K", "-o", "/dev/null", f"{base}/bytes/{GIB}"),
        ]
    return commands


def main() -> None:
    """Print one line per slow exchange, and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    certificate = development_certificate()
    lines = [
        "| 1 GiB exchange | memory added | latency p50 / p99 before -> during, ms |",
        "|---|---|---|",
    ]
    print("\n".join(lines))
    with servers.running("tercel", certificate, http="3") as server:
        for name, command in slow_exchanges(server, certificate).items():
            seen = asyncio.run(observe(name, server, command, options.seconds))
            lines.append(f"| {name} | {added(seen)} | {latency(seen)} |")
            print(lines[-1], flush=True)
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text("\n".join(lines) + "\n")


def added(seen: Seen) -> str:
    """The memory that the exchange added, in MiB."""
    return f"{(seen.memory_most - seen.memory_before) / (1 << 20):.1f} MiB"


def latency(seen: Seen) -> str:
    """p50 and p99 of each probe, before and during."""
    parts = []
    for probe in ("same connection", "other connection"):
        figures = []
        for phase in (" before", " during"):
            values = sorted(seen.latencies[probe + phase])
            p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
            figures.append(f"{statistics.median(values):.1f} / {p99:.1f}")
        parts.append(f"{probe}: {' -> '.join(figures)}")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
