"""Error codes of HTTP/3 and QPACK, and the total maps from tercel's errors to them. No I/O."""

from enum import IntEnum
from functools import lru_cache
from typing import assert_never

from tercel.quic.transport.errors import ApplicationCloseError
from tercel.shared.errors import (
    ContentTooLarge,
    FieldsTooLarge,
    IncompleteMessage,
    RemoteProtocolError,
    RequestTimeout,
    ResetReason,
)


class ErrorCode(IntEnum):
    """RFC 9114 8.1, RFC 9204 6."""

    DATAGRAM_ERROR = 0x33
    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    CONNECT_ERROR = 0x10F
    VERSION_FALLBACK = 0x110
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class H3ConnectionError(ApplicationCloseError):
    """An HTTP/3 violation of the peer that ends the connection with `code`."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)


def stream_error_code(error: RemoteProtocolError) -> ErrorCode:
    """The error code to reset a request stream with after a mistake of the peer."""
    if isinstance(error, FieldsTooLarge | ContentTooLarge):
        return ErrorCode.EXCESSIVE_LOAD
    if isinstance(error, RequestTimeout | IncompleteMessage):
        return ErrorCode.REQUEST_INCOMPLETE
    return ErrorCode.MESSAGE_ERROR


def reset_code(reason: ResetReason) -> ErrorCode:
    """The error code to reset a request stream with for a reason of this side."""
    match reason:
        case ResetReason.NO_ERROR:
            return ErrorCode.NO_ERROR
        case ResetReason.INTERNAL_ERROR:
            return ErrorCode.INTERNAL_ERROR
        case ResetReason.REQUEST_CANCELLED:
            return ErrorCode.REQUEST_CANCELLED
        case ResetReason.REQUEST_REJECTED:
            return ErrorCode.REQUEST_REJECTED
        case ResetReason.REQUEST_INCOMPLETE:
            return ErrorCode.REQUEST_INCOMPLETE
        case ResetReason.MESSAGE_ERROR:
            return ErrorCode.MESSAGE_ERROR
        case ResetReason.EXCESSIVE_LOAD:
            return ErrorCode.EXCESSIVE_LOAD
        case _:
            assert_never(reason)


@lru_cache(maxsize=64)
def code_name(code: int) -> str:
    """The name of an error code in logs: `H3_NO_ERROR`, `QPACK_...`, or its number."""
    try:
        name = ErrorCode(code).name
    except ValueError:
        return f"0x{code:x}"
    return name if name.startswith("QPACK") else f"H3_{name}"
