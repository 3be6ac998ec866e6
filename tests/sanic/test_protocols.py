"""Protocol classes in a program's own hands, as with those of Sanic's server."""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any, cast

from sanic import text

import tercel
from tercel.server import AsyncioServer
from tests.contract.h1 import H1PlainClient
from tests.sanic.shop import make
from tests.support.asynchronous import asynctest


def client_of(port: int) -> H1PlainClient:
    return H1PlainClient(cast(AsyncioServer, SimpleNamespace(addresses=[f"127.0.0.1:{port}"])))


def in_process(name: str) -> Any:
    """The shop, started as it was written: Sanic rewrites its own source once per process only."""
    app = make(f"{name}-{uuid.uuid4().hex}")
    app.config.TOUCHUP = False
    return app


@asynctest
async def test_subclass_is_served_and_is_what_requests_call_their_protocol() -> None:
    class Counting(tercel.WebSocketProtocol):
        made = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            Counting.made += 1

    app = in_process("subclassed")
    seen: list[Any] = []

    @app.get("/protocol")
    async def protocol(request: Any) -> Any:
        seen.append((request.protocol, request.transport.get_protocol(), request.protocol.state))
        return text("seen")

    state: dict[str, Any] = {"mine": True}
    server = tercel.serve(
        "127.0.0.1", 0, app, protocol=Counting, state=state, run_async=True, version=1
    )
    assert server is not None
    async with server:
        client = client_of(int(server.addresses[0].rpartition(":")[2]))
        assert (await client.get("/protocol")).status == 200
        await client.close()
    (one, other, seen_state) = seen[0]
    assert Counting.made == 1
    assert one is other
    assert isinstance(one, Counting)
    assert seen_state is state
    assert state["requests_count"] == 1


@asynctest
async def test_protocol_that_a_program_makes_itself_serves_a_sanic_application() -> None:
    app = in_process("by-hand")
    loop = asyncio.get_running_loop()
    await app._startup()
    connections: set[Any] = set()
    listening = await loop.create_server(
        lambda: tercel.HttpProtocol(loop=loop, app=app, connections=connections),
        "127.0.0.1",
        0,
    )
    client = client_of(listening.sockets[0].getsockname()[1])
    exchange = await client.get("/version")
    assert bytes(exchange.content) == b"1.1 1"
    assert len(connections) == 1
    await client.close()
    listening.close()
