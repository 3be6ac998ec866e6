"""What a WebSocket receives: bytes to frames, one frame at a time.

Owns the bytes that cannot be processed yet. Knows nothing of sending, nor of what a frame means
for the connection.
"""

from collections.abc import Callable

from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.server import ServerProtocol

from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.wire import SHORT_CUT_BYTES, frame_size, whole_message

INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009

_OPCODE = 0x0F
# RFC 6455 5.5: a frame with this bit set is a control frame, and no part of a message.
_CONTROL = 0x08


class FrameInput:
    """The receiving half. Messages go to `assembler`.

    `process` gets each event of `protocol`. `answer` is called after that, with whether it was a
    ping, to send the response of `protocol`. Both may pause or stop the input: that takes effect
    before the next frame is parsed or inflated. `room` returns how many more bytes may be held.
    """

    __slots__ = (
        "_answer",
        "_assembler",
        "_frame_fed",
        "_frame_left",
        "_held",
        "_in_message",
        "_limit",
        "_process",
        "_protocol",
        "_room",
        "over",
        "paused",
        "received",
        "unfinished",
    )

    def __init__(
        self,
        protocol: ServerProtocol,
        assembler: WebsocketFrameAssembler,
        *,
        process: Callable[[Event], None],
        answer: Callable[[bool], None],
        room: Callable[[], int],
    ) -> None:
        self.paused = False
        """Set by the owner: hold received bytes."""
        self.over = False
        """Whether received bytes are ignored: the peer has closed, or violated the protocol."""
        self.unfinished = False
        """Whether a frame or a message is incomplete."""
        self.received = 0
        """Bytes of messages in frames or pieces that took more than one step; it only grows."""
        self._protocol = protocol
        self._assembler = assembler
        self._process = process
        self._answer = answer
        self._room = room
        self._limit = _short_cut_limit(protocol)
        # Grows and shrinks in place, as the peer may send very small pieces.
        self._held = bytearray()
        self._frame_left = 0
        self._frame_fed = 0
        self._in_message = True

    @property
    def held(self) -> int:
        """Bytes of incomplete frames, here or in `protocol`."""
        return len(self._held) + self._frame_fed

    @property
    def blocked(self) -> bool:
        """Whether there are bytes that wait for the end of the pause."""
        return self.paused and bool(self._held)

    def receive(self, data: bytes = b"") -> None:
        """Process the held bytes, then `data`, until there is a pause."""
        if self.over:
            return
        assembler = self._assembler
        taken = 0
        if not self.unfinished and not self.paused and assembler.incomplete is None:
            message = whole_message(data, 0, self._limit)
            if message is not None:
                assembler.feed_message(message[0])
                taken = message[1]
                if taken == len(data):
                    # One message in one frame in one piece: by far the most common case.
                    return
        if not self._held and not self.paused:
            taken = self._process_frames(data, taken)
            if taken < len(data) and not self.over:
                self._held += data[taken:]
        else:
            self._held += data[taken:]
            if not self.paused:
                taken = self._process_frames(self._held, 0)
                del self._held[:taken]
        if not self.over:
            left = self._frame_left or self._held or assembler.incomplete
            self.unfinished = bool(left)

    def stop(self) -> None:
        """Drop the held bytes and ignore all later ones."""
        self.over = True
        self.unfinished = False
        self._held = bytearray()
        self._frame_fed = 0

    def _process_frames(self, data: bytes | bytearray, at: int) -> int:
        """Process the frames in `data` from `at` on until there is a pause; return where it is."""
        assembler = self._assembler
        size = len(data)
        while at < size and not (self.paused or self.over):
            if not self._frame_left:
                if assembler.incomplete is None:
                    message = whole_message(data, at, self._limit)
                    if message is not None:
                        assembler.feed_message(message[0])
                        at = message[1]
                        continue
                self._frame_left = frame_size(data, at)
                if not self._frame_left:
                    break
                self._in_message = not data[at] & _CONTROL
                if assembler.incomplete is not None and data[at] & _OPCODE == Opcode.CLOSE:
                    _forget_fragments(self._protocol)
            part = data[at : at + self._frame_left]
            at += len(part)
            self._frame_left -= len(part)
            self._feed(part)
        return at

    def _feed(self, part: bytes | bytearray) -> None:
        protocol = self._protocol
        if self._in_message:
            self.received += len(part)
        if self._in_message and len(part) > self._room():
            protocol.fail(MESSAGE_TOO_BIG, "too many bytes of messages wait on this connection")
        else:
            protocol.receive_data(part)
        self._frame_fed = self._frame_fed + len(part) if self._frame_left else 0
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
    """Allow a close frame between fragments (RFC 6455 5.4, 5.5.1).

    The library would answer it with a protocol error.
    """
    # The second is the attribute's name until version 15 of the library.
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
