"""The message queue between the connection and the application, filled frame by frame.

Owns the messages received and not yet read, their limits, and when the connection is paused.
Knows neither bytes on the wire nor the closing handshake. Frames are added without waiting; only
the application waits.
"""

import asyncio
import codecs
import sys
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol, cast

from websockets.frames import Frame, Opcode

from tercel.shared.errors import ServerError
from tercel.shared.flow import Wakeup
from tercel.shared.websocket.wire import Data

DEFAULT_MAX_QUEUE = 32
"""The number of unread messages at which the peer is paused."""

HIGH_WATER_BYTES = 65_536
"""The number of unread bytes, or characters of text, at which the peer is paused.

One message may be as large as the connection allows: it is held completely, but alone.
"""

# From this size on the width of a text's characters in memory is taken into account.
_WEIGHED_TEXT = 1024

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")

MERGED_FRAGMENTS = 256
"""This many fragments of a message that is not streamed are joined, as each object costs memory."""


class FrameSource(Protocol):
    """The source of frames, which can be paused: see `WebsocketImplProtocol`."""

    max_queue: int | None

    def messages_taken(self) -> None:
        """Messages were taken from the queue: called only if `watched` is set."""

    def pause_frames(self) -> bool:
        """Send no frames for now; False when that is not possible."""

    def resume_frames(self) -> bool:
        """Send frames again."""


