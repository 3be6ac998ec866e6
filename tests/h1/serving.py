"""A TcpAcceptor with a scripted application, and a raw client for it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tercel.h1.acceptor import TcpAcceptor
from tercel.h1.protocol import HttpProtocol
from tercel.shared.connection import ServerContext
from tercel.shared.errors import ServerError
from tercel.shared.flow import Wakeup
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.response_fields import ResponseFields
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestHandler, RequestStream


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Exchange(RequestHandler):
    """What the connection tells of one exchange, and the means to answer it."""

    def __init__(self, stream: RequestStream) -> None:
        self.stream = stream
        self.calls: list[str] = []
        self.error: ServerError | None = None
        self._wakeup = Wakeup()

    def content_received(self) -> None:
        self._note("content")

    def message_complete(self) -> None:
        self._note("complete")

    def aborted(self, error: ServerError) -> None:
        self.error = error
        self._note("aborted")

    def response_aborted(self, error: ServerError) -> None:
        self.error = error
        self._note("response aborted")

    def _note(self, call: str) -> None:
        if not self.calls or self.calls[-1] != call:
            self.calls.append(call)
        self._wakeup.set()

    async def reached(self, call: str) -> None:
        """Wait until the connection has made `call`."""
        while call not in self.calls:
            await self._wakeup.wait()

    async def read(self) -> bytes:
        """The next content; b"" at the end. Raises what aborted the request."""
        content = self.stream.content
        while not content.size and not content.ended:
            if self.error is not None:
                raise self.error
            self.stream.want_content()
            await self._wakeup.wait()
        return content.take()

    async def read_all(self) -> bytes:
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    def answer(self, content: bytes = b"", *, status: int = 200, fields: Fields = ()) -> None:  # type: ignore[assignment]
        self.stream.send_head(ResponseHead(status, list(fields)))
        self.stream.send_content(content, end_stream=True)


class Eager(Application):
    """Answers each request with its target before `open` returns."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def open(self, stream: RequestStream) -> RequestHandler:
        exchange = Exchange(stream)
        self.exchanges.append(exchange)
        stream.send_response(ResponseHead(200, []), stream.head.target)
        return exchange

    async def startup(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass


Script = Callable[[Exchange], Awaitable[None]]


class ScriptedApplication(Application):
    """Runs `script` for each request."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.context: ServerContext
        self.exchanges: list[Exchange] = []
        self.opened = Wakeup()

    def open(self, stream: RequestStream) -> RequestHandler:
        exchange = Exchange(stream)
        self.exchanges.append(exchange)
        self.context.tasks.spawn(self._run(exchange), name="exchange")
        self.opened.set()
        return exchange

    async def startup(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass

    async def exchange(self, number: int = 0) -> Exchange:
        """The exchange of that number, once it was opened."""
        while len(self.exchanges) <= number:
            await self.opened.wait()
        return self.exchanges[number]

    async def _run(self, exchange: Exchange) -> None:
        # A script that reads or writes after the peer has gone just ends.
        with contextlib.suppress(ServerError):
            await self.script(exchange)


async def echo(exchange: Exchange) -> None:
    """Answer with the content of the request, or with its target if there is none."""
    content = await exchange.read_all()
    exchange.answer(content or exchange.stream.head.target)


async def nothing(exchange: Exchange) -> None:
    """Neither read nor answer."""


class Response:
    """A response as it came over the wire."""

    def __init__(self, head: bytes, content: bytes, trailers: bytes) -> None:
        line, _, fields = head.partition(b"\r\n")
        self.line = line
        self.status = int(line.split(b" ")[1])
        self.fields = {}
        for field in fields.split(b"\r\n"):
            name, _, value = field.partition(b": ")
            if name:
                assert name not in self.fields, name
                self.fields[name] = value
        self.content = content
        self.trailers = trailers


class Client:
    """A client that writes bytes and reads responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, target: str = "/", *fields: str, version: str = "1.1") -> None:
        lines = [f"GET {target} HTTP/{version}", "Host: a.test", *fields, "", ""]
        self.send("\r\n".join(lines).encode())

    def post(self, *fields: str, content: bytes = b"") -> None:
        lines = ["POST / HTTP/1.1", "Host: a.test", *fields, "", ""]
        self.send("\r\n".join(lines).encode() + content)

    async def response(self, *, bodiless: bool = False) -> Response:
        """Read one response, framed by what it says itself."""
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
        response = Response(head, b"", b"")
        if bodiless or response.status < 200 or response.status in (204, 304):
            return response
        if response.fields.get(b"transfer-encoding") == b"chunked":
            await self._read_chunks(response)
        elif b"content-length" in response.fields:
            size = int(response.fields[b"content-length"])
            response.content = await self.reader.readexactly(size)
        else:
            response.content = await self.reader.read()
        return response

    async def _read_chunks(self, response: Response) -> None:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            response.content += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            response.trailers += line

    async def rest(self) -> bytes:
        """All bytes until the server closes."""
        return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


class Server:
    """What a test has of the server."""

    def __init__(
        self, acceptor: TcpAcceptor, application: ScriptedApplication, clock: Clock | None
    ) -> None:
        self.acceptor = acceptor
        self.application = application
        self.clock = clock
        self.connections: set[Any] = set()
        self.limits = application.context.limits
        self._clients: list[Client] = []

    async def connect(self, **kwargs: Any) -> Client:
        address = self.acceptor.addresses[0]
        if address.startswith("/"):
            streams = await asyncio.open_unix_connection(address, **kwargs)
        else:
            host, _, port = address.rpartition(":")
            streams = await asyncio.open_connection(host, int(port), **kwargs)
        client = Client(*streams)
        self._clients.append(client)
        return client

    async def connect_deaf(self, **kwargs: Any) -> Client:
        """A client that takes no more than a few kilobytes."""
        host, _, port = self.acceptor.addresses[0].rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        client = Client(*await asyncio.open_connection(sock=sock, **kwargs))
        self._clients.append(client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        return client

    @property
    def connection(self) -> HttpProtocol:
        """The only connection there is."""
        (connection,) = self.connections
        assert isinstance(connection, HttpProtocol)
        return connection

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and the connections notice."""
        assert self.clock is not None
        self.clock.now += seconds
        for connection in list(self.connections):
            connection.check_timeouts()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until `condition` holds."""
        while not condition():
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        self.acceptor.close()
        await self.acceptor.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    unix: str | None = None,
    clock: Clock | None = None,
    alt_svc: bytes | None = None,
    acceptor: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Server]:
    """Run a server; `settings` are those of Settings, `acceptor` goes to TcpAcceptor."""
    application = ScriptedApplication(script)
    context = ServerContext(
        loop=asyncio.get_running_loop(),
        settings=Settings(**{"access_log": False, **settings}),
        application=application,
        response_fields=ResponseFields(alt_svc=alt_svc),
        **({} if clock is None else {"clock": clock}),
    )
    application.context = context
    if unix is None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(unix)
    connections: set[Any] = set()
    listener = TcpAcceptor(
        context, sockets=[sock], ssl=tls, connections=connections, **(acceptor or {})
    )
    await listener.start()
    server = Server(listener, application, clock)
    server.connections = connections
    try:
        yield server
    finally:
        await server.close()
        await context.tasks.cancel_all()
