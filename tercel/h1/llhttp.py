"""llhttp by way of httptools, for heads alone: the lines of a header section.

What llhttp takes leniently is refused before it comes here (`tercel.h1.syntax`). Knows no limits
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

# The fields that decide about framing, routing and persistence, and those that applications get in
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
    """llhttp, used for heads only: each is given whole, and its content is not."""

    __slots__ = ("_llhttp", "_section")

    def __init__(self) -> None:
        self._section = FieldSection()
        self._llhttp = httptools.HttpRequestParser(self._section)

    def parse(self, raw: bytes, version: bytes) -> "FieldSection":
        """What one header section says that `syntax.HEAD` matches; valid until the next.

        Raises RemoteProtocolError.
        """
        section = self._section
        section.begin(raw, self._llhttp)
        try:
            self._llhttp.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # where the next protocol would begin: after the head, as for every message
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
        """What calls this, while it does: it has this for good, and a ring of the two would be left
        to the garbage collector, by each request with content."""
        self._padded = False
        self.fields: Fields = []
        self.decisive: dict[bytes, list[bytes]] = {}
        """The fields that decide what the message is, each with the values of all its lines."""
        self.is_reusable = False
        """Whether llhttp takes another request after this one."""

    def begin(self, raw: bytes, llhttp: httptools.HttpRequestParser) -> None:
        """Forget the section before; `llhttp` is to be given `raw`."""
        self.llhttp = llhttp
        self.fields = []
        self.decisive = {}
        # llhttp leaves the white space after a value.
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
        # Only now: it forgets both when a message without content ends.
        self.is_reusable = self.llhttp.should_keep_alive() and not self.llhttp.should_upgrade()


def _framing_fault(raw: bytes, version: bytes, reason: str) -> RemoteProtocolError:
    """Find the status for what llhttp refused: it has one error for all that is wrong."""
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
    """Say what is wrong with a Transfer-Encoding other than chunked (RFC 9112 6.1)."""
    if syntax.is_list_of_codings(coding):
        return UnsupportedTransferCoding("a transfer coding other than chunked alone")
    return MalformedMessage("malformed Transfer-Encoding")
