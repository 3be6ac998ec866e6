"""tercel.h1.lifetime: what is left of a connection that has ended."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.h1.conftest import Tls
from tests.h1.serving import Client, Server, echo, nothing, serving
from tests.support.asynchronous import PATIENCE_SECONDS

Act = Callable[[Client, Server], Coroutine[Any, Any, None]]


async def nothing_asked(client: Client, server: Server) -> None:
    """A connection without a request."""


async def upload(client: Client, server: Server) -> None:
    """One that was served."""
    client.post("Content-Length: 3", content=b"abc")
    assert (await client.response()).content == b"abc"


async def upload_cut_off(client: Client, server: Server) -> None:
    """One that ends in the middle of a request."""
    server.application.script = nothing  # what `echo` raises keeps its frames, and they keep it
    client.post("Content-Length: 5", content=b"abc")
    await (await server.application.exchange()).reached("content")


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "cleartext"])
@pytest.mark.parametrize("act", [nothing_asked, upload, upload_cut_off])
@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_connection_that_ended_does_not_wait_for_the_garbage_collector(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], act: Act, secure: bool, tls: Tls
) -> None:
    """With TLS it would keep buffers of half a megabyte until then."""

    async def main() -> None:
        async with serving(echo, tls=tls.server if secure else None) as server:
            names: dict[str, Any] = {"ssl": tls.client, "server_hostname": "localhost"}
            client = await server.connect(**names if secure else {})
            await server.until(lambda: bool(server.connections))
            await act(client, server)
            held = references(server)
            gc.collect()
            gc.disable()
            client.close()
            server.application.exchanges.clear()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await server.until(lambda: not any(known() for known in held))

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    finally:
        gc.enable()


def references(server: Server) -> list[weakref.ref[Any]]:
    """Weak ones, to the only connection and its TLS."""
    connection = server.connection
    assert connection.transport is not None
    assert connection.info.protocol is connection
    tls = connection.transport.get_extra_info("ssl_object")
    return [weakref.ref(item) for item in (connection, tls) if item is not None]
