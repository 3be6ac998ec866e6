"""An HTTP/3 client that can misbehave: raw bytes on any stream, credit withheld, a moving port.

On aioquic's QUIC, with framing of its own, so that a test decides every byte above QUIC.

    async with H3Client(port) as client:
        response = await client.request("GET", "/")
        stream = client.open()
        client.send(stream, headers(b"POST", b"/upload") + frame(0x00, b"content"))
        await client.until(lambda: stream.reset_code is not None)
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from tests.support.asynchronous import PATIENCE_SECONDS
from tests.support.raw_quic import short_packet

DATA, HEADERS, SETTINGS, GOAWAY = 0x00, 0x01, 0x04, 0x07
CONTROL, ENCODER, DECODER = 0x00, 0x02, 0x03

Fields = list[tuple[bytes, bytes]]
Datagram = tuple[bytes, Any]
"""With where it goes."""


def frame(frame_type: int, payload: bytes = b"") -> bytes:
    """One HTTP/3 frame."""
    return encode_uint_var(frame_type) + encode_uint_var(len(payload)) + payload


def section(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`fields` encoded without a dynamic table, whatever they are."""
    _, encoded = pylsqpack.Encoder().encode(0, list(fields))
    return encoded


def headers(
    method: bytes = b"GET",
    path: bytes = b"/",
    *extra: tuple[bytes, bytes],
    authority: bytes = b"localhost",
) -> bytes:
    """The HEADERS frame of a valid request, plus `extra` fields."""
    pseudo = [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", path),
    ]
    return frame(HEADERS, section([*pseudo, *extra]))


def read_varint(data: bytes | bytearray, position: int) -> tuple[int, int] | None:
    """The integer at `position` and where it ends, None if it is cut off (RFC 9000 16)."""
    if position >= len(data):
        return None
    size = 1 << (data[position] >> 6)
    end = position + size
    if end > len(data):
        return None
    return int.from_bytes(data[position:end], "big") & ((1 << (8 * size - 2)) - 1), end


class ClientStream:
    """What came back on one stream."""

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.frames: list[tuple[int, bytes]] = []
        """Whole frames that are neither HEADERS nor DATA."""
        self.heads: list[Fields] = []
        """Field sections in order: interim responses, the response, its trailers."""
        self.content = bytearray()
        """The content of whole DATA frames."""
        self.received = 0
        """Bytes of the stream so far, frames that are not whole included."""
        self.ended = False
        self.reset_code: int | None = None
        """The code of a RESET_STREAM from the server."""
        self.stop_code: int | None = None
        """The code of a STOP_SENDING from the server."""
        self.type: int | None = None
        """What a unidirectional stream said it is."""
        self.order: list[str] = []
        """Interim, head, content and trailers as they came; content counted once in a row."""
        self._buffer = bytearray()

    @property
    def status(self) -> int | None:
        """The status of the final response, None before there is one."""
        for head in self.heads:
            if (status := int(dict(head).get(b":status", b"0"))) >= 200:
                return status
        return None

    @property
    def interim(self) -> list[int]:
        """The statuses of the interim responses."""
        statuses = [int(dict(head).get(b":status", b"0")) for head in self.heads]
        return [status for status in statuses if 100 <= status < 200]

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The fields of the final response."""
        for head in self.heads:
            if int(dict(head).get(b":status", b"0")) >= 200:
                return dict(head)
        return {}

    @property
    def trailers(self) -> Fields | None:
        """The trailer section, None if there is none."""
        return next((head for head in self.heads if b":status" not in dict(head)), None)

    @property
    def done(self) -> bool:
        """Whether nothing more can come."""
        return self.ended or self.reset_code is not None

    def receive(self, data: bytes, ended: bool, decoder: pylsqpack.Decoder) -> None:
        """Take what the server sent."""
        self._buffer += data
        self.received += len(data)
        self.ended = self.ended or ended
        if self.id & 2 and self.type is None:
            header = read_varint(self._buffer, 0)
            if header is None:
                return
            self.type, position = header
            del self._buffer[:position]
        if self.type in (None, CONTROL):
            self._read_frames(decoder)

    def _read_frames(self, decoder: pylsqpack.Decoder) -> None:
        position = 0
        while (kind := read_varint(self._buffer, position)) is not None:
            length = read_varint(self._buffer, kind[1])
            if length is None or length[1] + length[0] > len(self._buffer):
                break
            position = length[1] + length[0]
            self._take_frame(kind[0], bytes(self._buffer[length[1] : position]), decoder)
        del self._buffer[:position]

    def _take_frame(self, kind: int, payload: bytes, decoder: pylsqpack.Decoder) -> None:
        if kind == HEADERS:
            _, fields = decoder.feed_header(self.id, payload)
            self.heads.append(fields)
            status = dict(fields).get(b":status", b"")
            self.order.append(status.decode() or "trailers")
        elif kind == DATA:
            self.content += payload
            if self.order[-1:] != ["content"]:
                self.order.append("content")
        else:
            self.frames.append((kind, payload))


class ClientConnection(QuicConnection):
    """aioquic's connection, which can withhold the credit for what it receives."""

    withhold_credit = False

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        if not self.withhold_credit:
            super()._write_connection_limits(builder, space)

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        if not self.withhold_credit:
            super()._write_stream_limits(builder, space, stream)


