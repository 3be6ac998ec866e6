"""A server of HTTP/1.1 in cleartext in this very loop, and raw connections to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tercel
from tercel.server import AsyncioServer
from tercel.shared.settings import Settings
from tests.support.asynchronous import PATIENCE_SECONDS

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PLACES = ["tcp", "unix"]


class Cleartext:
    """A server at a TCP port, or at a unix socket."""

    def __init__(self, server: AsyncioServer, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.server = server
        self.connect = connect

    async def ask(self, request: bytes) -> Streams:
        """A new connection, on which `request` was sent."""
        reader, writer = await self.connect()
        writer.write(request)
        return reader, writer


@asynccontextmanager
async def cleartext(
    app: Any, place: str, directory: Path, **settings: Any
) -> AsyncIterator[Cleartext]:
    """Serve `app` at `place`, one of PLACES; a unix socket lies in `directory`."""
    path = str(directory / "socket")
    where = {"unix": path} if place == "unix" else {}
    chosen = Settings(access_log=False, **settings)
    server = tercel.serve("127.0.0.1", 0, app, run_async=True, settings=chosen, **where)
    assert server is not None
    await server

    async def connect() -> Streams:
        if place == "unix":
            return await asyncio.open_unix_connection(path)
        return await asyncio.open_connection(*server.addresses[0].split(":"))

    try:
        yield Cleartext(server, connect)
    finally:
        await asyncio.wait_for(server.close(), PATIENCE_SECONDS)
