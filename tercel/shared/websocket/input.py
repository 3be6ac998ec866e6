"""What a WebSocket receives: bytes to frames, one frame at a time.

Owns the bytes that cannot be processed yet. Knows nothing of what is sent, nor what a frame means
for the connection.
"""

from collections.abc import Callable

from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.server import ServerProtocol

from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.wire import SHORT_CUT_BYTES, frame_size, whole_message

INVALID_DATA = 1007

_OPCODE = 0x0F


class FrameInput:
    """The receiving half. Messages go to `assembler`.

    `process` gets each event of `protocol`; `answer` is called after that, with whether it was a
    ping, to send what `protocol` has to say to it. Both may pause or stop the input: that takes
    effect before the next frame is parsed or inflated.
    """

    __slots__ = (
        "_answer",
        "_assembler",
        "_frame_left",
        "_held",
        "_limit",
        "_process",
        "_protocol",
        "over",
        "paused",
    )

    def __init__(
        self,
        protocol: ServerProtocol,
        assembler: WebsocketFrameAssembler,
        *,
        process: Callable[[Event], None],
        answer: Callable[[bool], None],
    ) -> None:
        self.paused = False
        """Set by the owner: hold what comes."""
        self.over = False
        """Whether what comes is ignored: the peer has closed, or broken the rules."""
        self._protocol = protocol
        self._assembler = assembler
        self._process = process
        self._answer = answer
        self._limit = _short_cut_limit(protocol)
        self._held = b""
        self._frame_left = 0

    @property
    def blocked(self) -> bool:
        """Whether there are bytes that wait for the end of the pause."""
        return self.paused and bool(self._held)

    def receive(self, data: bytes = b"") -> None:
        """Process what was held, then `data`, as far as there is no pause."""
        if self.over:
            return
        if not self._held and not self.paused and not self._frame_left:
            # One message in one frame in one piece: by far the most of all.
            assembler = self._assembler
            if not assembler.fragmented:
                message = whole_message(data, 0, self._limit)
                if message is not None and message[1] == len(data):
                    assembler.feed_message(message[0])
                    return
        if self._held:
            data, self._held = self._held + data, b""
        assembler = self._assembler
        at, size = 0, len(data)
        while at < size and not (self.paused or self.over):
            if not self._frame_left:
                if not assembler.fragmented:
                    message = whole_message(data, at, self._limit)
                    if message is not None:
                        assembler.feed_message(message[0])
                        at = message[1]
                        continue
                self._frame_left = frame_size(data, at)
                if not self._frame_left:
                    break
                if assembler.fragmented and data[at] & _OPCODE == Opcode.CLOSE:
                    _forget_fragments(self._protocol)
            part = data[at : at + self._frame_left]
            at += len(part)
            self._frame_left -= len(part)
            self._feed(part)
        if not self.over:
            self._held = data[at:]

    def stop(self) -> None:
        """Ignore what was held and what comes."""
        self.over = True
        self._held = b""

    def _feed(self, part: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(part)
        is_ping = False
        for event in protocol.events_received():
            try:
                self._process(event)
            except UnicodeDecodeError as error:
                # RFC 6455 8.1: text that is not UTF-8 fails the connection.
                protocol.fail(INVALID_DATA, f"{error.reason} at position {error.start}")
                protocol.parser_exc = error
            is_ping = isinstance(event, Frame) and event.opcode is Opcode.PING
        self._answer(is_ping)


def _forget_fragments(protocol: ServerProtocol) -> None:
    """Let a close frame stand between fragments, as it may (RFC 6455 5.4, 5.5.1).

    The library would answer it with a protocol error.
    """
    # The second is its name until version 15 of the library.
    for name in ("current_size", "cur_size"):
        if hasattr(protocol, name):
            setattr(protocol, name, None)


def _short_cut_limit(protocol: ServerProtocol) -> int:
    if protocol.debug:
        return -1  # The library logs each frame that it parses.
    # One limit until version 15 of the library, two since.
    names = ("max_size", "max_message_size", "max_fragment_size")
    limits: list[int | None] = [getattr(protocol, name, None) for name in names]
    return min([SHORT_CUT_BYTES, *(limit for limit in limits if limit is not None)])
