"""llhttp through httptools, for heads only: the second judge of a header section.

Input that llhttp would accept leniently is rejected before (`tercel.h1.syntax`). Knows no limits,
and gets no content.
"""

import httptools

from tercel.h1 import syntax
from tercel.shared.errors import (
    MalformedMessage,
    NotImplementedByServer,
    RemoteProtocolError,
    UnsupportedTransferCoding,
)


def check_head(raw: bytes, version: bytes) -> None:
    """Raise RemoteProtocolError for a complete head of `version` that llhttp does not accept."""
    try:
        # A new parser each time, 0.15 us: one that waits for content could not parse another head.
        # Without callbacks it makes no object of any field.
        httptools.HttpRequestParser(None).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # raised at the end of the head, where the next protocol would begin
    except httptools.HttpParserInvalidMethodError:
        # RFC 9110 9.1: a method that is not recognised.
        raise NotImplementedByServer("unknown method") from None
    except httptools.HttpParserError as error:
        raise _framing_fault(raw, version, str(error)) from None


def _framing_fault(raw: bytes, version: bytes, reason: str) -> RemoteProtocolError:
    """Find the status for input that llhttp rejected: it has one error for every fault."""
    lines = raw[raw.index(b"\r\n") + 2 : -2]
    values: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    codings = values.get(b"transfer-encoding")
    if codings and version != b"1.0" and b"content-length" not in values:
        return coding_fault(b", ".join(codings))
    return MalformedMessage(f"refused by llhttp: {reason}")


def coding_fault(coding: bytes) -> RemoteProtocolError:
    """The error for a Transfer-Encoding other than chunked (RFC 9112 6.1)."""
    if syntax.is_list_of_codings(coding):
        return UnsupportedTransferCoding("a transfer coding other than chunked alone")
    return MalformedMessage("malformed Transfer-Encoding")
