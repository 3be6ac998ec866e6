"""Context variables: what one request sets, no other request sees."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.shared.settings import Settings
from tests.contract.apps import Receive, Scope, Send, http_only, read, respond
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest, on_both_loops

_user: ContextVar[str] = ContextVar("user", default="nobody")
_SIZES = [0, 70_000, 1_500_000]
_QUIET = Settings(access_log=False)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@http_only
async def _remembering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with who was seen at the beginning; whoever has logged in is seen from there on."""
    seen = _user.get()
    _user.set("somebody")
    await read(receive)
    await respond(send, seen.encode())


@pytest.mark.parametrize("size", _SIZES)
@asynctest
async def test_a_request_does_not_see_context_variables_of_the_one_before(
    pair: Pair, size: int
) -> None:
    async with pair(_remembering) as client:
        for _ in range(3):
            exchange = await client.request("POST", content=bytes(size))
            assert bytes(exchange.content) == b"nobody"
        assert client.connections == 1


@pytest.mark.parametrize("place", ["tcp", "unix"])
@pytest.mark.parametrize("size", _SIZES)
@on_both_loops
async def test_a_request_in_cleartext_does_not_see_context_variables_of_the_one_before(
    size: int, place: str, tmp_path: Path
) -> None:
    async with _cleartext(place, tmp_path) as (reader, writer):
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(bytes(size))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert await reader.readexactly(6) == b"nobody"


@asynctest
async def test_a_server_sees_context_variables_of_who_made_it(pair: Pair) -> None:
    token = _user.set("the operator")
    try:
        async with pair(_remembering) as client:
            assert bytes((await client.get()).content) == b"the operator"
    finally:
        _user.reset(token)


@asynccontextmanager
async def _cleartext(place: str, directory: Path) -> AsyncIterator[Streams]:
    path = str(directory / "socket")
    where: dict[str, Any] = {"unix": path} if place == "unix" else {}
    server = tercel.serve("127.0.0.1", 0, _remembering, run_async=True, settings=_QUIET, **where)
    assert server is not None
    await server
    opened: Callable[[], Any] = (
        (lambda: asyncio.open_unix_connection(path))
        if place == "unix"
        else (lambda: asyncio.open_connection(*server.addresses[0].split(":")))
    )
    reader, writer = await opened()
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        await server.close()
