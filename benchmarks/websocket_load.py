"""The client of benchmarks/websocket.py: opens WebSockets, and echoes messages on them.

A process of its own, driven by its standard input: it prints `ready` when all are open, and for
each line `echo SECONDS` it keeps `--in-flight` messages under way on each for that long, and prints
how many came back. The end of its input is its end. Frames are made beforehand and of answers only
the bytes are counted, so that on HTTP/1.1 it costs less than any server that is written in Python;
on HTTP/3 it is aioquic. Messages have the sizes of `traffic.messages`, or all `--bytes`.
"""

import argparse
import asyncio
import base64
import ssl
import sys
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import traffic
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

_OPENING_AT_ONCE = 50
_MASK = b"mask"
# Between the messages that two WebSockets begin with.
_APART = 13
# Whoever lets go of one closes its connection.
_open_clients: list[Any] = []
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
    % base64.b64encode(b"sixteen bytes 16")
)


class Frames:
    """Messages as a client's frames (RFC 6455 5.2), and the sizes of the frames that answer."""

    def __init__(self, messages: list[str | bytes]) -> None:
        self.sent: list[bytes] = []
        self.answer_bytes: list[int] = []
        for message in messages:
            text = isinstance(message, str)
            payload = message.encode() if isinstance(message, str) else message
            size = len(payload)
            self.sent.append(_header(1 if text else 2, size) + _MASK + _masked(payload))
            self.answer_bytes.append(size + (2 if size < 126 else 4))


class Echo(ABC):
    """Messages under way on one WebSocket. `start_at` is where among the frames it begins."""

    def __init__(self, frames: Frames, start_at: int) -> None:
        self._frames = frames.sent
        self._answer_bytes = frames.answer_bytes
        self._next = self._awaited = start_at % len(frames.sent)
        self._pending = 0
        self._deadline = 0.0
        self.echoed = 0

    def start(self, in_flight: int, deadline: float) -> None:
        """Send the first messages; from then on one for each that comes back."""
        self._deadline = deadline
        self._send(in_flight)

    def received(self, size: int) -> None:
        """So many bytes have come back."""
        self._pending += size
        whole = 0
        while self._pending >= (expected := self._answer_bytes[self._awaited]):
            self._pending -= expected
            self._awaited = (self._awaited + 1) % len(self._frames)
            whole += 1
        self.echoed += whole
        if whole and time.monotonic() < self._deadline:
            self._send(whole)

    def _send(self, count: int) -> None:
        for _ in range(count):
            self.write(self._frames[self._next])
            self._next = (self._next + 1) % len(self._frames)

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send `data`."""


class H1Socket(asyncio.Protocol, Echo):
    """One TCP connection."""

    def __init__(self, frames: Frames, start_at: int) -> None:
        super().__init__(frames, start_at)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.write(_UPGRADE)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self.received(len(data))
            return
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            assert self._head.startswith(b"HTTP/1.1 101 "), self._head
            self.opened.set_result(None)

    def write(self, data: bytes) -> None:
        self.transport.write(data)


class H3Socket(Echo):
    """One stream."""

    def __init__(self, frames: Frames, start_at: int, connection: "H3Client") -> None:
        super().__init__(frames, start_at)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._stream_id = connection.open(self)

    def write(self, data: bytes) -> None:
        self._connection.write(self._stream_id, data)


class H3Client(QuicConnectionProtocol):
    """One QUIC connection with any number of WebSockets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._sockets: dict[int, H3Socket] = {}
        self._flush_due = False

    def open(self, socket: H3Socket) -> int:
        stream_id = self._quic.get_next_available_stream_id()
        self._sockets[stream_id] = socket
        head = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/ws"),
            (b"sec-websocket-version", b"13"),
        ]
        self._http.send_headers(stream_id, head)
        self._flush_soon()
        return stream_id

    def write(self, stream_id: int, data: bytes) -> None:
        self._http.send_data(stream_id, data, end_stream=False)
        self._flush_soon()

    def quic_event_received(self, event: QuicEvent) -> None:
        for item in self._http.handle_event(event):
            if isinstance(item, HeadersReceived):
                opened = self._sockets[item.stream_id].opened
                if (b":status", b"200") in item.headers:
                    opened.set_result(None)
                else:
                    opened.set_exception(RuntimeError(f"no WebSocket: {item.headers}"))
            elif isinstance(item, DataReceived):
                self._sockets[item.stream_id].received(len(item.data))

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.transmit()


async def h1_sockets(options: argparse.Namespace) -> list[Any]:
    """Open as many connections."""
    context = None
    if options.http == "1":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    sockets: list[Any] = []
    loop = asyncio.get_running_loop()
    frames = Frames(options.messages)
    for number in range(options.connections):
        _, socket = await loop.create_connection(
            partial(H1Socket, frames, number * _APART), "127.0.0.1", options.port, ssl=context
        )
        await socket.opened
        sockets.append(socket)
    return sockets


async def h3_sockets(options: argparse.Namespace) -> list[Any]:
    """Open as many connections with `--streams` WebSockets each."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, idle_timeout=600
    )
    sockets: list[Any] = []
    frames = Frames(options.messages)

    async def connection() -> None:
        client = connect(
            "127.0.0.1", options.port, configuration=configuration, create_protocol=H3Client
        )
        _open_clients.append(client)
        protocol = await client.__aenter__()
        already = len(_open_clients) * options.streams
        own = [
            H3Socket(frames, (already + number) * _APART, protocol)  # type: ignore[arg-type]
            for number in range(options.streams)
        ]
        await asyncio.gather(*(socket.opened for socket in own))
        sockets.extend(own)

    for at in range(0, options.connections, _OPENING_AT_ONCE):
        count = min(_OPENING_AT_ONCE, options.connections - at)
        await asyncio.gather(*(connection() for _ in range(count)))
    return sockets


async def main() -> None:
    """Open, then do as standard input says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--http", choices=["1-plain", "1", "3"], required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--streams", type=int, default=1, help="WebSockets per HTTP/3 connection")
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--bytes", type=int, help="of each message; default: they change")
    options = parser.parse_args()
    options.messages = traffic.messages() if options.bytes is None else [bytes(options.bytes)]
    sockets = await (h3_sockets(options) if options.http == "3" else h1_sockets(options))
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        seconds = float(line.split()[1])
        before = sum(socket.echoed for socket in sockets)
        for socket in sockets:
            socket.start(options.in_flight, time.monotonic() + seconds)
        await asyncio.sleep(seconds + 0.5)
        print(sum(socket.echoed for socket in sockets) - before, flush=True)


def _header(opcode: int, size: int) -> bytes:
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size))
    return bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")


def _masked(payload: bytes) -> bytes:
    return bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(payload))


if __name__ == "__main__":
    import os

    import uvloop

    uvloop.install()
    asyncio.run(main())
    # Nothing is closed: what closing thousands of connections costs is nobody's figure here.
    os._exit(0)
