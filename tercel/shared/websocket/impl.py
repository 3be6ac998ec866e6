"""One WebSocket connection (RFC 6455, 9220) on a byte stream of any transport.

The interface for applications and for transports. It joins the modules `input`, `frame`,
`sending`, `output`, `pings`, `timers` and `closing`. websockets' `ServerProtocol` implements the
rules for frames. Receiving never waits and needs no task.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Iterable,
    Sequence,
)
from typing import Any

from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from tercel.shared.buffered import COUNTED_FROM_BYTES, Account
from tercel.shared.bytestream import ByteStream
from tercel.shared.errors import ServerError
from tercel.shared.logs import logger
from tercel.shared.weakly import weakly
from tercel.shared.websocket.closing import (
    ABNORMAL,
    GOING_AWAY,
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    Closing,
)
from tercel.shared.websocket.frame import MessageFrames, WebsocketFrameAssembler
from tercel.shared.websocket.input import FrameInput
from tercel.shared.websocket.output import FrameOutput
from tercel.shared.websocket.pings import PendingPings
from tercel.shared.websocket.sending import MessageSender
from tercel.shared.websocket.timers import Keepalive, Progress
from tercel.shared.websocket.unfinished import (
    BoundedExtension,
    HeldMessages,
    MessageLimits,
    MessageTimer,
)
from tercel.shared.websocket.wire import Data

log = logger("tercel.websocket")


class WebsocketImplProtocol(MessageSender):
    """A WebSocket whose opening handshake is done: `ws_proto` is in its state OPEN.

    `max_queue` messages may wait to be read, `DEFAULT_MAX_QUEUE` by default, before the peer is
    held back. Times are in seconds; None or 0 for `ping_interval` sends no pings, for
    `ping_timeout` it waits for ever. `close_timeout` is how long the peer has for its part of the
    closing handshake. The default of `loop` is the loop that runs at `connection_made`.
    """

    def __init__(
        self,
        ws_proto: ServerProtocol,
        max_queue: int | None = None,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float = 10,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__()
        self.ws_proto = ws_proto
        self.io_proto: Any = None
        self.loop = loop
        self.max_queue = max_queue
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.close_timeout = close_timeout
        self.assembler = WebsocketFrameAssembler(self)
        self.pings = PendingPings()
        self._output: FrameOutput | None = None
        self._keepalive = Keepalive(
            interval=ping_interval,
            timeout=ping_timeout,
            ping=weakly(self._keepalive_ping),
            excused=weakly(self._pong_excused),
            overdue=weakly(self._pong_overdue),
        )
        self._progress: Progress | None = None
        self._input = FrameInput(
            ws_proto,
            self.assembler,
            process=weakly(self._process),
            answer=weakly(self._answer),
            room=weakly(self._room),
        )
        self._held: HeldMessages | None = None
        self._timer: MessageTimer | None = None
        self._watching = False
        """Whether a message is counted, or not complete, so that changes must be noted."""
        self._eof = False
        self._going_away = False
        self._closing = Closing(
            ws_proto,
            assembler=self.assembler,
            input=self._input,
            keepalive=self._keepalive,
            pings=self.pings,
            timeout=close_timeout,
        )

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the opening handshake agreed on."""
        return self.ws_proto.subprotocol

    @property
    def close_code(self) -> int | None:
        """The peer's code, 1005 for none in its close frame, 1006 for no close frame at all.

        None before the end.
        """
        if self.ws_proto.close_rcvd is not None:
            return self.ws_proto.close_rcvd.code
        return ABNORMAL if self._input.over or self._closing.lost else None

    @property
    def close_reason(self) -> str:
        """The peer's reason in words, if it gave one."""
        return "" if self.ws_proto.close_rcvd is None else self.ws_proto.close_rcvd.reason

    # -- the connection's life ------------------------------------------------------------------

    def attach(
        self,
        io_proto: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: MessageLimits | None = None,
    ) -> None:
        """Begin: send and receive on `io_proto`, a `ByteStream` or what has one as `byte_stream`.

        `limits` are those on messages that are not complete. Raises ServerError the second time.
        """
        if self._output is not None:
            raise ServerError("the WebSocket has its connection already")
        stream = io_proto if isinstance(io_proto, ByteStream) else io_proto.byte_stream
        self.io_proto = io_proto
        self.loop = loop or self.loop or asyncio.get_running_loop()
        self._output = FrameOutput(self.ws_proto, stream, self.loop)
        self._closing.output = self._output
        self._limit_messages(limits or MessageLimits(), stream.connection.account, self.loop)
        self._keepalive.start(self.loop)

    async def connection_made(
        self, io_proto: Any, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Begin, as `attach` does. Nothing is waited for."""
        self.attach(io_proto, loop)

    async def wait_for_connection_lost(self, timeout: float | None = None) -> bool:
        """Wait until the byte stream is closed, `timeout` seconds at most; return whether it is."""
        closing = self._closing
        try:
            async with asyncio.timeout(timeout):
                while self._output is not None and not closing.lost:
                    await closing.changed.wait()
        except TimeoutError:
            pass
        return closing.lost

    async def auto_close_connection(self) -> None:
        """Wait for the end of the data transfer, then until the byte stream is closed.

        No call is needed for a connection to be closed in time; being cancelled aborts it.
        """
        try:
            while not self._closing.lost:
                await self._closing.changed.wait()
        finally:
            if not self._closing.lost:
                self.fail_connection()

    async def keepalive_ping(self) -> None:
        """Ping at intervals and fail the connection for a missing pong, until it ends.

        `connection_made` has begun that already; this waits, and being cancelled stops it.
        """
        if not self.ping_interval:
            return
        self._keepalive.start(self._attached().loop)
        try:
            while not (self._closing.begun or self._closing.lost):
                await self._closing.changed.wait()
        finally:
            self._keepalive.stop()

    # -- receiving ------------------------------------------------------------------------------

    async def recv(self, timeout: float | None = None) -> Data | None:
        """Receive the next message; None when none came for `timeout` seconds, 0 does not wait.

        Messages that arrived before the end are received first. Then ConnectionClosedOK is raised
        for a regular closing handshake and ConnectionClosedError for any other end. Raises
        ServerError when another task receives. Being cancelled loses no message.
        """
        return await self.assembler.get(timeout)

    async def recv_burst(self, max_recv: int = 256) -> Sequence[Data]:
        """Receive the messages that have arrived, `max_recv` at most; none if none has.

        Raises as `recv` does, once nothing is left to receive.
        """
        assembler = self.assembler
        messages: list[Data] = []
        while len(messages) < max_recv:
            message = await assembler.get(0) if not messages or assembler.readable else None
            if message is None:
                break
            messages.append(message)
        if not messages:
            # A caller that asks in a loop must let the connection receive.
            await asyncio.sleep(0)
        return messages

    def recv_streaming(self) -> MessageFrames:
        """Receive the next message frame by frame, as the frames arrive.

        The iterator raises as `recv` does. Until it is exhausted, or its `aclose` has dropped the
        rest of the message, nothing else can be received.
        """
        return self.assembler.get_iter()

    async def __aiter__(self) -> AsyncIterator[Data]:
        """Receive messages until the connection ends; an irregular end is raised."""
        try:
            while True:
                message = await self.assembler.get()
                assert message is not None  # noqa: S101  # there is no time limit
                yield message
        except ConnectionClosedOK:
            return

    # -- the end --------------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a handshake, and wait until the byte stream is closed.

        The peer has `close_timeout` seconds to answer; then, and for the code 1006, the stream is
        aborted. If the closing has begun, this only waits. Messages that nobody reads any more are
        dropped. Raises ProtocolError for a code that must not be sent.
        """
        self._attached()
        self.end_connection(code, reason)
        await self.wait_for_connection_lost()

    def end_connection(self, code: int = 1000, reason: str = "") -> bool:
        """Begin to close as `close` does, without waiting; return whether the end is reached."""
        over = self._begin_closing(code, reason)
        self._closing.read_no_more()
        return over

    def fail_connection(self, code: int = 1006, reason: str = "") -> bool:
        """Fail the connection (RFC 6455 7.1.7): receive nothing more, say why, close.

        With the code 1006 no close frame is sent and the stream is aborted. True when the end is
        reached, False when the byte stream will be closed within `close_timeout`.
        """
        if self._output is None or self._closing.lost or code == ABNORMAL:
            self._closing.abort(reason)
            return True
        self.ws_proto.fail(code, reason)
        self._output.send_pending()
        self._closing.output_ended(self._output)
        return False

    def abort_pings(self) -> None:
        """Raise ConnectionClosed in every task that waits for a pong.

        Raises ServerError while a pong can still come.
        """
        if self.ws_proto.state is not State.CLOSED and not self._closing.lost:
            raise ServerError("the connection is not closed: a pong may still come")
        self.pings.abort(self._closing.error)

    # -- backpressure ---------------------------------------------------------------------------

    def pause_frames(self) -> bool:
        """Receive no frames for now, and pause the byte stream; return whether this is new."""
        if self._output is None or self._input.paused or self._input.over or self._closing.lost:
            return False
        if self._closing.begun and not self._closing.reading:
            # The peer's close frame follows messages that nobody reads.
            self.assembler.discard()
            return False
        self._input.paused = True
        self._output.stream.pause_reading()
        return True

    def resume_frames(self) -> bool:
        """Receive frames again, first those that were held; return whether they were paused."""
        if not self._input.paused:
            return False
        self._input.paused = False
        output = self._attached()
        self._input.receive()
        self._watch_messages()
        output.flush()
        if not self._input.paused:
            if not self._closing.lost:
                output.stream.resume_reading()
            if self._eof or self._closing.lost:
                self._closing.input_ended()
        return True

    # -- the byte stream's calls ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take the next bytes. Answers to all their frames go out in one write."""
        output = self._output or self._attached()
        self._input.receive(data)
        if self._input.unfinished or self.assembler.size >= COUNTED_FROM_BYTES or self._watching:
            self._watch_messages()
        if output.batched:
            output.flush()

    def eof_received(self) -> None:
        """Take the end of the peer's bytes: regular after the closing handshake only."""
        self._eof = True
        if not self._input.blocked:
            self._closing.input_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the byte stream. Messages received before can still be read."""
        if exc is not None:
            log.debug("the byte stream is lost: %s", exc)
        if self._timer is not None:
            self._timer.stop()
        if self._held is not None and self._held.given_up:
            self.assembler.clear()
        self._closing.connection_lost()

    def ending(self, error: ServerError | None) -> str:
        """The close code and reason, unless both sides have closed regularly."""
        return self._closing.ending(error)

    def going_away(self) -> None:
        """Close with 1001: the server stops (RFC 6455 7.4.1).

        A message whose fragments are being sent is finished first. What the peer has sent can be
        received as before, until the application closes, too.
        """
        self._going_away = True
        if not self.ws_proto.expect_continuation_frame:
            self._begin_closing(GOING_AWAY)

    async def async_data_received(
        self, data_to_send: Iterable[bytes], events_to_process: Iterable[Event]
    ) -> None:
        """Send and process the output of `ws_proto` for received bytes."""
        await self.send_data(data_to_send)
        await self.process_events(events_to_process)

    async def async_eof_received(
        self, data_to_send: Iterable[bytes], events_to_process: Iterable[Event]
    ) -> None:
        """Send and process the output of `ws_proto` for the end of the bytes."""
        await self.async_data_received(data_to_send, events_to_process)
        self.eof_received()

    async def process_events(self, events: Iterable[Event]) -> None:
        """Process `events` of `ws_proto` in order; events other than frames are ignored."""
        for event in events:
            self._process(event)

    async def process_pong(self, frame: Frame) -> None:
        """Acknowledge the ping that `frame` answers, and all before it (RFC 6455 5.5.3)."""
        self.pings.answered(bytes(frame.data))

    # -- inside ---------------------------------------------------------------------------------

    def _limit_messages(
        self, limits: MessageLimits, account: Account, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._held = HeldMessages(account, limits)
        self._timer = MessageTimer(
            loop,
            limits,
            excused=weakly(self._message_excused),
            overdue=weakly(self._message_overdue),
        )
        self.ws_proto.extensions = [
            BoundedExtension(extension, weakly(self._room))
            for extension in self.ws_proto.extensions
        ]

    def _watch_messages(self) -> None:
        """Count the held bytes, and start or stop the timer for an incomplete message."""
        held, timer, input = self._held, self._timer, self._input
        assert held is not None  # noqa: S101  # attach() has seen to it
        assert timer is not None  # noqa: S101
        held.count(self.assembler.held_bytes + input.held)
        if input.unfinished:
            timer.received(input.received)
        elif timer.running:
            timer.finished()
        self.assembler.watched = bool(held.counted)
        self._watching = timer.running or bool(held.counted)

    def messages_taken(self) -> None:
        """The application has taken messages that were counted."""
        self._watch_messages()

    def _room(self) -> int:
        assert self._held is not None  # noqa: S101  # as above
        self._held.count(self.assembler.held_bytes + self._input.held)
        return self._held.room()

    def _message_excused(self) -> bool:
        return self._input.paused

    def _message_overdue(self) -> None:
        if not (self._input.over or self._closing.begun):
            log.info("a message was not complete in its time")
            self.fail_connection(POLICY_VIOLATION, "the message was not complete in its time")

    def _begin_closing(self, code: int, reason: str = "") -> bool:
        if self._closing.lost:
            return True
        if code == ABNORMAL or self._output is None or self.ws_proto.expect_continuation_frame:
            # Half a message is no regular end, whatever the application calls it.
            return self.fail_connection(code if code == ABNORMAL else INTERNAL_ERROR, reason)
        if self._closing.open:
            self.ws_proto.send_close(code, reason)
            self._output.send_pending()
            self._closing.begin(self._output)
        return False

    def _process(self, event: Event) -> None:
        if not isinstance(event, Frame):
            return
        if event.opcode is Opcode.PONG:
            self.pings.answered(bytes(event.data))
        elif event.opcode is not Opcode.PING and event.opcode is not Opcode.CLOSE:
            self.assembler.feed(event)

    def _answer(self, is_ping: bool) -> None:
        output = self._attached()
        if output.collect(pong=is_ping):
            output.flush()
            self._closing.output_ended(output)

    def _keepalive_ping(self) -> asyncio.Future[None]:
        pong = self._send_ping()
        self._progress = Progress(self._attached().stream)
        return pong

    def _pong_excused(self) -> bool:
        # The pong may follow messages that the application does not read, or the ping may follow
        # bytes that the peer is still receiving.
        return self._input.paused or (self._progress is not None and self._progress.made())

    def _pong_overdue(self) -> None:
        log.info("no pong within %s seconds", self.ping_timeout)
        self.fail_connection(INTERNAL_ERROR, "keepalive ping timeout")
