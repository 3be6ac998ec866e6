"""The WebSocket client on HTTP/3: extended CONNECT (RFC 9220) by hand, frames by websockets.

All WebSockets of a client, and its plain requests, share one connection.
"""

import asyncio
from collections.abc import Sequence

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import enable_client_permessage_deflate
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.contract.client import Exchange, Fields
from tests.contract.h3 import H3ContractClient, H3Exchange
from tests.contract.websocket.client import Conversation, Data, End, Offer, Refused, WebSocketClient
from tests.support.h3_client import DATA, ClientStream, H3Client, frame, headers

_REQUEST_CANCELLED = 0x10C


class H3Conversation(Conversation):
    def __init__(
        self, connection: H3Client, stream: ClientStream, protocol: ClientProtocol
    ) -> None:
        self._connection = connection
        self.stream = stream
        self._protocol = protocol
        self._messages: asyncio.Queue[Data | None] = asyncio.Queue()
        self._parts: list[bytes] = []
        self._opcode = Opcode.TEXT
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._deaf = False
        self.pings = 0
        self._over = asyncio.Event()
        self.status = stream.status or 0
        self.fields = {n.decode(): v.decode() for n, v in stream.fields.items()}
        self.subprotocol = protocol.subprotocol
        self._reader = asyncio.ensure_future(self._read())

    async def send(self, message: Data) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()
        await self._paced()

    async def send_parts(self, parts: Sequence[Data]) -> None:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            data = part.encode() if isinstance(part, str) else part
            if number:
                self._protocol.send_continuation(data, fin=last)
            elif isinstance(part, str):
                self._protocol.send_text(data, fin=last)
            else:
                self._protocol.send_binary(data, fin=last)
            self._flush()
        await self._paced()

    async def raw(self, data: bytes) -> None:
        self._connection.send(self.stream, frame(DATA, data))

    async def recv(self) -> Data:
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise ConnectionError("the WebSocket has ended")
        return message

    async def ping(self, data: bytes) -> None:
        self._pongs[data] = asyncio.get_running_loop().create_future()
        self._protocol.send_ping(data)
        self._flush()
        await self._pongs[data]

    async def close(self, code: int = 1000, reason: str = "") -> End:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()
        return await self.end()

    async def end(self) -> End:
        await self._over.wait()
        received = self._protocol.close_rcvd
        return End(1006) if received is None else End(received.code, received.reason)

    @property
    def ended_in_peace(self) -> bool:
        return self.stream.ended and self.stream.reset_code is None

    def vanish(self) -> None:
        self._reader.cancel()
        self._connection.stop(self.stream, _REQUEST_CANCELLED)
        self._connection.reset(self.stream, _REQUEST_CANCELLED)

    def deaf(self) -> None:
        self._deaf = True

    def pause(self) -> None:
        self._connection.quic.withhold_credit = True

    def resume(self) -> None:
        self._connection.quic.withhold_credit = False
        self._connection.flush()

    @property
    def accepted(self) -> int:
        return self._connection.sent(self.stream)

    def drop(self) -> None:
        self._reader.cancel()

    async def _read(self) -> None:
        stream = self.stream

        def something() -> bool:
            return bool(stream.content) or stream.done or self._connection.close_code is not None

        while True:
            await self._connection.until(something)
            data = bytes(stream.content)
            stream.content.clear()
            if self._deaf:
                data = b""
            elif data:
                self._protocol.receive_data(data)
            over = stream.done or self._connection.close_code is not None
            if over and not self._deaf:
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            if not self._deaf:
                self._flush()
            if over:
                self._messages.put_nowait(None)
                self._over.set()
                return

    def _take(self, item: Frame) -> None:
        if item.opcode is Opcode.PONG:
            pong = self._pongs.pop(bytes(item.data), None)
            if pong is not None:
                pong.set_result(None)
        self.pings += item.opcode is Opcode.PING
        if item.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if item.opcode is not Opcode.CONT:
            self._opcode = item.opcode
        self._parts.append(bytes(item.data))
        if item.fin:
            message, self._parts = b"".join(self._parts), []
            text = self._opcode is Opcode.TEXT
            self._messages.put_nowait(message.decode() if text else message)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self.stream.stop_code is None and self.stream.reset_code is None:
                # b"" is the end of this side.
                self._connection.send(self.stream, frame(DATA, data) if data else b"", end=not data)

    async def _paced(self) -> None:
        """Let no more than a window wait here, as a socket would."""
        stream = self._connection.quic._streams.get(self.stream.id)
        if stream is None or self.stream.stop_code is not None:
            raise ConnectionError("the WebSocket has ended")
        sender = stream.sender
        limit = self._connection.quic.configuration.max_stream_data
        await self._connection.until(
            lambda: (
                sender._buffer_stop - sender._buffer_start <= limit
                or self.stream.stop_code is not None
                or self._connection.close_code is not None
            ),
        )


class H3WebSocketClient(WebSocketClient):
    http_version = "3"
    secure = True

    async def connection(self) -> H3Client:
        """The one connection, also for what only HTTP/3 has."""
        assert isinstance(self.http, H3ContractClient)
        return await self.http.connection()

    async def _connect(self, target: str, offer: Offer) -> H3Conversation:
        connection = await self.connection()
        extensions = enable_client_permessage_deflate(None) if offer.compression else []
        fields = [(b"sec-websocket-version", b"13"), *offer.fields]
        if offer.subprotocols:
            fields.append((b"sec-websocket-protocol", ", ".join(offer.subprotocols).encode()))
        for factory in extensions:
            value = build_extension([(factory.name, factory.get_request_params())])
            fields.append((b"sec-websocket-extensions", value.encode()))
        stream = connection.send(connection.open(), extended_connect(target.encode(), fields))
        await connection.until(lambda: stream.status is not None or stream.done)
        if stream.status != 200:
            await connection.until(lambda: stream.done)
            if not stream.ended:
                raise ConnectionResetError(f"reset with {stream.reset_code}")
            names = {n.decode(): v.decode() for n, v in stream.fields.items()}
            raise Refused(stream.status or 0, names, bytes(stream.content))
        protocol = ClientProtocol(
            parse_uri(f"wss://localhost{target}"),
            extensions=extensions,
            subprotocols=list(offer.subprotocols) or None,  # type: ignore[arg-type]
            state=State.OPEN,
            max_size=None,
        )
        answer = Headers((n.decode(), v.decode()) for n, v in stream.fields.items())
        protocol.extensions = protocol.process_extensions(answer)
        protocol.subprotocol = protocol.process_subprotocol(answer)
        return H3Conversation(connection, stream, protocol)

    async def ask(self, method: str, fields: Fields, *, protocol: bytes = b"websocket") -> Exchange:
        connection = await self.connection()
        data = extended_connect(b"/", fields, method=method.encode(), protocol=protocol)
        return await H3Exchange(connection, connection.send(connection.open(), data)).over()


def extended_connect(
    target: bytes, fields: Fields, *, method: bytes = b"CONNECT", protocol: bytes = b"websocket"
) -> bytes:
    """The HEADERS frame of an extended CONNECT (RFC 9220 3)."""
    return headers(method, target, (b":protocol", protocol), *fields)
