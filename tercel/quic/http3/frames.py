"""HTTP/3 frames and settings as bytes (RFC 9114 7, 11.2). No state, no I/O."""

from functools import lru_cache

from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.transport.varint import decode_varint, encode_varint

# Frame types (RFC 9114 11.2.1).
DATA = 0x00
HEADERS = 0x01
CANCEL_PUSH = 0x03
SETTINGS = 0x04
PUSH_PROMISE = 0x05
GOAWAY = 0x07
MAX_PUSH_ID = 0x0D
# RFC 9218 7.2: of a request, and of a push.
PRIORITY_UPDATE = 0xF0700
PRIORITY_UPDATE_OF_PUSH = 0xF0701
CONTROL_ONLY = frozenset(
    (CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE, PRIORITY_UPDATE_OF_PUSH)
)
# RFC 9114 7.2.8: HTTP/2 frames without a counterpart here.
RESERVED_FRAMES = frozenset((0x02, 0x06, 0x08, 0x09))

# Settings (RFC 9114 7.2.4.1, RFC 9204 5).
QPACK_MAX_TABLE_CAPACITY = 0x01
MAX_FIELD_SECTION_SIZE = 0x06
QPACK_BLOCKED_STREAMS = 0x07
ENABLE_CONNECT_PROTOCOL = 0x08  # RFC 9220 3
_KNOWN_SETTINGS = frozenset(
    (
        QPACK_MAX_TABLE_CAPACITY,
        MAX_FIELD_SECTION_SIZE,
        QPACK_BLOCKED_STREAMS,
        ENABLE_CONNECT_PROTOCOL,
    )
)
_RESERVED_SETTINGS = frozenset((0x00, 0x02, 0x03, 0x04, 0x05))


def encode_frame(frame_type: int, payload: bytes) -> bytes:
    """A whole frame (RFC 9114 7.1)."""
    return encode_varint(frame_type) + encode_varint(len(payload)) + payload


def frame_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Type, length and payload position of the frame at `position`; None if it is cut off."""
    try:
        frame_type, position = decode_varint(data, position)
        length, position = decode_varint(data, position)
    except IndexError:
        return None
    return frame_type, length, position


def read_varint(data: bytes, position: int) -> tuple[int, int] | None:
    """The integer at `position` and the position after it; None if it is cut off."""
    try:
        return decode_varint(data, position)
    except IndexError:
        return None


def parse_settings(payload: bytes) -> dict[int, int]:
    """The known settings in a SETTINGS frame (RFC 9114 7.2.4)."""
    settings: dict[int, int] = {}
    position = 0
    while position < len(payload):
        identifier = read_varint(payload, position)
        value = None if identifier is None else read_varint(payload, identifier[1])
        if identifier is None or value is None:
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, "SETTINGS cut off")
        if identifier[0] in _RESERVED_SETTINGS:
            raise H3ConnectionError(
                ErrorCode.SETTINGS_ERROR, f"reserved setting 0x{identifier[0]:x}"
            )
        if identifier[0] in settings:
            raise H3ConnectionError(ErrorCode.SETTINGS_ERROR, f"setting 0x{identifier[0]:x} twice")
        settings[identifier[0]] = value[0]
        position = value[1]
    # RFC 9114 7.2.4: others are ignored, and there may be thousands.
    return {name: value for name, value in settings.items() if name in _KNOWN_SETTINGS}


@lru_cache(maxsize=16)
def encode_settings(*settings: tuple[int, int]) -> bytes:
    """A SETTINGS frame with these identifiers and values."""
    return encode_frame(
        SETTINGS, b"".join(encode_varint(item) for pair in settings for item in pair)
    )
