"""Requests as clients send them, through whole connections of tercel in memory, and their cost.

The cost is the number of bytecodes that the interpreter executes in the modules of tercel for each
request: for one version of Python it is the same on every machine, however busy that is. It is not
time: a call into C counts as one. It says that a change made a request dearer, not by how much.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.quic.events import StreamDataReceived

import tercel
from tercel.h1.protocol import HttpProtocol
from tercel.quic.http3.protocol import Http3Protocol
from tercel.shared.apps.asgi import AsgiApplication
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet
from tests.quic.pair import CLIENT, DEFAULTS, SERVER, Pair
from tests.support.benchmarks import imported

_PACKAGE = str(Path(tercel.__file__).parent)
_WARM_ROUNDS, _ROUNDS = 12, 12

# RFC 9204 3.2.2, 3.2.3: what tercel allows the QPACK encoders of its clients.
_TABLE_BYTES, _BLOCKED_STREAMS = 4096, 16
_SETTINGS_FRAME = b"\x04\x00"


class Counter:
    """Counts bytecodes while `running`."""

    def __init__(self) -> None:
        self.bytecodes = 0
        self._own: dict[CodeType, bool] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        own = self._own.get(code)
        if own is None:
            own = self._own[code] = code.co_filename.startswith(_PACKAGE)
        if not own:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._traced

    def _traced(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.bytecodes += 1
        return self._traced


def context() -> ServerContext:
    """What connections share, with the benchmarks' application."""
    loop = asyncio.get_running_loop()
    settings = Settings(access_log=False, **DEFAULTS)
    tasks = TaskSet(loop)
    with imported("app") as module:
        application = AsgiApplication(module.app, settings=settings, tasks=tasks)
    return ServerContext(loop=loop, settings=settings, application=application, tasks=tasks)


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(4):
        await asyncio.sleep(0)


# -- HTTP/1.1 and WebSocket -----------------------------------------------------------------------


class Transport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__({"peername": CLIENT, "sockname": SERVER})
        self.sent = bytearray()

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, buffers: Any) -> None:
        self.sent += b"".join(buffers)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 65_536

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


async def over_h1(requests: list[bytes], counter: Counter) -> int:
    """Send whole requests on one connection, one after another; returns how many were counted."""
    loop = asyncio.get_running_loop()
    protocol = HttpProtocol(loop=loop, app=None, context=context())
    transport = Transport()
    protocol.connection_made(transport)
    await settled()
    warm = len(requests) // 2
    for number, request in enumerate(requests):
        del transport.sent[:]
        # In a callback of the loop, as where a socket is read.
        loop.call_soon(protocol.data_received, request)
        with counter.running() if number >= warm else nullcontext():
            await settled()
        assert transport.sent.startswith(b"HTTP/1.1 200 "), bytes(transport.sent[:200])
    protocol.connection_lost(None)
    return len(requests) - warm


async def over_websocket(messages: list[str | bytes], counter: Counter) -> int:
    """Echo messages on one WebSocket, one after another; returns how many were counted."""
    loop = asyncio.get_running_loop()
    protocol = HttpProtocol(loop=loop, app=None, context=context())
    transport = Transport()
    protocol.connection_made(transport)
    protocol.data_received(_UPGRADE)
    await settled()
    assert transport.sent.startswith(b"HTTP/1.1 101 "), bytes(transport.sent[:200])
    warm = len(messages) // 2
    for number, message in enumerate(messages):
        del transport.sent[:]
        loop.call_soon(protocol.data_received, _masked(message))
        with counter.running() if number >= warm else nullcontext():
            await settled()
        assert transport.sent.endswith(message if isinstance(message, bytes) else message.encode())
    protocol.connection_lost(None)
    await settled()
    return len(messages) - warm


_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: www.shop.example\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyAxNg==\r\n\r\n"
)


def _masked(message: str | bytes) -> bytes:
    """A frame with a key of zeros, which leaves the payload as it is (RFC 6455 5.3)."""
    payload = message if isinstance(message, bytes) else message.encode()
    first = 0x82 if isinstance(message, bytes) else 0x81
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + payload


# -- HTTP/3 ---------------------------------------------------------------------------------------


class Endpoint:
    """What an `Http3Protocol` asks of its endpoint, which owns no socket here."""

    behind_at = float("-inf")

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.due = False

    def send(self, datagrams: list[tuple[bytes, Any]], mark: int = 0) -> bool:
        self.sent += [data for data, _ in datagrams]
        return True

    def flush_soon(self, connection: Any) -> None:
        self.due = True

    def _ignore(self, *arguments: Any) -> None:
        pass

    add_connection_id = remove_connection_id = connection_terminated = _ignore
    connection_drains = drained_soon = _ignore

    def give_up(self, connection: Any, error: Exception) -> None:
        raise error