def client_configuration(**options: Any) -> QuicConfiguration:
    """What a client of the tests starts from: h3, and any certificate will do."""
    options.setdefault("alpn_protocols", ["h3"])
    options.setdefault("server_name", "localhost")
    return QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, **options)


class H3Client:
    """One connection to a server on the loopback interface.

    `setup` opens the control and QPACK streams as it should be; without it the test does. More
    options are aioquic's: `max_stream_data`, `max_data`, `supported_versions`. With `share` it uses
    the socket of another client, and so comes from the same address and port.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        setup: bool = True,
        share: "H3Client | None" = None,
        **options: Any,
    ) -> None:
        self.quic = ClientConnection(configuration=client_configuration(**options))
        self.streams: dict[int, ClientStream] = {}
        self.connected = False
        self._address = (host, port)
        self._setup = setup
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._decoder = pylsqpack.Decoder(0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._sharing: list[H3Client] = []
        self._owns_socket = share is None
        self.departing: Callable[[list[Datagram]], list[Datagram]] | None = None
        """What becomes of the datagrams that are sent: a test may hold back, reorder and repeat."""
        self._pings = 0
        self._acknowledged: set[int] = set()
        if share is None:
            self._socket = self._new_socket()
        else:
            self._socket = share._socket
            share._sharing.append(self)

    async def __aenter__(self) -> "H3Client":
        self.start()
        try:
            await self.until(lambda: self.connected or self.close_code is not None)
        except BaseException:
            self.vanish()
            raise
        if self._setup and self.connected:
            self.control = self.open_uni(CONTROL, frame(SETTINGS))
            self.encoder = self.open_uni(ENCODER)
            self.decoder = self.open_uni(DECODER)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Send the first flight."""
        self.quic.connect(self._address, self._loop.time())
        self.flush()

    def start_in_parts(self) -> Callable[[], None]:
        """Send the first datagram alone; returns what sends the rest."""
        self.quic.connect(self._address, self._loop.time())
        first, *rest = self.quic.datagrams_to_send(self._loop.time())
        self._socket.sendto(*first)

        def send_rest() -> None:
            for datagram in rest:
                self._socket.sendto(*datagram)
            self.flush()

        return send_rest

    def close(self) -> None:
        """Close the connection and go."""
        self.quic.close()
        self.flush()
        self.vanish()

    def vanish(self) -> None:
        """Be gone without a word."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owns_socket and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    # -- sending --------------------------------------------------------------------------------

    def open(self) -> ClientStream:
        """A new request stream; it exists for the server once something is sent on it."""
        return self._stream(self.quic.get_next_available_stream_id())

    def open_uni(self, stream_type: int, data: bytes = b"", *, end: bool = False) -> ClientStream:
        """A new unidirectional stream of `stream_type`, and its first bytes."""
        stream = self._stream(self.quic.get_next_available_stream_id(is_unidirectional=True))
        return self.send(stream, encode_uint_var(stream_type) + data, end=end)

    def send(
        self, stream: ClientStream, data: bytes = b"", *, end: bool = False, flush: bool = True
    ) -> ClientStream:
        """Send raw bytes; without `flush` they wait for the next call that does."""
        self.quic.send_stream_data(stream.id, data, end)
        if flush:
            self.flush()
        return stream

    def reset(self, stream: ClientStream, code: int = 0x10C) -> None:
        """Reset the request."""
        self.quic.reset_stream(stream.id, code)
        self.flush()

    def stop(self, stream: ClientStream, code: int = 0x10C) -> None:
        """Ask the server to stop its response."""
        self.quic.stop_stream(stream.id, code)
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._socket.fileno() < 0:
            return
        now = self._loop.time()
        datagrams = self.quic.datagrams_to_send(now)
        for data, address in datagrams if self.departing is None else self.departing(datagrams):
            self._socket.sendto(data, address)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timer_at = self.quic.get_timer()
        if timer_at is not None:
            self._timer = self._loop.call_at(timer_at, self._timer_fired)

    def send_packet(self, frames: bytes) -> None:
        """Send a packet of these QUIC frames, of which this client's QUIC knows nothing."""
        self._socket.sendto(short_packet(self.quic, frames), self._address)

    def sent(self, stream: ClientStream) -> int:
        """How many bytes of `stream` have been sent at least once."""
        state = self.quic._streams.get(stream.id)
        return 0 if state is None else state.sender.highest_offset

    # -- requests -------------------------------------------------------------------------------

    def begin(
        self,
        method: str = "GET",
        path: str = "/",
        *extra: tuple[bytes, bytes],
        content: bytes = b"",
        end: bool = True,
    ) -> ClientStream:
        """Start a request; without `end` it stays open for more content."""
        data = headers(method.encode(), path.encode(), *extra)
        if content:
            data += frame(DATA, content)
        return self.send(self.open(), data, end=end)

    async def request(
        self,
        method: str = "GET",
        path: str = "/",
        *extra: tuple[bytes, bytes],
        content: bytes = b"",
    ) -> ClientStream:
        """A whole request; returns when its response is whole, or was reset."""
        stream = self.begin(method, path, *extra, content=content)
        await self.until(lambda: stream.done)
        return stream

    # -- waiting --------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until `condition` holds; it is looked at whenever something came in."""
        async with asyncio.timeout(timeout):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def close_reason(self) -> int:
        """The error code with which the server closes the connection."""
        await self.until(lambda: self.close_code is not None)
        assert self.close_code is not None
        return self.close_code

    async def settled(self) -> None:
        """Return when the server has taken all that was sent before, or has closed the connection.

        A PING and its acknowledgement.
        """
        self._pings += 1
        number = self._pings
        self.quic.send_ping(number)
        self.flush()
        await self.until(lambda: number in self._acknowledged or self.close_code is not None)

    @property
    def close_code(self) -> int | None:
        """The code of the server's CONNECTION_CLOSE, at once and not after the draining period."""
        event = self.quic._close_event
        return None if event is None else event.error_code

    @property
    def goaway(self) -> int | None:
        """The stream ID in the last GOAWAY."""
        ids = [
            read_varint(payload, 0)
            for stream in self.streams.values()
            if stream.type == CONTROL
            for kind, payload in stream.frames
            if kind == GOAWAY
        ]
        return ids[-1][0] if ids and ids[-1] is not None else None

    # -- the network ----------------------------------------------------------------------------

    @property
    def local_address(self) -> tuple[str, int]:
        """Where this client sends from now."""
        address: tuple[str, int] = self._socket.getsockname()
        return address

    def migrate(self) -> None:
        """Go on from another port, as behind a NAT that forgot the mapping."""
        old, self._socket = self._socket, self._new_socket()
        self._loop.remove_reader(old.fileno())
        old.close()

    def _new_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((self._address[0], 0))
        self._loop.add_reader(sock.fileno(), self._readable)
        return sock

    def _readable(self) -> None:
        now = self._loop.time()
        for _ in range(64):
            try:
                data, address = self._socket.recvfrom(65_535)
            except BlockingIOError:
                break
            for client in (self, *self._sharing):  # each drops what is not for it
                client.quic.receive_datagram(data, address, now)
        for client in (self, *self._sharing):
            client._handle_events()

    def _timer_fired(self) -> None:
        self._timer = None
        self.quic.handle_timer(self._loop.time())
        self._handle_events()

    def _handle_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                stream = self._stream(event.stream_id)
                stream.receive(event.data, event.end_stream, self._decoder)
            elif isinstance(event, events.StreamReset):
                self._stream(event.stream_id).reset_code = event.error_code
            elif isinstance(event, events.StopSendingReceived):
                self._stream(event.stream_id).stop_code = event.error_code
            elif isinstance(event, events.HandshakeCompleted):
                self.connected = True
            elif isinstance(event, events.PingAcknowledged):
                self._acknowledged.add(event.uid)
        self.flush()
        self._changed.set()

    def _stream(self, stream_id: int) -> ClientStream:
        return self.streams.setdefault(stream_id, ClientStream(stream_id))
