"""Chunked content (RFC 9112 7.1): bytes -> content and trailer section. Sans-I/O.

llhttp could do it too, but through httptools it tells neither where a message ends nor what its
chunk extensions cost, and it takes a Content-Length among the trailers for the message's own.
"""

import re
from typing import TYPE_CHECKING

from tercel.h1.syntax import UNFINISHED_FAULT, field_section
from tercel.shared.errors import ContentTooLarge, FieldsTooLarge, MalformedMessage
from tercel.shared.request_fields import NOT_IN_TRAILERS
from tercel.shared.settings import Settings

if TYPE_CHECKING:
    from tercel.shared.messages import Fields

# RFC 9112 7.1.1: extensions are read and forgotten. Nobody sends more of them in earnest; without
# a budget they are content that escapes every limit (CVE-2023-39326).
MAX_EXTENSION_BYTES = 16_384

# Sixteen digits hold every size below 2^64; 2^63 and up is refused below. An extension may hold
# neither LF nor a CR of its own (CVE-2025-22871, CVE-2025-55315).
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(;[\t\x20-\x7e\x80-\xff]*+)?+\r\n")
_UNFINISHED_SIZE_LINE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[\t\x20-\x7e\x80-\xff]*+)?+\r?)?")


class ChunkedDecoder:
    """Decodes the chunked content of one message."""

    __slots__ = (
        "_chunk_left",
        "_extension_left",
        "_in_trailers",
        "_pending",
        "_received",
        "_settings",
        "trailers",
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending = b""
        self._chunk_left = 0
        """Bytes until the end of the chunk, the CRLF after its data included; 0 between chunks."""
        self._extension_left = MAX_EXTENSION_BYTES
        self._in_trailers = False
        self._received = 0
        self.trailers: Fields | None = None
        """The trailer section once the content has ended."""

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Decode `data` from `start`; the content in it, and where decoding stopped.

        That is the end of `data` unless the message has ended before. Raises MalformedMessage,
        FieldsTooLarge and ContentTooLarge.
        """
        consumed = 0
        if self._pending:
            consumed = len(self._pending) - start
            data, start, self._pending = self._pending + data[start:], 0, b""
        # All content of one call is one piece: a chunk of one byte costs the application no more
        # than its share of the whole (CVE-2025-69229).
        parts: list[bytes] = []
        position = self._decode(data, start, parts)
        return b"".join(parts), position - consumed

    def _decode(self, data: bytes, position: int, parts: list[bytes]) -> int:
        size = len(data)
        while position < size and not self._in_trailers:
            if self._chunk_left > 2:
                part = data[position : position + self._chunk_left - 2]
                parts.append(part)
                position += len(part)
                self._chunk_left -= len(part)
            elif self._chunk_left:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise MalformedMessage("no CRLF after the data of a chunk")
                if position + 2 > size:
                    break
                position += 2
                self._chunk_left = 0
            elif (line := _SIZE_LINE.match(data, position)) is not None:
                position = line.end()
                self._begin_chunk(line)
            else:
                self._check_unfinished(data, position)
                break
        if self._in_trailers and position < size:
            return self._decode_trailers(data, position)
        self._pending = data[position:]
        return size

    def _begin_chunk(self, line: re.Match[bytes]) -> None:
        digits, extension = line.groups()
        chunk_size = int(digits, 16)
        if chunk_size >= 1 << 63:
            raise MalformedMessage("chunk size over 2^63")
        if extension is not None:
            self._extension_left -= len(extension)
            if self._extension_left < 0:
                raise MalformedMessage("chunk extensions over their budget")
        limit = self._settings.max_content_bytes
        self._received += chunk_size
        if limit and self._received > limit:
            raise ContentTooLarge(f"more than {limit} bytes of content")
        if chunk_size:
            self._chunk_left = chunk_size + 2
        else:
            self._in_trailers = True

    def _check_unfinished(self, data: bytes, position: int) -> None:
        if not _UNFINISHED_SIZE_LINE.fullmatch(data, position):
            raise MalformedMessage("malformed chunk size line")
        if len(data) - position > self._extension_left + 18:
            raise MalformedMessage("chunk extensions over their budget")

    def _decode_trailers(self, data: bytes, position: int) -> int:
        """Take the trailer section and the empty line that ends the message."""
        if data.startswith(b"\r\n", position):
            self.trailers = []
            return position + 2
        # Sections are counted from the CRLF before their first line, so that an empty one and any
        # other end alike.
        end = data.find(b"\r\n\r\n", position)
        limit = self._settings.max_field_section_bytes
        if (len(data) if end < 0 else end) - position > limit:
            raise FieldsTooLarge(f"trailer section over {limit} bytes")
        if end < 0:
            if UNFINISHED_FAULT.search(data, position):
                raise MalformedMessage("malformed trailer section")
            self._pending = data[position:]
            return len(data)
        fields = field_section(data[position : end + 2], self._settings)
        self.trailers = [line for line in fields if line[0] not in NOT_IN_TRAILERS]
        return end + 4
