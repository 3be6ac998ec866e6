"""What h2load does, by curl_cffi (libcurl on ngtcp2, from PyPI), for where there is no h2load.

    python ngtcp2_load.py URL CONNECTIONS IN_FLIGHT SECONDS BODY_BYTES

It prints the lines of h2load that `loads.py` reads. It is slower than h2load, which makes no
difference to the CPU time per request of a server that is not idle in between.
"""

import asyncio
import statistics
import sys
import time

from curl_cffi import CurlHttpVersion
from curl_cffi.requests import AsyncSession

_LATENCIES = 100_000


class Load:
    """Sessions, each with requests in flight."""

    def __init__(self, url: str, in_flight: int, body: int) -> None:
        self._url = url
        self._in_flight = in_flight
        self._body = b"x" * body
        self.counting = False
        self.ended = False
        self.done = self.failed = 0
        self.latencies: list[float] = []

    async def session(self) -> None:
        """Send requests until `ended`."""
        async with AsyncSession(
            http_version=CurlHttpVersion.V3ONLY, verify=False, max_clients=self._in_flight
        ) as session:
            await asyncio.gather(*(self._requests(session) for _ in range(self._in_flight)))

    async def _requests(self, session: "AsyncSession[object]") -> None:
        while not self.ended:
            started = time.perf_counter()
            if self._body:
                response = await session.post(self._url, data=self._body)
            else:
                response = await session.get(self._url)
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
    url, connections, in_flight, seconds, body = sys.argv[1:]
    load = Load(url, int(in_flight), int(body))
    sessions = [asyncio.ensure_future(load.session()) for _ in range(int(connections))]
    await asyncio.sleep(1 + int(connections) / 50)
    print("Main benchmark duration is started", flush=True)
    load.counting = True
    await asyncio.sleep(float(seconds))
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
