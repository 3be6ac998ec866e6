"""Frames as bytes (RFC 6455 5.2): where one ends, and a short cut for the most common ones.

Everything but a complete, uncompressed message in one frame is left to the websockets
library. Knows nothing of streams, loops or the state of a connection.
"""

import struct
from typing import Any, Final

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  # a build of websockets without its C extension
    from websockets.utils import apply_mask

Data = str | bytes
"""A received message, or a part of it: text or bytes."""

Sendable = str | bytes | bytearray | memoryview
"""A message to be sent, or a part of it; all but str are bytes."""

SHORT_CUT_BYTES = 65_535
"""Payloads over this size go through the library: there copying costs more than parsing."""

_FIN = 0x80
# See tercel.shared.stream: a member found by its class costs 0.06 us on Python 3.11.
_TEXT: Final = Opcode.TEXT
_BINARY: Final = Opcode.BINARY
_WHOLE_TEXT = _FIN | _TEXT
_WHOLE_BINARY = _FIN | _BINARY

_pack_header_16 = struct.Struct("!BBH").pack
_pack_header_64 = struct.Struct("!BBQ").pack


def frame_size(data: bytes | bytearray, at: int) -> int:
    """Size of the frame that starts at `at`; 0 while the header is too short to determine it."""
    left = len(data) - at
    if left < 2:
        return 0
    length = data[at + 1]
    header = 6 if length & 0x80 else 2
    length &= 0x7F
    if length < 126:
        return header + length
    extended = 2 if length == 126 else 8
    if left < 2 + extended:
        return 0
    return header + extended + int.from_bytes(data[at + 2 : at + 2 + extended], "big")


def whole_message(data: bytes | bytearray, at: int, limit: int) -> tuple[Data, int] | None:
    """The message in the frame that starts at `at`, and where the next frame starts.

    None when the frame is incomplete, is not of the kind for this short cut, holds more than
    `limit` bytes, or holds text that is not UTF-8.

    Measured: 0.3 instead of 2.4 microseconds a frame.
    """
    size = len(data)
    if size - at < 6:
        return None
    first = data[at]
    if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
        return None
    # Without the mask bit the length comes out negative, and is refused here (RFC 6455 5.1).
    length = data[at + 1] - 0x80
    start = at + 6
    if length == 126:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        start = at + 8
    elif not 0 <= length < 126:
        return None
    end = start + length
    if end > size or length > limit:
        return None
    payload = apply_mask(data[start:end], data[start - 4 : start])
    if first == _WHOLE_BINARY:
        return payload, end
    try:
        return payload.decode(), end
    except UnicodeDecodeError:
        return None


def payload_of(data: Any) -> tuple[Opcode, bytes]:
    """The opcode for `data` and its bytes. Raises TypeError unless it is text or bytes."""
    if isinstance(data, str):
        return _TEXT, data.encode()
    if isinstance(data, bytes):
        return _BINARY, data
    if isinstance(data, bytearray | memoryview):
        return _BINARY, bytes(data)
    raise TypeError(f"WebSocket data is str or bytes, not {type(data).__name__}")


def message_frame(opcode: int, payload: bytes) -> bytes:
    """One frame with a complete, uncompressed message, as a server sends it: without a mask.

    Measured: 0.1 instead of 0.7 microseconds.
    """
    length = len(payload)
    if length < 126:
        return b"%c%c%b" % (_FIN | opcode, length, payload)
    if length < 65_536:
        return _pack_header_16(_FIN | opcode, 126, length) + payload
    return _pack_header_64(_FIN | opcode, 127, length) + payload
