"""What the applications have in common, so that each of them is only its framework's own words.

Each application answers, as far as its framework has it:

    GET /json?q=          {"q", "version", "state"}     POST /json      the content back
    POST /form            {"name", "filename", "size"}  POST /upload    {"size"}
    GET /stream           LINES                         GET /file       FILE
    GET /events?token=    an event; the second after GET /release?token=
    GET /endless?name=    until the client goes; then `done` has its name
    GET /work?name=       a background task; then `done` has its name     GET /done
    GET /cookie /session /redirect /error /sub/where /static/data.bin     WebSocket /ws: an echo
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[3] / "build" / "frameworks"
FILE = HOME / "files" / "data.bin"
# A file with CONTENT, which compresses well.
TEXT = HOME / "files" / "text.txt"
CONTENT = b"The same line again and again.\n" * 2000
LINES = [f"line {index}\n" for index in range(1000)]
STOPPED = "the application has stopped"

done: list[str] = []
state: dict[str, str] = {"state": "not started"}
_released: dict[str, asyncio.Event] = {}


def start() -> None:
    """To be called at the lifespan's startup."""
    state["state"] = "started"


def stop() -> None:
    """To be called at the lifespan's shutdown."""
    print(STOPPED, flush=True)


async def lines() -> AsyncIterator[str]:
    """A response of unknown length."""
    for line in LINES:
        yield line


async def events(token: str) -> AsyncIterator[str]:
    """Two events; the second when `release` was called."""
    released = _released.setdefault(token, asyncio.Event())
    yield "data: first\n\n"
    await released.wait()
    yield "data: second\n\n"


def release(token: str) -> None:
    """Let the second event go."""
    _released[token].set()


async def endless(name: str) -> AsyncIterator[str]:
    """A response that only ends with its client."""
    try:
        while True:
            yield "more\n" * 100
            await asyncio.sleep(0.02)
    finally:
        done.append(name)


async def work(name: str) -> None:
    """Something to do after the response."""
    await asyncio.sleep(0.05)
    done.append(name)


async def where(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application to mount: what it is told of its place."""
    text = f"{scope['root_path']} {scope['path']}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Lifespan:
    """Calls `start` and `stop` for an application whose framework has no lifespan."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the lifespan; all else is the application's."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stop()
        await send({"type": "lifespan.shutdown.complete"})
