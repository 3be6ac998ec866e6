"""The sans-I/O writer of HTTP/1.1 responses: heads and content -> bytes.

Decides the framing of a response once, and is the only code that writes chunked content.
`RequestStream` checks the order of a response's parts and its announced length.
"""

from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from operator import itemgetter
from typing import Final

from tercel.shared.messages import BODILESS_STATUS, Fields, RequestHead, ResponseHead
from tercel.shared.request_fields import list_elements, takes_trailers
from tercel.shared.response_fields import ResponseFields


class Framing(Enum):
    """How the client learns where the content ends (RFC 9112 6.3)."""

    NONE = auto()
    """There is no content: HEAD, 204, 304."""
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    """By the end of the connection: HTTP/1.0, and another protocol after 101."""
    UPGRADED = auto()
    """The content is another protocol's bytes, after 101."""


# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH


# Without their CRLF.
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}

# RFC 9110 7.6.1, RFC 9112 6.1, 9.6: fields about the connection, which only the server writes.
_CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding")
)
_REWRITTEN = _CONNECTION_FIELDS | {b"content-length", b"upgrade"}

_LAST_CHUNK = b"0\r\n\r\n"
_UPGRADE_AND_CLOSE = b"connection: upgrade, close"

_name = itemgetter(0)
_line = b": ".join

# Up to this size one write of joined buffers is cheaper than several buffers.
JOIN_BYTES = 65_536


def reason_phrase(status: int) -> str:
    """The phrase of a status line; empty for a status without a name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class ResponseWriter:
    """Writes the response to one request.

    `defaults` are the fields that the server adds, alt-svc among them with `advertise`.
    """

    __slots__ = ("_advertise", "_defaults", "_http_10", "_request", "framing", "keep_alive")

    def __init__(
        self,
        request: RequestHead,
        keep_alive: bool,
        defaults: ResponseFields,
        advertise: bool = False,  # keywords would cost 0.4 us per request
    ) -> None:
        self._request = request
        self._defaults = defaults
        self._advertise = advertise
        self._http_10 = request.http_version == "1.0"
        self.framing: Framing | None = None
        """None until the head is written."""
        self.keep_alive = keep_alive
        """Whether the connection may persist after this response; final once the head is
        written."""

    def informational(self, status: int, fields: Fields) -> bytes:
        """An interim response (RFC 9110 15.2); b"" for HTTP/1.0, which has none."""
        if self._http_10:
            return b""
        fields = [line for line in fields if line[0] not in _REWRITTEN]
        return _section([_status_line(status), *map(_line, fields)])

    def upgrade(self, protocol: bytes, fields: Fields) -> bytes:
        """101 Switching Protocols (RFC 9110 15.2.2); the bytes after it belong to `protocol`."""
        self.framing = Framing.UPGRADED
        self.keep_alive = False
        fields = [line for line in fields if line[0] not in _REWRITTEN]
        self._defaults.complete(fields, advertise=self._advertise)
        own = b"connection: upgrade", b"upgrade: " + protocol
        return _section([_status_line(101), *own, *map(_line, fields)])

    def head(self, response: ResponseHead, content_length: int | None = None) -> bytes:
        """The head of the final response. `content_length` is that of its content, if known.

        A content-length field in the response takes precedence: a HEAD response has one too.
        """
        return b"".join(self._head(response, content_length))

    def whole(self, response: ResponseHead, content: bytes) -> list[bytes]:
        """A complete response as buffers to be sent in order."""
        head = self._head(response, len(content))
        if self.framing is _NONE:
            return [b"".join(head)]
        if len(content) > JOIN_BYTES:
            return [b"".join(head), content]
        return [b"".join((*head, content))]

    def content(self, data: bytes) -> list[bytes]:
        """The next content as buffers to be sent in order; none for b""."""
        if not data or self.framing is _NONE:
            return []
        if self.framing is Framing.CHUNKED:
            return [b"%x\r\n" % len(data), data, b"\r\n"]
        return [data]

    def end(self, trailers: Fields) -> bytes:
        """The bytes that end the content.

        Trailers are dropped unless the content is chunked and the client announced that it accepts
        them (RFC 9110 6.5.1, 10.1.4).
        """
        if self.framing is not Framing.CHUNKED:
            return b""
        if not trailers or not takes_trailers(self._request.fields):
            return _LAST_CHUNK
        return _section([b"0", *map(_line, trailers)])

    def _head(self, response: ResponseHead, known_length: int | None) -> tuple[bytes, ...]:
        """The pieces of the head; decides framing and persistence."""
        status, fields, length = response.status, response.fields, response.length
        has_length, upgrade = length is not None, False
        if (
            (length is None or (length >= 0 and status != 204))
            # In one step for all fields, which is 0.5 us less than for each field in turn.
            and _special_names(self._defaults.names).isdisjoint(map(_name, fields))
        ):
            added = self._defaults.lines(advertise=self._advertise)
        else:
            fields, has_length, upgrade = self._rewritten(status, fields)
            added = b""
        lines = [_STATUS_LINES.get(status) or _status_line(status), *map(_line, fields)]
        if status in BODILESS_STATUS or self._request.method == b"HEAD":
            # RFC 9110 8.6: a length is that of the response to a GET.
            self.framing = _NONE
        elif has_length:
            self.framing = _LENGTH
        elif known_length is not None:
            self.framing = _LENGTH
            lines.append(b"content-length: %d" % known_length)
        elif self._http_10:
            self.framing = Framing.CLOSE
            self.keep_alive = False
        else:
            self.framing = Framing.CHUNKED
            lines.append(b"transfer-encoding: chunked")
        if upgrade:
            lines.append(b"connection: upgrade" if self.keep_alive else _UPGRADE_AND_CLOSE)
        elif not self.keep_alive:
            lines.append(b"connection: close")
        elif self._http_10:
            lines.append(b"connection: keep-alive")
        return b"\r\n".join(lines), b"\r\n", added, b"\r\n"

    def _rewritten(self, status: int, fields: Fields) -> tuple[Fields, bool, bool]:
        """All fields of a response except those about its framing and persistence.

        Also whether there is a Content-Length, which has to be the only one, and an Upgrade.
        """
        kept: Fields = []
        has_length = upgrade = False
        for line in fields:
            name = line[0]
            if name == b"content-length":
                # RFC 9110 8.6: never in a 204.
                if not has_length and status != 204:
                    kept.append(line)
                has_length = True
            elif name not in _CONNECTION_FIELDS:
                kept.append(line)
                # It stays, but Connection has to name it (RFC 9110 7.8).
                upgrade = upgrade or name == b"upgrade"
            elif name == b"connection" and b"close" in list_elements((line[1],)):
                self.keep_alive = False
        self._defaults.complete(kept, advertise=self._advertise)
        return kept, has_length, upgrade


@lru_cache(maxsize=8)
def _special_names(defaulted: frozenset[bytes]) -> frozenset[bytes]:
    """The names of fields that a head is rewritten for, where the server adds `defaulted`."""
    return defaulted | _CONNECTION_FIELDS | {b"upgrade"}


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def _section(lines: list[bytes]) -> bytes:
    """The lines, each with its CRLF, and the empty line."""
    return b"\r\n".join((*lines, b"", b""))