class WebsocketFrameAssembler:
    """Joins the frames of `protocol` to messages, in order, each once.

    Complete messages stay readable after `end`. Holds only a weak reference to `protocol`.
    """

    __slots__ = (
        "_discarding",
        "_ended",
        "_fetched",
        "_protocol",
        "_queue",
        "_streamed",
        "_taken",
        "_waiter",
        "_wanted",
        "_width",
        "incomplete",
        "max_queue",
        "paused",
        "size",
        "watched",
    )

    def __init__(self, protocol: FrameSource) -> None:
        # Weakly: a source refers to its assembler, and a reference cycle would keep both in memory
        # after the end until the garbage collector runs.
        self._protocol = weakref.ref(protocol)
        self.max_queue = protocol.max_queue or DEFAULT_MAX_QUEUE
        self.paused = False
        """Whether this assembler has paused `protocol`."""
        self.size = 0
        """Bytes, or characters of text, that are held."""
        self.watched = False
        """Set by the owner: whether to call `protocol.messages_taken`."""
        self.incomplete: _Fragments | None = None
        """The message that has begun and whose last frame has not arrived."""
        self._width = 1
        self._queue: deque[Data | _Fragments] = deque()
        self._streamed: _Fragments | None = None
        self._waiter: asyncio.Future[bool] | None = None
        """Set while a task reads."""
        self._wanted: Callable[[], bool] | None = None
        self._ended: Callable[[], Exception] | None = None
        self._discarding = False
        self._fetched: Wakeup | None = None
        """Set when a message is taken; None as long as `put` is not in use."""
        self._taken = 0
        """Messages taken since `put` is in use."""

    @property
    def readable(self) -> bool:
        """Whether `get` would return a message at once."""
        queue = self._queue
        # Only the last message can be incomplete.
        return bool(queue) and queue[0] is not self.incomplete

    @property
    def held_bytes(self) -> int:
        """About how much memory is held: one character outside of ASCII makes all others wider."""
        return self.size * self._width

    # -- the application's side -----------------------------------------------------------------

    async def get(self, timeout: float | None = None) -> Data | None:
        """Take the next message; None when none is complete after `timeout` seconds.

        Raises ServerError while another task reads, and the error of `end` once no message is left.
        Being cancelled loses nothing.
        """
        if self._waiter is not None or self._streamed is not None:
            self._check_reader()
        queue = self._queue
        if not queue or queue[0] is self.incomplete:
            if timeout is not None:
                if not await self._wait(lambda: self.readable, timeout):
                    return None
            else:
                # As `_wait`, without a time limit: 1 us less for each message.
                create_future = asyncio.get_running_loop().create_future
                try:
                    while not queue or queue[0] is self.incomplete:
                        if self._ended is not None:
                            raise self._ended()
                        self._waiter = create_future()
                        await self._waiter
                finally:
                    self._waiter = None
        item = queue.popleft()
        message = item.join() if isinstance(item, _Fragments) else item
        self.size -= len(message)
        if self._fetched is not None:
            self._taken += 1
            self._fetched.set()
        if self.watched:
            self._tell_taken()
        if self.paused and self._drained():
            self._resume()
        return message

    def get_iter(self) -> "MessageFrames":
        """Take the next message frame by frame, as it arrives: one text or bytes for each.

        While the iterator is not exhausted or closed with its `aclose`, any other reading raises
        ServerError.
        """
        return MessageFrames(self)

    # -- the connection's side ------------------------------------------------------------------

    async def put(self, frame: Frame) -> None:
        """Add `frame`; if it completes a message, wait until that has been read.

        Raises UnicodeDecodeError as `feed` does. Control frames are ignored.
        """
        if self._fetched is None:
            self._fetched = Wakeup()
        before = self._completed()
        self.feed(frame)
        number = self._completed()
        while number > before and self._taken < number and self._ended is None:
            await self._fetched.wait()

    def feed(self, frame: Frame) -> None:
        """Add `frame` at once. The caller ensures the order of frames.

        Raises UnicodeDecodeError for text that is not UTF-8.
        """
        opcode, fin, payload = frame.opcode, frame.fin, bytes(frame.data)
        if opcode is Opcode.CONT:
            fragments = self.incomplete
        elif opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if fin:
                message = payload.decode() if opcode is Opcode.TEXT else payload
                self._weigh(message)
                self.feed_message(message)
                return
            fragments = self.incomplete = _Fragments(text=opcode is Opcode.TEXT)
            if not self._discarding:
                fragments.queued = True
                self._queue.append(fragments)
        else:
            return
        if fragments is None:
            return
        data = fragments.decode(payload, fin)
        if fin:
            self.incomplete = None
        if self._discarding or fragments.dropped:
            return
        self.size += len(data)
        self._weigh(data)
        fragments.append(data)
        if fin:
            fragments.complete = True
        if self._waiter is not None and (self.readable if self._wanted is None else self._wanted()):
            self._wake()
        self._hold_back()

    def feed_message(self, message: Data) -> None:
        """Add a message that came in one frame."""
        if self._discarding:
            return
        queue, waiter = self._queue, self._waiter
        queue.append(message)
        self.size += len(message)
        if waiter is not None and not waiter.done():
            waiter.set_result(True)
        # Otherwise `_full` is out of the question.
        if len(queue) >= self.max_queue or self.size >= HIGH_WATER_BYTES:
            self._hold_back()

    def discard(self) -> None:
        """Drop every frame from now on, as nobody will read it. Complete messages stay."""
        self._discarding = True
        self._drop_unfinished()
        self._resume()

    def clear(self) -> None:
        """Drop the messages in the queue."""
        self._queue.clear()
        self.size = 0
        if self.watched:
            self._tell_taken()

    def end(self, error: Callable[[], Exception]) -> None:
        """No more frames will arrive: reading past the last message raises `error()`."""
        if self._ended is None:
            self._ended = error
            self._drop_unfinished()
            self._wake()
            if self._fetched is not None:
                self._fetched.set()

    # -- inside ---------------------------------------------------------------------------------

    def _weigh(self, data: Data) -> None:
        if isinstance(data, str) and len(data) >= _WEIGHED_TEXT and not data.isascii():
            self._width = max(self._width, sys.getsizeof(data) // len(data))

    def _drop_unfinished(self) -> None:
        unfinished = self.incomplete
        if unfinished is not None and unfinished.queued:
            self._queue.remove(unfinished)
            self.size -= sum(map(len, unfinished.parts))
            unfinished.queued = False
            unfinished.parts.clear()
            if self.watched:
                self._tell_taken()

    def _tell_taken(self) -> None:
        if not self.size:
            self._width = 1
        protocol = self._protocol()
        if protocol is not None:
            protocol.messages_taken()

    def _stream(self) -> "_Fragments":
        """Take the first message of the queue, complete or not, to be read frame by frame."""
        first = self._queue.popleft()
        if not isinstance(first, _Fragments):
            whole, first = first, _Fragments(text=isinstance(first, str))
            first.append(whole)
            first.complete = True
        first.queued = False
        self._streamed = first
        return first

    def _stop_streaming(self, message: "_Fragments") -> None:
        left = sum(map(len, message.parts))
        message.parts.clear()
        message.dropped = not message.complete
        self._streamed = None
        self._took(left, whole=message.complete)

    def _check_reader(self) -> None:
        if self._waiter is not None:
            raise ServerError("another task waits for the next message already")
        if self._streamed is not None:
            raise ServerError("the message that is read frame by frame has not been finished")

    def _completed(self) -> int:
        """The number of complete messages so far, without those that were dropped."""
        streamed = self._streamed
        count = self._taken + len(self._queue) + (streamed is not None and streamed.complete)
        return count - (self.incomplete is not None and self.incomplete.queued)

    async def _wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `ready()`; False after `timeout` seconds. Raises the error of `end`."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        if timeout is not None and timeout > 0:
            timer = loop.call_later(timeout, self._wake, False)
        self._wanted = ready
        try:
            while not ready():
                if self._ended is not None:
                    raise self._ended()
                if timeout is not None and timeout <= 0:
                    return False
                self._waiter = loop.create_future()
                if not await self._waiter and not ready():
                    return False
        finally:
            self._wanted = self._waiter = None
            if timer is not None:
                timer.cancel()
        return True

    def _wake(self, arrived: bool = True) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(arrived)

    def _took(self, size: int, *, whole: bool) -> None:
        self.size -= size
        if whole and self._fetched is not None:
            self._taken += 1
            self._fetched.set()
        if self.watched:
            self._tell_taken()
        if self.paused and self._drained():
            self._resume()

    def _hold_back(self) -> None:
        if not self.paused and self._full():
            protocol = self._protocol()
            self.paused = protocol is not None and protocol.pause_frames()

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            protocol = self._protocol()
            if protocol is not None:
                protocol.resume_frames()

    def _unread(self) -> int:
        """The number of unread messages, without the one that a waiting reader will take."""
        count = len(self._queue) - (self._waiter is not None)
        if self.incomplete is not None and self.incomplete.queued:
            count -= 1
        return count

    def _full(self) -> bool:
        streamed = self._streamed
        unread = self._unread()
        if unread >= self.max_queue:
            return True
        if streamed is not None and len(streamed.parts) >= self.max_queue:
            return True
        return self.size >= HIGH_WATER_BYTES and (unread > 0 or streamed is not None)

    def _drained(self) -> bool:
        streamed = self._streamed
        # A quarter of either mark, so that a reader that keeps up does not stop and start the
        # peer with each message.
        if streamed is not None and len(streamed.parts) > self.max_queue // 4:
            return False
        unread = self._unread()
        if unread > self.max_queue // 4:
            return False
        return self.size <= HIGH_WATER_BYTES // 4 or (unread <= 0 and streamed is None)


class MessageFrames(AsyncIterator[Data]):
    """The frames of one message, each once. Being cancelled while it waits loses nothing."""

    __slots__ = ("_assembler", "_done", "_message")

    def __init__(self, assembler: WebsocketFrameAssembler) -> None:
        self._assembler = assembler
        self._message: _Fragments | None = None
        self._done = False

    async def __anext__(self) -> Data:
        """The next frame's data.

        Raises as `WebsocketFrameAssembler.get` does; StopAsyncIteration after the last frame.
        """
        if self._done:
            raise StopAsyncIteration
        assembler = self._assembler
        if self._message is None:
            assembler._check_reader()
            if not assembler._queue:
                await assembler._wait(lambda: bool(assembler._queue))
            self._message = assembler._stream()
        elif assembler._waiter is not None:
            assembler._check_reader()
        message = self._message
        if not message.parts and not message.complete:
            await assembler._wait(lambda: bool(message.parts) or message.complete)
        if not message.parts:
            self._done = True
            assembler._stop_streaming(message)
            raise StopAsyncIteration
        data = message.parts.popleft()
        assembler._took(len(data), whole=False)
        return data

    async def aclose(self) -> None:
        """Drop the rest of the message."""
        if not self._done and self._message is not None:
            self._assembler._stop_streaming(self._message)
        self._done = True


class _Fragments:
    """A message in several frames. Text is decoded incrementally, across split characters."""

    __slots__ = ("_decoder", "_unmerged", "complete", "dropped", "parts", "queued", "text")

    def __init__(self, *, text: bool) -> None:
        self.text = text
        self.parts: deque[Data] = deque()
        self.complete = False
        self.queued = False
        self.dropped = False
        self._decoder = _Utf8Decoder() if text else None
        self._unmerged = 0

    def decode(self, payload: bytes, fin: bool) -> Data:
        return payload if self._decoder is None else self._decoder.decode(payload, fin)

    def append(self, data: Data) -> None:
        # Empty frames cost the peer nothing, so they may cost no memory here: one is enough.
        if data or not self.parts:
            self.parts.append(data)
            self._unmerged += 1
            if self.queued and self._unmerged >= MERGED_FRAGMENTS:
                tail = [self.parts.pop() for _ in range(MERGED_FRAGMENTS)]
                self.parts.append(self._joined(reversed(tail)))
                self._unmerged = 0

    def join(self) -> Data:
        return self._joined(self.parts)

    def _joined(self, parts: Iterable[Data]) -> Data:
        return (
            "".join(cast(Iterable[str], parts))
            if self.text
            else b"".join(cast(Iterable[bytes], parts))
        )
