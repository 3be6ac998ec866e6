"""Chunked content (RFC 9112 7.1): bytes -> content and trailer section. Sans-I/O.

llhttp could do it too. But httptools reports neither where a message ends nor the size of its chunk
extensions, and llhttp takes a Content-Length among the trailers for the message's own.
"""

import re
from typing import TYPE_CHECKING

from tercel.h1.syntax import UNFINISHED_FAULT, field_section
from tercel.shared.errors import ContentTooLarge, FieldsTooLarge, MalformedMessage
from tercel.shared.request_fields import NOT_IN_TRAILERS
from tercel.shared.settings import Settings

if TYPE_CHECKING:
    from tercel.shared.messages import Fields

# RFC 9112 7.1.1: extensions are read and ignored. Real clients do not send more of them. Without
# this limit they would be data that no content limit counts (CVE-2023-39326).
MAX_EXTENSION_BYTES = 16_384

# Sixteen digits hold every size below 2^64; sizes of 2^63 and more are rejected below.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:\r\n|(;))")
_UNFINISHED_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+\r?)?")
# An extension may hold neither LF nor a CR of its own (CVE-2025-22871, CVE-2025-55315).
_EXTENSION = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")


class ChunkedDecoder:
    """Decodes the chunked content of one message."""

    __slots__ = (
        "_chunk_left",
        "_extension_left",
        "_in_extension",
        "_in_trailers",
        "_received",
        "_scanned",
        "_settings",
        "trailers",
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._chunk_left = 0
        """Bytes until the end of the chunk, the CRLF after its data included; 0 between chunks."""
        self._in_extension = False
        self._extension_left = MAX_EXTENSION_BYTES
        self._in_trailers = False
        self._scanned = 0
        """Bytes of the trailer section that were searched without finding its end."""
        self._received = 0
        self.trailers: Fields | None = None
        """The trailer fields, once the content has ended."""

    def feed(self, data: bytes | bytearray, start: int) -> tuple[bytes, int]:
        """Decode `data` from `start`. Returns the content, and the position where decoding stopped.

        The bytes after that position have to be passed again, with more data appended. Raises
        MalformedMessage, FieldsTooLarge and ContentTooLarge.
        """
        # All content of one call is one piece: a chunk of one byte costs the application no more
        # than its share of the whole (CVE-2025-69229).
        parts: list[bytes | bytearray] = []
        position = self._decode(data, start, parts)
        return b"".join(parts), position

    def _decode(
        self, data: bytes | bytearray, position: int, parts: list[bytes | bytearray]
    ) -> int:
        size = len(data)
        while position < size:
            if self._in_extension:
                position = self._skip_extension(data, position)
                if self._in_extension:
                    break
            elif self._in_trailers:
                return self._decode_trailers(data, position)
            elif self._chunk_left > 2:
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
            elif (line := _SIZE.match(data, position)) is not None:
                position = line.end()
                self._begin_chunk(line)
            elif _UNFINISHED_SIZE.fullmatch(data, position):
                break
            else:
                raise MalformedMessage("malformed chunk size line")
        return position

    def _begin_chunk(self, line: re.Match[bytes]) -> None:
        chunk_size = int(line[1], 16)
        if chunk_size >= 1 << 63:
            raise MalformedMessage("chunk size over 2^63")
        limit = self._settings.max_content_bytes
        self._received += chunk_size
        if limit and self._received > limit:
            raise ContentTooLarge(f"more than {limit} bytes of content")
        if chunk_size:
            self._chunk_left = chunk_size + 2
        else:
            self._in_trailers = True
        if line[2]:
            self._in_extension = True
            self._spend_extension(1)

    def _skip_extension(self, data: bytes | bytearray, position: int) -> int:
        """Skip the part of a chunk's extensions that has arrived; they are not kept."""
        text = _EXTENSION.match(data, position)
        end = position if text is None else text.end()
        self._spend_extension(end - position)
        if not b"\r\n".startswith(data[end : end + 2]):
            raise MalformedMessage("malformed chunk extension")
        if end + 2 > len(data):
            return end
        self._in_extension = False
        return end + 2

    def _spend_extension(self, size: int) -> None:
        self._extension_left -= size
        if self._extension_left < 0:
            raise MalformedMessage("chunk extensions over their budget")

    def _decode_trailers(self, data: bytes | bytearray, position: int) -> int:
        """Decode the trailer section and the empty line that ends the message."""
        if data.startswith(b"\r\n", position):
            self.trailers = []
            return position + 2
        # A section is searched from the CRLF before its first line, so that an empty section ends
        # like any other.
        end = data.find(b"\r\n\r\n", max(position, self._scanned - 3))
        limit = self._settings.max_field_section_bytes
        if (len(data) if end < 0 else end) - position > limit:
            raise FieldsTooLarge(f"trailer section over {limit} bytes")
        if end < 0:
            if UNFINISHED_FAULT.search(data, max(position, self._scanned - 1)):
                raise MalformedMessage("malformed trailer section")
            self._scanned = len(data) - position
            return position
        fields = field_section(bytes(data[position : end + 2]), self._settings)
        self.trailers = [line for line in fields if line[0] not in NOT_IN_TRAILERS]
        return end + 4
