"""A ByteStream without a transport, and a WebSocket client of the websockets library behind it."""

import asyncio
from collections import deque
from typing import Any

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tercel.shared.bytestream import ByteReceiver, ByteStream
from tercel.shared.connection import ConnectionInfo
from tercel.shared.errors import ConnectionClosed, ServerError, StreamAborted
from tercel.shared.flow import WriteGate
from tercel.shared.messages import RequestHead
from tercel.shared.settings import Settings
from tercel.shared.websocket.impl import WebsocketImplProtocol
from tercel.shared.websocket.negotiation import negotiate
from tercel.shared.websocket.unfinished import MessageLimits

HIGH_WATER = 65_536


class MemoryByteStream(ByteStream):
    """Keeps what is written until the peer takes it; delivers what the peer is said to send."""

    def __init__(self, *, send_timeout: float | None = None) -> None:
        self.connection = ConnectionInfo()
        self.receiver: ByteReceiver | None = None
        self.writes: list[bytes] = []
        """Each write that was made, for good."""
        self.output = bytearray()
        """What the peer has not taken."""
        self.paused = False
        self.pauses = 0
        self.eof_written = False
        self.closed = False
        self.aborted = False
        self.lost = False
        self._send_timeout = send_timeout
        self._gate = WriteGate(high=HIGH_WATER, low=HIGH_WATER // 4)
        self._inbox: deque[bytes | None] = deque()

    # -- the server's side ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.eof_written or self.closed or self.aborted or self.lost:
            return
        assert data, "nothing to write"
        self.writes.append(data)
        self.output += data
        self._gate.update(len(self.output))

    @property
    def writable(self) -> bool:
        return not self._gate.paused and not self.lost

    @property
    def unsent(self) -> int:
        return len(self.output)

    async def drain(self) -> None:
        if not await self._gate.wait(self._send_timeout):
            raise StreamAborted("the client took nothing for send_timeout seconds")

    def pause_reading(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    def write_eof(self) -> None:
        self.eof_written = True

    def close(self) -> None:
        self.closed = True
        if not self.output:
            asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.aborted = True
        self.output.clear()
        asyncio.get_running_loop().call_soon(self.lose)

    # -- the peer's side ------------------------------------------------------------------------

    def deliver(self, *data: bytes) -> None:
        """The peer sends `data`, a part after the other."""
        self._inbox.extend(data)
        self._deliver()

    def deliver_eof(self) -> None:
        """The peer ends its side."""
        self._inbox.append(None)
        self._deliver()

    def take(self, limit: int | None = None) -> bytes:
        """The peer takes what was written, `limit` bytes at most."""
        data = bytes(self.output[:limit])
        del self.output[:limit]
        self._gate.update(len(self.output))
        if self.closed and not self.output:
            asyncio.get_running_loop().call_soon(self.lose)
        return data

    def lose(self, error: ServerError | None = None) -> None:
        """The stream is gone."""
        if self.lost:
            return
        self.lost = True
        self._gate.close(error or ConnectionClosed("the connection is closed"))
        if self.receiver is not None:
            self.receiver.connection_lost(error)

    def _deliver(self) -> None:
        while self._inbox and not self.paused and not self.lost and not self.closed:
            data = self._inbox.popleft()
            assert self.receiver is not None
            if data is None:
                self.receiver.eof_received()
            else:
                self.receiver.data_received(data)


class Pair:
    """A server's WebSocket and a client's, after a handshake, in one process."""

    def __init__(
        self,
        *,
        compression: bool = False,
        max_size: int = 2**20,
        subprotocols: list[str] | None = None,
        send_timeout: float | None = None,
        start: bool = True,
        limits: MessageLimits | None = None,
        **options: Any,
    ) -> None:
        self.client = ClientProtocol(
            parse_uri("ws://example.org/chat"),
            extensions=[ClientPerMessageDeflateFactory()] if compression else None,
            subprotocols=subprotocols,  # type: ignore[arg-type]
            max_size=None,
            state=State.OPEN,  # Its handshake goes from hand to hand, not through its parser.
        )
        negotiated = negotiate(
            upgrade_head(self.client),
            Settings(ws_max_message_bytes=max_size, ws_compression=compression),
            subprotocols,
        )
        headers = Headers((name.decode(), value.decode()) for name, value in negotiated.fields)
        self.client.process_response(Response(negotiated.status, "", headers))
        self.stream = MemoryByteStream(send_timeout=send_timeout)
        self.server = WebsocketImplProtocol(negotiated.protocol, **options)
        self.stream.receiver = self.server
        self._parts: list[bytes] = []
        self._text = False
        if start:
            self.server.attach(self.stream, limits=limits)

    def client_sends(self, *messages: str | bytes) -> None:
        """The client sends whole messages, in one piece of the transport."""
        for message in messages:
            if isinstance(message, str):
                self.client.send_text(message.encode())
            else:
                self.client.send_binary(message)
        self.flush()

    def flush(self) -> None:
        """What the client has to send arrives."""
        data = self.client.data_to_send()
        ended = bool(data) and not data[-1]
        if joined := b"".join(data):
            self.stream.deliver(joined)
        if ended:
            self.stream.deliver_eof()

    def client_receives(self) -> list[Frame]:
        """The client takes all that was written, and answers what wants an answer."""
        if data := self.stream.take():
            self.client.receive_data(data)
        if self.stream.eof_written:
            self.client.receive_eof()
        frames = [event for event in self.client.events_received() if isinstance(event, Frame)]
        self.flush()
        return frames

    def client_messages(self) -> list[str | bytes]:
        """The messages among what the client receives, put together."""
        messages: list[str | bytes] = []
        for frame in self.client_receives():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if frame.opcode is not Opcode.CONT:
                    self._text = frame.opcode is Opcode.TEXT
                self._parts.append(bytes(frame.data))
                if frame.fin:
                    message = b"".join(self._parts)
                    messages.append(message.decode() if self._text else message)
                    self._parts.clear()
        return messages

    def client_closes(self, code: int = 1000, reason: str = "") -> None:
        """The client begins the closing handshake."""
        self.client.send_close(code, reason)
        self.flush()


def upgrade_head(client: ClientProtocol) -> RequestHead:
    """The head of the request that `client` opens with."""
    request = client.connect()
    return RequestHead(
        method=b"GET",
        scheme=b"http",
        authority=b"example.org",
        target=request.path.encode(),
        fields=[
            (name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()
        ],
        http_version="1.1",
        protocol=b"websocket",
    )
