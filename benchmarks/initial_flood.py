"""What a flood of Initials from nobody in particular does to clients that are there, and that come.

    python benchmarks/initial_flood.py [--rate 10000] [--seconds 10] [--newcomers 40]

Starts a server, measures the latency of small requests on one connection, then does so again while
another process sends Initials of many clients that never answer. Then lets honest clients connect
while that goes on. Prints the percentiles, how many came in, and what the server counted.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tests.support.h3_client import H3Client

PORT = 4743
POOL = 2000
# How long an honest client tries, and how long apart two of them come.
PATIENCE = 5.0
PAUSE = 0.02


def first_flights(count: int) -> list[bytes]:
    """The first datagrams of so many clients."""
    flights = []
    for _ in range(count):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE
        )
        quic = QuicConnection(configuration=configuration)
        quic.connect(("127.0.0.1", PORT), 0.0)
        flights.append(quic.datagrams_to_send(0.0)[0][0])
    return flights


def flood(pool: list[bytes], rate: int, seconds: float, sent: "multiprocessing.Value") -> None:
    """Send `rate` datagrams per second, in slices of a millisecond."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    started = time.monotonic()
    number = 0
    while (elapsed := time.monotonic() - started) < seconds:
        for _ in range(int(elapsed * rate) - number):
            # Another connection ID makes it another client's; that it cannot be decrypted then
            # is found out only by who tries.
            data = pool[number % len(pool)]
            sock.sendto(data, ("127.0.0.1", PORT))
            number += 1
        time.sleep(0.001)
    sent.value = number


async def latencies(client: H3Client, seconds: float) -> list[float]:
    """Milliseconds of small requests, one after another with a pause."""
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.perf_counter()
        response = await client.request("GET", "/health")
        found.append((time.perf_counter() - started) * 1000)
        assert response.status == 200
        await asyncio.sleep(0.005)
    return found


async def come_in(found: list[float]) -> None:
    """Connect and make a request; adds how many seconds that took, if it came to that."""
    started = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE), H3Client(PORT) as client:
            assert (await client.request("GET", "/health")).status == 200
            found.append(time.perf_counter() - started)


async def newcomers(count: int) -> list[float]:
    """Let so many honest clients come, one after another."""
    found: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(come_in(found))
            await asyncio.sleep(PAUSE)
    return found


def told(name: str, found: list[float]) -> float:
    """Print the percentiles; returns the 99th."""
    cuts = statistics.quantiles(found, n=100)
    print(
        f"{name:8} {len(found):5} requests  p50 {cuts[49]:6.2f} ms  p90 {cuts[89]:6.2f} ms  "
        f"p99 {cuts[98]:6.2f} ms  max {max(found):6.2f} ms"
    )
    return cuts[98]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(arguments: argparse.Namespace, server: subprocess.Popen[bytes]) -> None:
    pool = first_flights(POOL)
    sent = multiprocessing.Value("i", 0)
    async with H3Client(PORT) as client:
        await latencies(client, 1)
        before = told("before", await latencies(client, arguments.seconds))
        seconds = arguments.seconds + 1 + arguments.newcomers * PAUSE + PATIENCE
        sender = multiprocessing.Process(target=flood, args=(pool, arguments.rate, seconds, sent))
        used = cpu_seconds(server.pid)
        sender.start()
        await asyncio.sleep(0.5)
        during = told("during", await latencies(client, arguments.seconds))
        came_in = await newcomers(arguments.newcomers)
        sender.join()
        used = cpu_seconds(server.pid) - used
    print(
        f"{sent.value / seconds:.0f} Initials per second; p99 during / before {during / before:.2f}"
    )
    print(
        f"newcomers: {len(came_in)} of {arguments.newcomers}, "
        f"{sum(took <= 1 for took in came_in)} within a second"
    )
    print(f"server: {used / seconds:.2f} of a core, {used / sent.value * 1e6:.0f} us per Initial")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--newcomers", type=int, default=40)
    arguments = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "tercel", "--bind", f"127.0.0.1:{PORT}", "--no-access-log"]
    )
    try:
        time.sleep(2)
        asyncio.run(measure(arguments, server))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
