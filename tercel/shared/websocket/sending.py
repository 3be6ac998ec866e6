"""The sending half of a WebSocket: messages, fragments and pings, with backpressure.

Knows what the application sends and whether it still may; knows nothing of receiving.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from websockets.frames import Opcode
from websockets.server import ServerProtocol

from tercel.shared.bytestream import ByteReceiver
from tercel.shared.errors import ServerError, StreamAborted
from tercel.shared.websocket.closing import GOING_AWAY, INTERNAL_ERROR, Closing
from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.output import FrameOutput
from tercel.shared.websocket.pings import PendingPings
from tercel.shared.websocket.wire import Sendable, payload_of


class MessageSender(ByteReceiver):
    """The sending methods of a WebSocket. A subclass receives, and closes the connection."""

    ws_proto: ServerProtocol
    assembler: WebsocketFrameAssembler
    pings: PendingPings
    _closing: Closing
    _output: FrameOutput | None
    _going_away: bool

    def __init__(self) -> None:
        self._send_lock = asyncio.Lock()

    async def send(self, message: Sendable | Iterable[Sendable] | AsyncIterable[Sendable]) -> None:
        """Send a message: str as text, bytes and the like as binary.

        An iterable, or an asynchronous one, is sent in fragments, a frame for each item. Waits
        while the peer reads too little. Raises ConnectionClosed when it is closed, and TypeError
        for anything else: a mapping, say, or items of both kinds, which then fails the connection
        as there is no way to take the first ones back.
        """
        if isinstance(message, Sendable):
            if not self.send_now(message):
                opcode, payload = payload_of(message)
                async with self._send_lock:
                    output = await self._drain()
                    output.send_message(opcode, payload, more=self.assembler.readable)
        elif isinstance(message, Mapping):
            raise TypeError("a mapping is no message; its keys() may be one")
        elif isinstance(message, AsyncIterable | Iterable):
            async with self._send_lock:
                await self._send_fragments(message)
        else:
            raise TypeError(f"a message is str, bytes or an iterable of one, not {type(message)}")

    def send_now(self, message: Sendable) -> bool:
        """Send a message if that needs no waiting; return whether it was sent.

        Raises as `send` does.
        """
        output = self._output
        if output is None or not output.stream.writable or self._send_lock.locked():
            return False
        opcode, payload = payload_of(message)
        if not output.open:
            raise self._closing.error()
        output.send_message(opcode, payload, more=self.assembler.readable)
        return True

    async def ping(self, data: Sendable | None = None) -> asyncio.Future[None]:
        """Send a ping with `data`, text as UTF-8, 125 bytes at most; 4 random bytes by default.

        The returned future is done when the pong has arrived, and raises ConnectionClosed when
        none can arrive any more. Raises ValueError while a pong with that data is due.
        """
        await self._drain()
        return self._send_ping(None if data is None else payload_of(data)[1])

    async def pong(self, data: Sendable = b"") -> None:
        """Send an unsolicited pong (RFC 6455 5.5.3); nothing when the closing has begun."""
        if not self._closing.open:
            return
        output = await self._drain()
        self.ws_proto.send_pong(payload_of(data)[1])
        output.send_pending()

    async def send_data(self, data_to_send: Iterable[bytes]) -> None:
        """Write the output of `ws_proto`; b"" ends this side of the connection."""
        output = self._attached()
        for data in data_to_send:
            if data:
                await output.drain()
                output.stream.write(data)
            else:
                self._closing.output_ended(output)

    # -- a subclass's ---------------------------------------------------------------------------

    @abstractmethod
    def fail_connection(self, code: int = 1006, reason: str = "") -> bool:
        """Fail the connection; return whether the end is reached."""

    @abstractmethod
    def _begin_closing(self, code: int, reason: str = "") -> bool: ...

    # -- inside ---------------------------------------------------------------------------------

    def _attached(self) -> FrameOutput:
        if self._output is None:
            raise ServerError("the WebSocket has no connection yet")
        return self._output

    def _check_open(self) -> FrameOutput:
        output = self._attached()
        if not output.open:
            raise self._closing.error()
        return output

    async def _drain(self) -> FrameOutput:
        """Wait until the application may send. Raises ConnectionClosed."""
        output = self._check_open()
        if not output.stream.writable:
            try:
                await output.drain()
            except StreamAborted as error:
                self._closing.drop_output()
                raise self._closing.error() from error
            self._check_open()
        return output

    async def _send_fragments(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        kind: Opcode | None = None
        await self._drain()
        try:
            async with aclosing(_each(items)) as each:
                async for item in each:
                    opcode, payload = payload_of(item)
                    if kind not in (None, opcode):
                        raise TypeError("the fragments of a message are all text or all binary")
                    output = await self._drain()
                    output.send_fragment(Opcode.CONT if kind else opcode, payload, last=False)
                    kind = opcode
            if kind is not None:
                self._check_open().send_fragment(Opcode.CONT, b"", last=True)
                if self._going_away:
                    self._begin_closing(GOING_AWAY)
        except BaseException:
            # RFC 6455 5.4: no other message can follow an incomplete one.
            if kind is not None and self._closing.open:
                self.fail_connection(INTERNAL_ERROR, "a message could not be completed")
            raise

    def _send_ping(self, data: bytes | None = None) -> asyncio.Future[None]:
        output = self._check_open()
        data = self.pings.payload(data)
        self.ws_proto.send_ping(data)
        output.send_pending()
        return self.pings.add(data, output.loop)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
