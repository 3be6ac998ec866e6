"""The WebSocket client on HTTP/1.1: websockets' own."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from tests.contract.client import Exchange, Fields
from tests.contract.websocket.client import Conversation, Data, End, Offer, Refused, WebSocketClient
from tests.support.direct import DIRECT


class _Connection(ClientConnection):
    """websockets' connection, which can be told to answer nothing."""

    deaf = False
    pings = 0
    lost: Exception | None = None

    def process_event(self, event: Event) -> None:
        self.pings += isinstance(event, Frame) and event.opcode is Opcode.PING
        super().process_event(event)

    def data_received(self, data: bytes) -> None:
        if not self.deaf:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        super().connection_lost(exc)


class H1Conversation(Conversation):
    def __init__(self, connection: _Connection) -> None:
        assert connection.response is not None
        self._connection = connection
        self._written = 0
        self._aborted = False
        self.status = connection.response.status_code
        self.fields = {
            name.lower(): value for name, value in connection.response.headers.raw_items()
        }
        self.subprotocol = connection.subprotocol

    async def send(self, message: Data) -> None:
        self._written += len(message)
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise ConnectionError from error

    async def send_parts(self, parts: Sequence[Data]) -> None:
        await self._connection.send(parts)

    async def raw(self, data: bytes) -> None:
        self._connection.transport.write(data)

    async def recv(self) -> Data:
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise ConnectionError from error

    async def ping(self, data: bytes) -> None:
        await (await self._connection.ping(data))

    async def close(self, code: int = 1000, reason: str = "") -> End:
        await self._connection.close(code, reason)
        return await self.end()

    async def end(self) -> End:
        await self._connection.wait_closed()
        received = self._connection.protocol.close_rcvd
        return End(1006) if received is None else End(received.code, received.reason)

    @property
    def pings(self) -> int:  # type: ignore[override]
        return self._connection.pings

    @property
    def ended_in_peace(self) -> bool:
        return self._connection.lost is None

    def vanish(self) -> None:
        self._connection.transport.abort()

    def deaf(self) -> None:
        self._connection.deaf = True

    def pause(self) -> None:
        self._connection.transport.pause_reading()

    def resume(self) -> None:
        self._connection.transport.resume_reading()

    @property
    def accepted(self) -> int:
        return self._written - self._connection.transport.get_write_buffer_size()

    def drop(self) -> None:
        self._connection.transport.abort()


class H1WebSocketClient(WebSocketClient):
    http_version = "1.1"
    secure = True

    async def _connect(self, target: str, offer: Offer) -> H1Conversation:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        # A fixed size: the kernel would let both grow to several megabytes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.http.window)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.http.window)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.http.port))
        tls: dict[str, Any] = {}
        if self.secure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            tls = {"ssl": context, "server_hostname": "localhost"}
        scheme = "wss" if self.secure else "ws"
        try:
            connection = await connect(
                f"{scheme}://localhost:{self.http.port}{target}",
                sock=sock,
                subprotocols=list(offer.subprotocols) or None,  # type: ignore[arg-type]
                compression="deflate" if offer.compression else None,
                additional_headers=[(n.decode(), v.decode()) for n, v in offer.fields],
                user_agent_header=None,
                ping_interval=None,
                max_size=None,
                max_queue=None,
                **DIRECT,
                create_connection=_Connection,
                **tls,
            )
        except InvalidStatus as refused:
            response = refused.response
            fields = {name.lower(): value for name, value in response.headers.raw_items()}
            raise Refused(response.status_code, fields, bytes(response.body or b"")) from None
        assert isinstance(connection, _Connection)
        return H1Conversation(connection)

    async def ask(self, method: str, fields: Fields, *, protocol: bytes = b"websocket") -> Exchange:
        upgrade = [(b"connection", b"upgrade"), (b"upgrade", protocol)]
        return await self.http.request(method, "/", [*upgrade, *fields])


class H1PlainWebSocketClient(H1WebSocketClient):
    secure = False
