"""The contract's client on HTTP/1.1 over TLS: h11 on asyncio's streams, a connection at a time."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import h11

from tercel.server import AsyncioServer
from tests.contract.client import Client, Exchange, Fields, Interim
from tests.support.asynchronous import turns

_READ_BYTES = 65_536
# How many turns of the loop, which the server shares, without a change count as the end of it: on
# the loopback interface a segment is there when the call that sent it returns, mostly. Nothing may
# depend on it that was sent just before.
_STILL_TURNS = 200
# h11 takes 16 KiB of a head by itself.
_MOST_EVENT_BYTES = 262_144


class H1Exchange(Exchange):
    """One exchange, on a connection that is its own until it is over."""

    def __init__(self, client: "H1Client", connection: "Connection") -> None:
        super().__init__()
        self._client = client
        self._connection = connection
        self._changed = asyncio.Event()
        self._reader = asyncio.ensure_future(self._read())

    async def send(self, data: bytes) -> None:
        await self._connection.write(h11.Data(data=data))

    async def end(self, trailers: Fields | None = None) -> None:
        await self._connection.write(h11.EndOfMessage(headers=trailers or []))
        self._give_back()

    def abort(self) -> None:
        self._reader.cancel()
        self._connection.writer.transport.abort()
        self.broken = True

    @property
    def accepted(self) -> int:
        return self._connection.sent

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self.done:
            self._changed.clear()
            await self._changed.wait()
        assert condition(), (
            f"the response ended before: {self.status}, {bytes(self.content[:99])!r}"
        )

    async def _read(self) -> None:
        try:
            while not self.done:
                event = await self._connection.next_event()
                self._take(event)
                self._changed.set()
        except (h11.RemoteProtocolError, ConnectionError):
            self.broken = True
            self._changed.set()
        self._give_back()

    def _take(self, event: object) -> None:
        if isinstance(event, h11.InformationalResponse):
            self.interim.append(Interim(event.status_code, list(event.headers)))
        elif isinstance(event, h11.Response):
            self.status, self.fields = event.status_code, list(event.headers)
        elif isinstance(event, h11.Data):
            self.content += event.data
        elif isinstance(event, h11.EndOfMessage):
            self.trailers = list(event.headers)
            self.ended = True
        else:
            self.broken = True

    def _give_back(self) -> None:
        if self.ended and self._connection.reusable:
            self._connection.http.start_next_cycle()
            self._client.idle.append(self._connection)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


class Connection:
    """One TCP connection with TLS, and h11's view of it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reading: asyncio.Event
    ) -> None:
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_EVENT_BYTES)
        self.writer = writer
        self._reader = reader
        self._reading = reading
        self._written = 0

    @property
    def sent(self) -> int:
        """Bytes that have left for the kernel."""
        return self._written - self.writer.transport.get_write_buffer_size()

    @property
    def reusable(self) -> bool:
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE

    async def write(self, event: h11.Event) -> None:
        """Write unless the server has closed: then the response, if any, says why."""
        data = self.http.send(event)
        if data:
            self._written += len(data)
            try:
                self.writer.write(data)
                await self.writer.drain()
            except ConnectionError:
                pass

    async def next_event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            await self._reading.wait()
            self.http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def eof(self) -> None:
        """Wait until the server has closed."""
        try:
            while await self._reader.read(_READ_BYTES):
                pass
        except ConnectionError:
            pass


class H1Client(Client):
    """Uses an idle connection where there is one, else makes another."""

    http_version = "1.1"
    secure = True
    # The kernel lets the buffer of the server's socket grow to 4 MiB.
    most_on_the_way = 6 * 1_048_576

    def __init__(self, server: AsyncioServer, *, window: int = 1_048_576) -> None:
        super().__init__(server, window=window)
        self.idle: list[Connection] = []
        self._all: list[Connection] = []
        self._exchanges: list[H1Exchange] = []
        self._reading = asyncio.Event()
        self._reading.set()

    async def begin(
        self,
        method: str,
        target: str,
        fields: Iterable[tuple[bytes, bytes]] = (),
        *,
        end: bool = False,
    ) -> H1Exchange:
        fields = list(fields)
        connection = self.idle.pop() if self.idle else await self._connect()
        names = {name for name, _ in fields}
        if b"host" not in names:
            fields.insert(0, (b"host", b"localhost"))
        if b"content-length" not in names and not end:
            fields.append((b"transfer-encoding", b"chunked"))
        await connection.write(h11.Request(method=method, target=target, headers=fields))
        exchange = H1Exchange(self, connection)
        self._exchanges.append(exchange)
        if end:
            await exchange.end()
        return exchange

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def still(self, value: Callable[[], int]) -> int:
        last = -1
        while (now := value()) != last:
            last = now
            await turns(_STILL_TURNS)
        return last

    async def closed(self) -> None:
        for connection in self._all:
            await connection.eof()

    async def close(self) -> None:
        for exchange in self._exchanges:
            await exchange.close()
        for connection in self._all:
            connection.writer.close()
            try:
                await connection.writer.wait_closed()
            except (ConnectionError, ssl.SSLError):
                pass

    async def _connect(self) -> Connection:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        # A fixed size: the kernel would let both grow to several megabytes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.window)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.window)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        tls: dict[str, Any] = {}
        if self.secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            tls = {"ssl": context, "server_hostname": "localhost"}
        reader, writer = await asyncio.open_connection(sock=sock, limit=self.window // 4, **tls)
        self.connections += 1
        connection = Connection(reader, writer, self._reading)
        self._all.append(connection)
        return connection


class H1PlainClient(H1Client):
    """The same without TLS."""

    secure = False
