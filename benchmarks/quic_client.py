"""What has to be held open or looked into while a server is measured: connections on aioquic.

The client costs more than the servers, which is why nothing here is timed: what is read is the
memory and the CPU time of the server alone.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from aioquic.tls import SessionTicket
from loads import Work
from servers import Server

_OPENING_AT_ONCE = 20
_TICKET_SECONDS = 0.5
_TIMEOUT_SECONDS = 20


class Http3Client(QuicConnectionProtocol):
    """Just enough HTTP/3 for a GET, a request that is left waiting, and an upload."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self._quic.tls.session_resumed)

    def offer_upload(self, path: bytes, size: int) -> None:
        """Queue `size` bytes; they leave as the server gives credit."""
        stream_id = self._request(b"POST", path, ended=False)
        self._http.send_data(stream_id, bytes(size), end_stream=True)
        self.transmit()

    async def get(self, path: bytes) -> None:
        """Return when the response, or the first of its content, has come."""
        stream_id = self._request(b"GET", path, ended=True)
        self._waiting[stream_id] = asyncio.get_running_loop().create_future()
        self.transmit()
        await asyncio.wait_for(self._waiting[stream_id], _TIMEOUT_SECONDS)

    def quic_event_received(self, event: QuicEvent) -> None:
        for item in self._http.handle_event(event):
            if isinstance(item, (HeadersReceived, DataReceived)) and (
                item.stream_ended or isinstance(item, DataReceived)
            ):
                waiter = self._waiting.pop(item.stream_id, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)

    def _request(self, method: bytes, path: bytes, *, ended: bool) -> int:
        stream_id: int = self._quic.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost")]
        self._http.send_headers(stream_id, [*fields, (b":path", path)], end_stream=ended)
        return stream_id


def configuration(**extra: Any) -> QuicConfiguration:
    """A client that takes any certificate and never gives up a connection that is idle."""
    return QuicConfiguration(
        alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, idle_timeout=600, **extra
    )


async def open_client(
    stack: AsyncExitStack, port: int, settings: QuicConfiguration | None = None, **extra: Any
) -> Http3Client:
    """A connection that lives as long as `stack`."""
    connection = connect(
        "127.0.0.1",
        port,
        configuration=settings or configuration(),
        create_protocol=Http3Client,
        **extra,
    )
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        client = await stack.enter_async_context(connection)
    assert isinstance(client, Http3Client)
    return client


@asynccontextmanager
async def open_clients(port: int, count: int) -> AsyncIterator[list[Http3Client]]:
    """`count` connections that have been used once and are idle now."""
    clients: list[Http3Client] = []
    stacks: list[AsyncExitStack] = []

    async def one() -> None:
        stack = AsyncExitStack()
        stacks.append(stack)
        client = await open_client(stack, port)
        await client.get(b"/plaintext")
        clients.append(client)

    try:
        while len(clients) < count:
            batch = min(_OPENING_AT_ONCE, count - len(clients))
            await asyncio.gather(*(one() for _ in range(batch)))
        yield clients
    finally:
        # Each waits for the end of its closing period: one after another, a thousand take minutes.
        await asyncio.gather(*(stack.aclose() for stack in stacks))


async def idle_connections(server: Server, count: int) -> float:
    """KiB of memory that each of `count` idle HTTP/3 connections takes."""
    async with open_clients(server.port, 20):  # what is loaded or grown once
        before = server.resident_bytes()
        async with open_clients(server.port, count):
            await asyncio.sleep(1)  # acknowledgements, and what is freed late
            return (server.resident_bytes() - before) / count / 1024


async def idle_h1_connections(server: Server, count: int) -> float:
    """KiB of memory that each of `count` idle HTTP/1.1 connections takes."""
    context = None
    if server.http == "1":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    writers: list[asyncio.StreamWriter] = []

    async def use(connections: int) -> None:
        for _ in range(connections):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            writer.write(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"World!"), _TIMEOUT_SECONDS)
            writers.append(writer)

    try:
        await use(20)
        before = server.resident_bytes()
        await use(count)
        await asyncio.sleep(0.5)
        return (server.resident_bytes() - before) / count / 1024
    finally:
        for writer in writers:
            writer.transport.abort()


async def beside_idle_streams(
    server: Server, seconds: float, *, connections: int, streams: int
) -> Work:
    """GETs, one at a time, on connections in turn, beside `streams` requests there that wait."""
    async with open_clients(server.port, connections) as clients:
        for client in clients:
            await asyncio.gather(*(client.get(b"/wait") for _ in range(streams)))
        before = server.cpu_seconds()
        deadline = time.monotonic() + seconds
        done = 0
        while time.monotonic() < deadline:
            # Not together: how many the server finds in one turn would be the client's to decide.
            for client in clients:
                await client.get(b"/plaintext")
            done += len(clients)
        return Work(done, seconds, server.cpu_seconds() - before)


async def takes_up_sessions(server: Server) -> bool:
    """Whether a second connection can resume the session of a first (RFC 8446 2.2)."""
    tickets: list[SessionTicket] = []
    await _visit(server, configuration(), tickets)
    return bool(tickets) and await _visit(server, configuration(session_ticket=tickets[0]), tickets)


async def _visit(server: Server, settings: QuicConfiguration, tickets: list[SessionTicket]) -> bool:
    """Connect, GET, and leave once a ticket has come; whether a session was taken up."""
    came = asyncio.Event()

    def keep(ticket: SessionTicket) -> None:
        tickets.insert(0, ticket)
        came.set()

    async with AsyncExitStack() as stack:
        client = await open_client(stack, server.port, settings, session_ticket_handler=keep)
        await client.get(b"/plaintext")
        with suppress(TimeoutError):
            await asyncio.wait_for(came.wait(), _TICKET_SECONDS)
        return client.resumed
