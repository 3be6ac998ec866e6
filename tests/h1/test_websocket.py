"""WebSocketProtocol, and the byte stream of a connection, as who uses them directly sees them."""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from sanic import Sanic
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol

import tercel
from tercel import SanicProtocol, ServerError, WebsocketImplProtocol, WebSocketProtocol
from tests.h1.conftest import Tls
from tests.support.direct import DIRECT


class Stream:
    """`request.stream` of a Sanic application."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def websocket_handshake(self, subprotocols: Any, **options: Any) -> str:
        self.asked.append((subprotocols, options))
        return "websocket"


def protocol(**options: Any) -> WebSocketProtocol:
    return WebSocketProtocol(loop=asyncio.get_running_loop(), app=None, **options)


async def test_the_limits_of_the_connection_are_those_of_its_websocket() -> None:
    stream = Stream()
    connection = protocol(
        websocket_timeout=1.0,
        websocket_max_size=1000,
        websocket_ping_interval=None,
        websocket_ping_timeout=0.5,
    )
    granted = await connection.websocket_handshake(SimpleNamespace(stream=stream), ["one"])
    assert granted == connection.websocket == "websocket"
    assert stream.asked == [
        (
            ["one"],
            {"close_timeout": 1.0, "max_size": 1000, "ping_interval": 0.0, "ping_timeout": 0.5},
        )
    ]


async def test_what_is_left_as_it_is_comes_from_the_settings() -> None:
    stream = Stream()
    connection = protocol()
    assert connection.websocket is None
    assert (connection.websocket_timeout, connection.websocket_max_size) == (10.0, None)
    await connection.websocket_handshake(SimpleNamespace(stream=stream))
    ((subprotocols, options),) = stream.asked
    assert subprotocols is None
    assert set(options.values()) == {None}


def test_a_request_of_sanic_becomes_one_of_the_library() -> None:
    class Headers:
        def items(self) -> list[tuple[str, str]]:
            return [("host", "localhost"), ("cookie", "a=1"), ("cookie", "b=2")]

    request = WebSocketProtocol.sanic_request_to_ws_request(
        SimpleNamespace(path="/chat", headers=Headers())
    )
    assert request.path == "/chat"
    assert request.headers["Host"] == "localhost"
    assert request.headers.get_all("Cookie") == ["a=1", "b=2"]


class Small(WebSocketProtocol):
    """As WebSocketProtocol is configured: by what makes the connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(websocket_max_size=1000, websocket_ping_interval=3.0, **options)


async def test_a_sanic_application_gets_the_websocket_from_its_connection() -> None:
    app = Sanic(f"small-{uuid.uuid4().hex}")
    app.config.TOUCHUP = False  # it works once in a process
    seen: list[Any] = []

    @app.websocket("/ws", subprotocols=["chat"])  # type: ignore[untyped-decorator]
    async def echo(request: Any, websocket: WebsocketImplProtocol) -> None:
        connection = request.transport.get_protocol()
        seen.extend((connection.websocket is websocket, connection.byte_stream is not None))
        seen.extend((websocket.ping_interval, websocket.ping_timeout, websocket.subprotocol))
        seen.append(connection.sanic_request_to_ws_request(request).path)
        async for message in websocket:
            await websocket.send(message)

    serving = tercel.serve("127.0.0.1", 0, app, protocol=Small, run_async=True)
    assert serving is not None
    server = await serving
    port = server.addresses[0].rpartition(":")[2]
    url = f"ws://127.0.0.1:{port}/ws"
    async with connect(url, subprotocols=["chat"], **DIRECT) as client:  # type: ignore[list-item]
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009
    await server.close()
    assert seen == [True, True, 3.0, 20.0, "chat", "/ws"]


async def test_a_connection_without_an_upgrade_is_no_byte_stream() -> None:
    with pytest.raises(ServerError):
        _ = protocol().byte_stream


class Echo(SanicProtocol):
    """A WebSocket on a connection that knows no HTTP but the library's handshake."""

    made: "list[Echo]"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.handshake = ServerProtocol(max_size=None)
        self.websocket: WebsocketImplProtocol | None = None
        self.task: asyncio.Task[None] | None = None
        self.made.append(self)

    def data_received(self, data: bytes) -> None:
        if self.websocket is not None:
            self.websocket.data_received(data)
            return
        self.handshake.receive_data(data)
        for request in self.handshake.events_received():
            self.handshake.send_response(self.handshake.accept(request))  # type: ignore[arg-type]
            self.websocket = WebsocketImplProtocol(self.handshake, close_timeout=5)
            self.task = self.loop.create_task(self.run(self.websocket))

    def eof_received(self) -> bool:
        if self.websocket is not None:
            self.websocket.eof_received()
        return not self.info.secure

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.websocket is not None:
            self.websocket.connection_lost(exc)

    async def run(self, websocket: WebsocketImplProtocol) -> None:
        await websocket.connection_made(self)
        await websocket.send_data(self.handshake.data_to_send())
        async for message in websocket:
            await websocket.send(message)
        await websocket.close()


@pytest.mark.parametrize("secure", [False, True], ids=["cleartext", "TLS"])
async def test_a_websocket_runs_on_a_protocol_of_ones_own(secure: bool, tls: Tls) -> None:
    loop = asyncio.get_running_loop()
    Echo.made = []
    server = await loop.create_server(
        lambda: Echo(loop=loop, app=None), "127.0.0.1", 0, ssl=tls.server if secure else None
    )
    port = server.sockets[0].getsockname()[1]
    options: dict[str, Any] = {"ssl": tls.client} if secure else {}
    scheme = "wss" if secure else "ws"
    async with (
        server,
        connect(f"{scheme}://localhost:{port}/", max_size=None, **DIRECT, **options) as client,
    ):
        for message in ("hello", b"x" * 3_000_000, "bye"):
            await client.send(message)
            assert await client.recv() == message
        await client.close()
        assert client.close_code == 1000
        (echo,) = Echo.made
        assert echo.task is not None
        await echo.task


async def test_the_byte_stream_of_a_connection_holds_writers_and_the_peer_back() -> None:
    loop = asyncio.get_running_loop()
    made: list[SanicProtocol] = []

    def factory() -> SanicProtocol:
        made.append(SanicProtocol(loop=loop, app=None))
        return made[0]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        while not made or made[0].transport is None:
            await asyncio.sleep(0)
        stream = made[0].byte_stream
        assert stream.connection is made[0].info
        stream.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert (stream.writable, stream.unsent) == (True, 0)
        written, turns = 5, 0
        while turns < 20:  # until the kernel takes no more
            turns += 1
            if stream.writable:
                stream.write(bytes(1_000_000))
                written, turns = written + 1_000_000, 0
            await asyncio.sleep(0)
        assert stream.unsent
        drained = asyncio.ensure_future(stream.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        assert len(await reader.readexactly(written - 5)) == written - 5
        await drained
        stream.pause_reading()
        stream.resume_reading()
        stream.write_eof()
        assert await reader.read() == b""
        stream.close()
        stream.write(b"too late")
        stream.abort()
        writer.close()
        await writer.wait_closed()
