"""Connections to a server, each for one request, by curl_cffi (libcurl on ngtcp2, from PyPI).

    python ngtcp2_handshakes.py URL COUNT full|resumed

It prints the lines of h2load that `loads.py` reads. h2load itself knows no sessions, and a client
in Python, which needs more CPU time than the servers, would measure how they run beside it.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from curl_cffi import CurlHttpVersion, CurlOpt
from curl_cffi.requests import AsyncSession

# One at a time would measure how cold the server's caches are between two.
_AT_ONCE = 10


async def main() -> None:
    """Visit the server on several ways in parallel: once, and then to be measured."""
    url, count, kind = sys.argv[1:]
    options = {
        CurlOpt.FRESH_CONNECT: 1,
        CurlOpt.FORBID_REUSE: 1,
        CurlOpt.SSL_SESSIONID_CACHE: int(kind == "resumed"),
    }
    async with AsyncExitStack() as stack:
        # Tickets may be good for one connection only, so no two ways share theirs.
        sessions = [
            await stack.enter_async_context(
                AsyncSession(
                    http_version=CurlHttpVersion.V3ONLY, verify=False, curl_options=options
                )
            )
            for _ in range(_AT_ONCE)
        ]
        # It is these first ones whose sessions are taken up.
        await asyncio.gather(*(_visit(session, url, 1) for session in sessions))
        print("Main benchmark duration is started", flush=True)
        each = int(count) // _AT_ONCE
        done = await asyncio.gather(*(_visit(session, url, each) for session in sessions))
        print("Main benchmark duration is over", flush=True)
    print(f"requests: {sum(done)} succeeded, {int(count) - sum(done)} failed")


async def _visit(session: "AsyncSession[object]", url: str, times: int) -> int:
    """Connect, GET and leave, `times` times; how often the answer was 200."""
    done = 0
    for _ in range(times):
        response = await session.get(url)
        done += response.status_code == 200
    return done


if __name__ == "__main__":
    asyncio.run(main())
