"""llhttp through httptools, for heads only: parses the lines of a header section.

Input that llhttp would accept leniently is rejected before (`tercel.h1.syntax`). Knows no limits
and no framing.
"""

from typing import TYPE_CHECKING

import httptools

from tercel.h1 import syntax
from tercel.shared.errors import (
    MalformedMessage,
    NotImplementedByServer,
    RemoteProtocolError,
    UnsupportedTransferCoding,
)

if TYPE_CHECKING:
    from tercel.shared.messages import Fields

# The fields that decide framing, routing and persistence, and the fields that applications get in
# one line.
_DECISIVE = frozenset(
    (
        b"connection",
        b"content-length",
        b"cookie",
        b"early-data",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
    )
)


class FieldParser:
    """llhttp, used for heads only: it gets each head complete, and no content."""

    __slots__ = ("_llhttp", "_section")

    def __init__(self) -> None:
        self._section = FieldSection()
        self._llhttp = httptools.HttpRequestParser(self._section)

    def parse(self, raw: bytes, version: bytes) -> "FieldSection":
        """Parse a header section that `syntax.HEAD` matches. The result is valid until the next.

        Raises RemoteProtocolError.
        """
        section = self._section
        section.begin(raw, self._llhttp)
        try:
            self._llhttp.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # raised at the end of the head, where the next protocol would begin
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 9.1: a method that is not recognised.
            raise NotImplementedByServer("unknown method") from None
        except httptools.HttpParserError as error:
            raise _framing_fault(raw, version, str(error)) from None
        finally:
            section.llhttp = None
        return section


class FieldSection:
    """The lines of a header section."""

    __slots__ = ("_padded", "decisive", "fields", "is_reusable", "llhttp")

    def __init__(self) -> None:
        self.llhttp: httptools.HttpRequestParser | None = None
        """The parser that calls this object, set only during the parse. The parser refers to this
        object permanently, so each request with content would leave a cycle to the garbage
        collector."""
        self._padded = False
        self.fields: Fields = []
        self.decisive: dict[bytes, list[bytes]] = {}
        """The fields in `_DECISIVE`, each with the values of all its lines."""
        self.is_reusable = False
        """Whether llhttp can parse another request after this one."""

    def begin(self, raw: bytes, llhttp: httptools.HttpRequestParser) -> None:
        """Forget the previous section; `llhttp` is about to parse `raw`."""
        self.llhttp = llhttp
        self.fields = []
        self.decisive = {}
        # llhttp does not strip the white space after a value.
        self._padded = b" \r\n" in raw or b"\t\r\n" in raw

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        line = (name, value.rstrip(b" \t") if self._padded else value)
        self.fields.append(line)
        if name in _DECISIVE:
            values = self.decisive.get(name)
            if values is None:
                self.decisive[name] = [line[1]]
            else:
                values.append(line[1])

    def on_headers_complete(self) -> None:
        assert self.llhttp is not None  # noqa: S101  # who calls
        # Only now: llhttp forgets both when a message without content ends.
        self.is_reusable = self.llhttp.should_keep_alive() and not self.llhttp.should_upgrade()


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
