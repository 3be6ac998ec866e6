"""Memory and latency while one side of an exchange is slow: the full sizes of what tests show.

    python benchmarks/flow_control.py [--seconds 30]

Two exchanges of 1 GiB each, over HTTP/3 and over HTTP/1.1: an upload to an application that reads
1 MiB/s, and a download to a client that all but stops reading. While each runs for `--seconds`,
small GETs go on, on another connection and (HTTP/3) on one that itself has a stalled upload.
"""

import argparse
import asyncio
import ssl
import statistics
import time
from asyncio.subprocess import DEVNULL
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import loads
import servers
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from compare import development_certificate
from servers import Certificate, Server

GIB = 1 << 30
STALLED_UPLOAD_BYTES = 16 << 20


class Http3Client(QuicConnectionProtocol):
    """Just enough HTTP/3 to time a GET and to offer an upload."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._authority = b""

    def offer_upload(self, path: bytes, size: int) -> None:
        """Queue `size` bytes; they leave as the server gives credit."""
        stream_id = self._request(b"POST", path, ended=False)
        self._http.send_data(stream_id, bytes(size), end_stream=True)
        self.transmit()

    async def get(self, path: bytes) -> None:
        """Return when the response's head has come."""
        stream_id = self._request(b"GET", path, ended=True)
        self._waiting[stream_id] = asyncio.get_running_loop().create_future()
        self.transmit()
        await asyncio.wait_for(self._waiting[stream_id], 20)

    def quic_event_received(self, event: QuicEvent) -> None:
        for item in self._http.handle_event(event):
            if isinstance(item, HeadersReceived):
                waiter = self._waiting.pop(item.stream_id, None)
                if waiter is not None:
                    waiter.set_result(None)

    def _request(self, method: bytes, path: bytes, *, ended: bool) -> int:
        stream_id: int = self._quic.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost")]
        self._http.send_headers(stream_id, [*fields, (b":path", path)], end_stream=ended)
        return stream_id


@dataclass
class Seen:
    """What was seen while one exchange was slow."""

    name: str
    memory_before: int
    memory_most: int
    latencies: dict[str, list[float]]


async def observe(
    name: str, server: Server, certificate: Certificate, command: list[str], seconds: float
) -> Seen:
    """Run the slow exchange that `command` is for `seconds`, and watch."""
    latencies: dict[str, list[float]] = defaultdict(list)
    configuration = QuicConfiguration(alpn_protocols=["h3"], cafile=str(certificate.ca))
    async with (
        connect(
            "localhost",
            server.port,
            configuration=configuration,
            create_protocol=Http3Client,
        ) as other,
        connect(
            "localhost",
            server.port,
            configuration=configuration,
            create_protocol=Http3Client,
        ) as same,
    ):
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
            slow.kill()
            await slow.wait()
    return Seen(name, before, most, latencies)


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
    curl = [*loads.tool("curl"), "-sS", "--cacert", str(certificate.ca)]
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
    """Print one line per slow exchange."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    (servers.HERE / ".venvs").mkdir(exist_ok=True)
    certificate = development_certificate()
    ssl.create_default_context()  # load what it loads before memory is compared
    print("| 1 GiB exchange | memory added | latency p50 / p99 before -> during, ms |")
    print("|---|---|---|")
    with servers.running("tercel", certificate, http="3") as server:
        for name, command in slow_exchanges(server, certificate).items():
            seen = asyncio.run(observe(name, server, certificate, command, options.seconds))
            print(f"| {name} | {added(seen)} | {latency(seen)} |", flush=True)


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