class Browser:
    """A client of aioquic's with QPACK's dynamic table, and the connection of the server."""

    def __init__(self, shared: ServerContext) -> None:
        self.pair = Pair()
        self.endpoint = Endpoint()
        info = ConnectionInfo(client=CLIENT, server=SERVER, secure=True)
        self._protocol = Http3Protocol(
            self.pair.server,
            app=None,
            endpoint=self.endpoint,  # type: ignore[arg-type]
            context=shared,
            info=info,
        )
        self._encoder = pylsqpack.Encoder()
        self._encoder_stream = 0
        self._acknowledgements = bytearray()
        self.answered = 0

    async def begin(self) -> None:
        """Open the streams that a client opens first."""
        for event in self.pair.server_events:
            self._protocol.quic_event_received(event)
        client = self.pair.client
        for content in (b"\x00" + _SETTINGS_FRAME, b"\x02", b"\x03"):
            stream_id = client.get_next_available_stream_id(is_unidirectional=True)
            client.send_stream_data(stream_id, content)
            if content == b"\x02":
                self._encoder_stream = stream_id
        capacity = self._encoder.apply_settings(_TABLE_BYTES, _BLOCKED_STREAMS)
        client.send_stream_data(self._encoder_stream, capacity)
        await self.exchange(None)

    def request(self, method: str, target: str, fields: Any, body: bytes | None) -> None:
        """Send a request; `fields` are those of HTTP/3."""
        client = self.pair.client
        stream_id = client.get_next_available_stream_id()
        lines = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"www.shop.example"),
            (b":path", target.encode()),
            *((name.encode(), value.encode()) for name, value in fields),
        ]
        if body is not None:
            lines.append((b"content-length", b"%d" % len(body)))
        instructions, section = self._encoder.encode(stream_id, lines)
        if instructions:
            client.send_stream_data(self._encoder_stream, instructions)
        data = b"\x01" + encode_uint_var(len(section)) + section
        if body is not None:
            data += b"\x00" + encode_uint_var(len(body)) + body
        client.send_stream_data(stream_id, data, end_stream=True)

    async def exchange(self, counter: Counter | None) -> None:
        """Pass datagrams until neither side has one to send."""
        pair, moved = self.pair, True
        while moved:
            pair.now += 0.001
            arrived = [data for data, _ in pair.client.datagrams_to_send(pair.now)]
            with nullcontext() if counter is None else counter.running():
                await self._serve(arrived)
            moved = bool(arrived or self.endpoint.sent)
            for data in self.endpoint.sent:
                pair.client.receive_datagram(data, SERVER, pair.now)
            self.endpoint.sent.clear()
            self._take_events()

    async def _serve(self, datagrams: list[bytes]) -> None:
        # In a callback of the loop, as where a socket is read.
        asyncio.get_running_loop().call_soon(self._receive, datagrams)
        await settled()
        if self.endpoint.due:
            self.endpoint.due = False
            self._protocol.transmit()

    def _receive(self, datagrams: list[bytes]) -> None:
        for data in datagrams:
            self._protocol.receive_datagram(data, CLIENT, self.pair.now)
        self._protocol.process_events()
        self.endpoint.due |= self._protocol.needs_transmit()

    def _take_events(self) -> None:
        while (event := self.pair.client.next_event()) is not None:
            if not isinstance(event, StreamDataReceived):
                continue
            if event.stream_id & 3 == 0:
                self.answered += event.end_stream
            else:
                self._take_instructions(event.data)

    def _take_instructions(self, data: bytes) -> None:
        # Of the three streams of the server only the decoder's has bytes after the first ones.
        if self.answered:
            self._encoder.feed_decoder(data)


async def over_h3(requests: Any, in_flight: int, counter: Counter) -> int:
    """Send GETs or POSTs on one connection; returns how many were counted."""
    shared = context()
    browser = Browser(shared)
    shared.clock = lambda: browser.pair.now
    await browser.begin()
    method = "GET" if requests.body is None else "POST"
    targets = iter(requests.targets)
    for number in range(_WARM_ROUNDS + _ROUNDS):
        for _ in range(in_flight):
            browser.request(method, next(targets), requests.http3_fields(), requests.body)
        await browser.exchange(counter if number >= _WARM_ROUNDS else None)
        assert browser.answered == (number + 1) * in_flight
    return _ROUNDS * in_flight


# -- what is measured -----------------------------------------------------------------------------


def _over_h1(kind: str) -> Callable[[Counter], int]:
    def run(counter: Counter) -> int:
        with imported("traffic") as traffic:
            return sum(
                asyncio.run(over_h1(list(islice(requests.http1_requests(), 48)), counter))
                for requests in getattr(traffic, kind)()
            )

    return run


def _over_h3(kind: str, in_flight: int) -> Callable[[Counter], int]:
    def run(counter: Counter) -> int:
        with imported("traffic") as traffic:
            return sum(
                asyncio.run(over_h3(requests, in_flight, counter))
                for requests in getattr(traffic, kind)()
            )

    return run


def _messages(counter: Counter) -> int:
    with imported("traffic") as traffic:
        return asyncio.run(over_websocket(traffic.messages()[:200], counter))


LOADS: dict[str, Callable[[Counter], int]] = {
    "HTTP/3: a page of 20 in flight": _over_h3("pages", 20),
    "HTTP/3: pages, one after another": _over_h3("pages", 1),
    "HTTP/3: JSON POST": _over_h3("json_posts", 4),
    "HTTP/1.1: pages": _over_h1("pages"),
    "HTTP/1.1: JSON POST": _over_h1("json_posts"),
    "HTTP/1.1: WebSocket echo": _messages,
}
"""What is counted; each runs its requests and returns how many it has counted."""


def per_request(load: str) -> float:
    """Bytecodes of tercel for each request of `load`."""
    counter = Counter()
    requests = LOADS[load](counter)
    return counter.bytecodes / requests
