"""Context variables: what one request sets, no other request sees."""

from contextvars import ContextVar
from pathlib import Path

import pytest

from tests.contract.apps import Receive, Scope, Send, http_only, read, respond
from tests.contract.cleartext import PLACES, cleartext
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest, on_both_loops

_user: ContextVar[str] = ContextVar("user", default="nobody")
# The last is more than the kernel takes at once: reading pauses, and the task resumes it.
_SIZES = [0, 70_000, 1_500_000]


@http_only
async def _remembering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with who was seen at the beginning; from there on it is somebody else."""
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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", _SIZES)
@on_both_loops
async def test_a_request_in_cleartext_does_not_see_context_variables_of_the_one_before(
    size: int, place: str, tmp_path: Path
) -> None:
    async with cleartext(_remembering, place, tmp_path) as server:
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(bytes(size))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert await reader.readexactly(6) == b"nobody"
        writer.close()


@asynctest
async def test_requests_see_context_variables_of_who_made_the_server(pair: Pair) -> None:
    token = _user.set("the operator")
    try:
        async with pair(_remembering) as client:
            assert bytes((await client.get()).content) == b"the operator"
    finally:
        _user.reset(token)
