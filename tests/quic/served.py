"""A real endpoint on loopback UDP, with an application that a test writes as one function."""

import asyncio
import contextlib
import inspect
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from tercel.quic.endpoint import QuicEndpoint
from tercel.quic.http3.protocol import Http3Protocol
from tercel.shared.connection import ServerContext
from tercel.shared.errors import ServerError, StreamAborted
from tercel.shared.messages import ResponseHead
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestHandler, RequestStream
from tests.quic.pair import DEFAULTS
from tests.support.asynchronous import PATIENCE_SECONDS
from tests.support.credentials import credential

Script = Callable[["Exchange"], Any]


class Exchange(RequestHandler):
    """One request as the application sees it. Reads what comes, unless `reading` is off."""

    def __init__(self, stream: RequestStream, changed: asyncio.Event, *, reading: bool) -> None:
        self.stream = stream
        self.body = bytearray()
        self.reading = reading
        self.on_content: Callable[[], None] | None = None
        """Called at once when content has come."""
        self.calls: list[str] = []
        self.error: ServerError | None = None
        self.failure: Exception | None = None
        """What left the script and was no StreamAborted."""
        self._changed = changed

    @property
    def path(self) -> bytes:
        return self.stream.head.target

    def read(self) -> None:
        """Take all that waits."""
        while data := self.stream.content.take():
            self.body += data

    def respond(self, status: int = 200, body: bytes = b"", *fields: tuple[bytes, bytes]) -> None:
        """A whole response."""
        self.stream.send_head(ResponseHead(status, list(fields)), end_stream=not body)
        if body:
            self.stream.send_content(body, end_stream=True)

    async def whole(self) -> None:
        """Wait for the end of the request. Raises StreamAborted when it does not come."""
        while not self.stream.content.ended:
            if self.error is not None:
                raise StreamAborted(str(self.error))
            await self.change()

    async def change(self) -> None:
        """Wait until anything has happened to any exchange."""
        self._changed.clear()
        await self._changed.wait()

    def content_received(self) -> None:
        self._called("content")
        if self.reading:
            self.read()
        if self.on_content is not None:
            self.on_content()

    def message_complete(self) -> None:
        self._called("complete")

    def aborted(self, error: ServerError) -> None:
        self.error = error
        self._called("aborted")

    def response_aborted(self, error: ServerError) -> None:
        self.error = error
        self._called("response aborted")

    def _called(self, name: str) -> None:
        if self.calls[-1:] != [name] or name != "content":
            self.calls.append(name)
        self._changed.set()


class ScriptedApplication(Application):
    """Runs `script` for each request: at once if it is a plain function, else in a task."""

    def __init__(self, script: Script, changed: asyncio.Event, *, reading: bool) -> None:
        self.exchanges: list[Exchange] = []
        self.context: ServerContext
        self._script = script
        self._reading = reading
        self._changed = changed

    def open(self, stream: RequestStream) -> RequestHandler:
        exchange = Exchange(stream, self._changed, reading=self._reading)
        self.exchanges.append(exchange)
        if inspect.iscoroutinefunction(self._script):
            self.context.tasks.spawn(self._run(exchange), name="script")
        else:
            self._script(exchange)
        self._changed.set()
        return exchange

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._script(exchange)
        except StreamAborted as error:
            exchange.error = exchange.error or error
        except Exception as error:
            exchange.failure = error
        self._changed.set()


class WatchedEndpoint(QuicEndpoint):
    """Says when anything may have changed."""

    changed: asyncio.Event

    def connection_terminated(self, connection: Any) -> None:
        super().connection_terminated(connection)
        self.changed.set()

    def _handle(self, connection: Any) -> None:
        super()._handle(connection)
        self.changed.set()

    def _flush(self, connections: Any) -> None:
        super()._flush(connections)
        self.changed.set()


class Served:
    """What runs, and what a test wants to know of it."""

    def __init__(self, endpoint: WatchedEndpoint, app: ScriptedApplication, port: int) -> None:
        self.endpoint = endpoint
        self.app = app
        self.port = port

    @property
    def connections(self) -> list[Http3Protocol]:
        """The connections that the endpoint knows."""
        return list(self.endpoint._connections)

    @property
    def exchanges(self) -> list[Exchange]:
        """All requests so far."""
        return self.app.exchanges

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until `condition` holds; it is looked at whenever the server did something."""
        async with asyncio.timeout(timeout):
            while not condition():
                self.endpoint.changed.clear()
                await self.endpoint.changed.wait()

    def expire_handshakes(self) -> None:
        """Let the time pass that a handshake may take, for all that are under way."""
        for connection in self.connections:
            if not connection.quic.handshake_completed:
                connection._handshake_deadline = 0.0
                connection._timer_fired()

    def check(self) -> None:
        """What holds after every test, whatever it did."""
        for exchange in self.exchanges:
            if exchange.failure is not None:
                raise exchange.failure
            ends = [name for name in exchange.calls if name in ("complete", "aborted")]
            assert len(ends) <= 1, "message_complete and aborted exclude each other"
            assert exchange.calls.count("response aborted") <= 1
            assert "response aborted" not in exchange.calls or "complete" in ends
        for connection in self.connections:
            if not connection.streams and connection.quic.close_event is None:
                limit = connection.quic._local_max_data
                window = self.endpoint.context.settings.connection_window_bytes
                assert limit.value - limit.used == window, "credit is lost, or was given twice"


def hello(exchange: Exchange) -> None:
    """Answers at once."""
    exchange.respond(200, b"hello", (b"content-type", b"text/plain"))


async def echo(exchange: Exchange) -> None:
    """Answers with the request's content, when that is whole."""
    await exchange.whole()
    exchange.respond(200, bytes(exchange.body))


@contextlib.asynccontextmanager
async def serving(
    script: Script = hello,
    *,
    host: str = "127.0.0.1",
    reading: bool = True,
    preferred: Sequence[socket.socket] = (),
    kind: type[socket.socket] = socket.socket,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A running endpoint; stopped in the order in which the server stops it.

    Without `reading` an exchange reads no content until its script says so. Its socket is of the
    class `kind`.
    """
    settings.setdefault("udp_buffer_bytes", 262_144)
    changed = asyncio.Event()
    app = ScriptedApplication(script, changed, reading=reading)
    context = ServerContext(
        loop=asyncio.get_running_loop(),
        settings=Settings(**DEFAULTS | settings),
        application=app,
        clock=clock,
    )
    app.context = context
    sock = kind(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    endpoint = WatchedEndpoint(context, [sock], [credential()], preferred=preferred)
    endpoint.changed = changed
    served = Served(endpoint, app, sock.getsockname()[1])
    await endpoint.start()
    try:
        yield served
        served.check()
    finally:
        endpoint.stop_accepting()
        endpoint.close()
        await endpoint.wait_closed()
        await context.tasks.cancel_all()
    assert endpoint._by_cid == {}
    assert endpoint._half_open == {}
    assert served.connections == []
