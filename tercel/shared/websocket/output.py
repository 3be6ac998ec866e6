"""Sends the frames of a WebSocket: in order, batched, and paused while the peer reads too little.

Owns the bytes between the application and the byte stream. Knows nothing of receiving, of
time-outs, or of when to close.
"""

import asyncio
from typing import Final

from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tercel.shared.bytestream import ByteStream
from tercel.shared.errors import StreamAborted
from tercel.shared.tasks import TaskSet
from tercel.shared.websocket.wire import message_frame

BATCH_BYTES = 16_384
"""Frames of one event loop iteration go out in one write, unless they are larger than this."""


# See tercel.shared.stream: a member found by its class costs 0.06 us on Python 3.11.
_OPEN: Final = State.OPEN
_TEXT: Final = Opcode.TEXT


class FrameOutput:
    """The sending half. Nothing but `drain` waits; after `stop` everything is dropped."""

    __slots__ = (
        "_flush_due",
        "_late_pong",
        "_plain",
        "_pong_tasks",
        "_size",
        "batched",
        "loop",
        "protocol",
        "stopped",
        "stream",
    )

    def __init__(
        self, protocol: ServerProtocol, stream: ByteStream, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.protocol = protocol
        self.stream = stream
        self.loop = loop
        self.batched: list[bytes] = []
        """Frames to be written by the next `flush`."""
        self._plain = not protocol.extensions and not protocol.debug
        self._size = 0
        self._flush_due = False
        self._late_pong = b""
        self._pong_tasks: TaskSet | None = None
        self.stopped = False

    @property
    def open(self) -> bool:
        """Whether the application may send."""
        return not self.stopped and self.protocol.state is _OPEN

    async def drain(self) -> None:
        """Wait until more may be sent. Raises StreamAborted when the stream has ended."""
        if not self.stream.writable:
            self.flush()
            await self.stream.drain()

    def send_message(self, opcode: Opcode, payload: bytes, *, more: bool) -> None:
        """Send one message in one frame; with `more`, others may follow in this loop iteration.

        Raises InvalidState unless the connection is open.
        """
        protocol = self.protocol
        if self._plain and not protocol.expect_continuation_frame:
            frame = message_frame(opcode, payload)
            if more or self.batched:
                self._add(frame, more)
            else:
                self.stream.write(frame)
            return
        if opcode is _TEXT:
            protocol.send_text(payload)
        else:
            protocol.send_binary(payload)
        self._add(b"".join(protocol.data_to_send()), more)

    def send_fragment(self, opcode: Opcode, payload: bytes, *, last: bool) -> None:
        """Send a part of a message in a frame of its own."""
        match opcode:
            case Opcode.TEXT:
                self.protocol.send_text(payload, fin=last)
            case Opcode.BINARY:
                self.protocol.send_binary(payload, fin=last)
            case _:
                self.protocol.send_continuation(payload, fin=last)
        self.send_pending()

    def send_pending(self) -> bool:
        """Send the output of `protocol`; True when that was its last."""
        last = self.collect()
        self.flush()
        return last

    def collect(self, *, pong: bool = False) -> bool:
        """Take the output of `protocol` for the next `flush`; True when that was its last.

        With `pong` it is the answer to a ping. While the peer accepts no data, only the latest pong
        is kept (RFC 6455 5.5.3), so that pings cannot fill the memory.
        """
        last = False
        for frame in self.protocol.data_to_send():
            if not frame:
                last = True
            elif pong and not self.stopped and not self.stream.writable:
                self._answer_later(frame)
            else:
                self.batched.append(frame)
                self._size += len(frame)
        if self._size >= BATCH_BYTES:
            # Written bytes count against the stream's limit; batched ones do not.
            self.flush()
        return last

    def flush(self) -> None:
        """Write the batched frames in one piece."""
        self._flush_due = False
        if self.batched:
            batch, self.batched, self._size = self.batched, [], 0
            if not self.stopped:
                self.stream.write(batch[0] if len(batch) == 1 else b"".join(batch))

    def stop(self) -> None:
        """The stream takes nothing more."""
        self.stopped = True
        self.batched.clear()

    def _add(self, frame: bytes, more: bool) -> None:
        self.batched.append(frame)
        self._size += len(frame)
        if not more or self._size >= BATCH_BYTES:
            self.flush()
        elif not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self.flush)

    def _answer_later(self, pong: bytes) -> None:
        self._late_pong = pong
        if self._pong_tasks is None:
            self._pong_tasks = TaskSet(self.loop)
        if not len(self._pong_tasks):
            self._pong_tasks.spawn(self._send_late_pong(), name="websocket pong")

    async def _send_late_pong(self) -> None:
        try:
            await self.stream.drain()
        except StreamAborted:
            return
        self.batched.append(self._late_pong)
        self.flush()
