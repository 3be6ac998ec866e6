"""What h2load does, by curl_cffi (libcurl on ngtcp2, from PyPI), for where there is no h2load.

    python ngtcp2_load.py -c CONNECTIONS -m IN_FLIGHT -D SECONDS --warm-up-time SECONDS -B URL
                          -i TARGETS [-H FIELD]... [-d FILE]

It takes the options of h2load that `loads.py` gives, and prints the lines that it reads. It is
slower than h2load, which makes no difference to the CPU time per request of a server that is not
idle in between.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

from curl_cffi import CurlHttpVersion
from curl_cffi.requests import AsyncSession

_LATENCIES = 100_000


class Load:
    """Sessions, each with requests in flight."""

    def __init__(self, options: argparse.Namespace) -> None:
        uris = [urlsplit(line) for line in options.i.read_text().split()]
        targets = [f"{uri.path}?{uri.query}" if uri.query else uri.path for uri in uris]
        self._urls = [options.B + target for target in targets]
        # A list of pairs: there are two cookies. libcurl makes :authority of Host.
        fields = [line.removeprefix(":").partition(": ") for line in options.H]
        self._fields = [("host" if n == "authority" else n, value) for n, _, value in fields]
        self._in_flight = options.m
        self._body = options.d.read_bytes() if options.d else None
        self.counting = False
        self.ended = False
        self.done = self.failed = 0
        self.latencies: list[float] = []

    async def session(self) -> None:
        """Send requests until `ended`."""
        async with AsyncSession(
            http_version=CurlHttpVersion.V3ONLY,
            verify=False,
            max_clients=self._in_flight,
            default_headers=False,
        ) as session:
            places = range(self._in_flight)
            await asyncio.gather(*(self._requests(session, place) for place in places))

    async def _requests(self, session: "AsyncSession[object]", at: int) -> None:
        method = "GET" if self._body is None else "POST"
        while not self.ended:
            url = self._urls[at % len(self._urls)]
            at += self._in_flight
            started = time.perf_counter()
            response = await session.request(method, url, headers=self._fields, data=self._body)
            if not self.counting:
                continue
            if response.status_code != 200:
                self.failed += 1
                continue
            self.done += 1
            if len(self.latencies) < _LATENCIES:
                self.latencies.append(time.perf_counter() - started)


async def main() -> None:
    """Warm up, measure, and say what h2load says."""
    parser = argparse.ArgumentParser()
    for name in ("-c", "-m", "-D"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--warm-up-time", required=True, help="in milliseconds, and ms behind it")
    parser.add_argument("-B", required=True)
    parser.add_argument("-i", type=Path, required=True)
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", type=Path)
    options = parser.parse_args()
    load = Load(options)
    sessions = [asyncio.ensure_future(load.session()) for _ in range(options.c)]
    await asyncio.sleep(float(options.warm_up_time.removesuffix("ms")) / 1000)
    print("Main benchmark duration is started", flush=True)
    load.counting = True
    await asyncio.sleep(options.D)
    load.counting = False
    print("Main benchmark duration is over", flush=True)
    load.ended = True
    await asyncio.gather(*sessions)
    print(f"requests: {load.done} succeeded, {load.failed} failed")
    times = sorted(load.latencies) or [0.0]
    p95, p99 = (times[int(len(times) * share)] for share in (0.95, 0.99))
    shown = (times[0], times[-1], statistics.median(times), p95, p99)
    print("request :", *(f"{seconds * 1e6:.0f}us" for seconds in shown))


if __name__ == "__main__":
    asyncio.run(main())
