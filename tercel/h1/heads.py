"""Decodes complete header sections into request heads: their limits, the forms of a request target,
and the fields for framing and persistence (RFC 9112 3, 6, 9).

Does not find the end of a section, and knows nothing of what follows it.
"""

import re

from tercel.h1 import syntax
from tercel.h1.events import HeadReceived
from tercel.h1.llhttp import check_head, coding_fault
from tercel.shared.control_data import (
    KNOWN_METHODS,
    SERVED_METHODS,
    check_authority,
    check_path,
    check_served,
    check_tunnel,
    split_absolute,
)
from tercel.shared.errors import (
    ContentTooLarge,
    FieldsTooLarge,
    MalformedMessage,
    NotImplementedByServer,
    TargetTooLong,
)
from tercel.shared.known_lines import MAX_TEXT_BYTES, SELDOM_REPEATED, KnownLines
from tercel.shared.messages import Field, Fields, RequestHead, is_token, parse_content_length
from tercel.shared.request_fields import check_expectations, list_elements, with_single_lines
from tercel.shared.settings import Settings

# The size of a request line without its target: method, spaces, version, CRLF. The longest method
# that llhttp knows has 11 characters.
_REQUEST_LINE_REST_BYTES = 64

# What a line is. All that may be in a plain request has a kind of its own, so that the request is
# decided in one pass.
_PLAIN, _HOST, _LENGTH, _COOKIE, _OTHER = range(5)
# The fields that decide framing, routing and persistence, and those that applications get in one
# line. All other fields are plain.
_KINDS = {
    b"connection": _OTHER,
    b"content-length": _LENGTH,
    b"cookie": _COOKIE,
    b"early-data": _OTHER,
    b"expect": _OTHER,
    b"host": _HOST,
    b"transfer-encoding": _OTHER,
    b"upgrade": _OTHER,
}

_HTTP_1_1 = b"1.1"
_SLASH = 0x2F
_NO_LINES: list[bytes] = []


class HeadDecoder:
    """Decodes the heads of one connection's requests. Lines that were parsed are remembered.

    So is the field section of the last plain request without content: a program that calls an API,
    and a page that loads its images, send the same one with different targets. To decode it again
    takes 4 of the 25 us of such a request.
    """

    __slots__ = ("_authority", "_known", "_last", "_scheme", "_section", "_settings", "_small")

    def __init__(self, settings: Settings, scheme: bytes) -> None:
        self._settings = settings
        self._scheme = scheme
        self._known: KnownLines[bytes, tuple[int, Field]] = KnownLines()
        self._authority: bytes | None = None
        """The last valid value of Host."""
        self._section: bytes | None = None
        """A field section, from the end of the request line; None if none is remembered."""
        self._last: tuple[bytes, Fields] = b"", []
        """The authority and the fields of that section."""
        # A head up to this size exceeds none of the byte limits.
        self._small = min(settings.max_target_bytes, settings.max_field_section_bytes)

    def received(self, raw: bytes) -> HeadReceived:
        """Decode the header section `raw`, without the CRLF of its last line and the empty line.

        Raises RemoteProtocolError.
        """
        settings, known = self._settings, self._known
        size = len(raw)
        line_end = raw.find(b"\r\n")
        if line_end < 0:
            line_end = size
        if size > self._small:
            self.check_size(line_end, size + 4)
        match = syntax.REQUEST_LINE.fullmatch(raw, 0, line_end)
        if match is None:
            raise syntax.head_fault(raw + b"\r\n\r\n")
        method, target, version = match.groups()
        is_plain = version == _HTTP_1_1 and target[0] == _SLASH and method in SERVED_METHODS
        section = raw[line_end:]
        if section == self._section and is_plain and size <= self._small:
            authority, fields = self._last
            head = RequestHead(method, self._scheme, authority, target, fields.copy(), "1.1")
            return HeadReceived(head, True, False, None, False)
        lines = section.split(b"\r\n")
        del lines[0]  # the section begins with the CRLF of the request line
        if len(lines) > settings.max_fields:
            raise FieldsTooLarge(f"{len(lines)} field lines")
        fields = []
        hosts: list[bytes] = []
        lengths: list[bytes] | None = None
        cookies = 0
        for line in lines:
            kind, field = known.get(line) or self._learn(line)
            fields.append(field)
            if kind == _PLAIN:
                continue
            if kind == _HOST:
                hosts.append(field[1])
            elif kind == _COOKIE:
                cookies += 1
            elif kind == _LENGTH and lengths is None:
                lengths = [field[1]]
            else:
                is_plain = False
        if len(target) > settings.max_target_bytes:
            raise TargetTooLong(f"a target of {len(target)} bytes")
        if method not in KNOWN_METHODS:
            raise NotImplementedByServer("unknown method")
        if size + len(lines) * syntax.FIELD_OVERHEAD_BYTES > settings.max_field_section_bytes:
            syntax.check_section_size(fields, settings)
        if not is_plain or len(hosts) != 1 or cookies > 1:
            return self._decide_by_all(raw, match, fields)
        length = None if lengths is None else self._content_length(lengths, None, "1.1")
        head = RequestHead(method, self._scheme, b"", target, fields, "1.1")
        self._read_host(head, hosts)
        if lengths is None and len(section) <= MAX_TEXT_BYTES:
            self._section, self._last = section, (head.authority, fields.copy())
        return HeadReceived(head, True, bool(length), length, False)

    def _learn(self, line: bytes) -> tuple[int, Field]:
        """The kind and the field of a line that is not known. Raises MalformedMessage."""
        field = name, value = syntax.field(line)
        kind = _KINDS.get(name, _PLAIN)
        if name == b"connection" and value.lower() == b"keep-alive":
            kind = _PLAIN  # says what is the case anyway, with HTTP/1.1
        if name not in SELDOM_REPEATED:
            self._known.remember(line, (kind, field), 2 * len(line))
        return kind, field

    def _decide_by_all(self, raw: bytes, match: re.Match[bytes], fields: Fields) -> HeadReceived:
        """Decide a request that is not plain; llhttp has to accept it, too."""
        method, target, version = match.groups()
        if version > _HTTP_1_1:
            # RFC 9110 2.5: a higher minor version is processed as the highest supported one.
            # llhttp would reject it.
            start, end = match.span(3)
            raw, version = raw[:start] + _HTTP_1_1 + raw[end:], _HTTP_1_1
        check_head(raw + b"\r\n\r\n", version)
        name = "1.1" if version == _HTTP_1_1 else "1.0"
        return self._decide(RequestHead(method, self._scheme, b"", target, fields, name))

    def check_size(self, line_end: int, size: int) -> None:
        """Check a header section, complete or not, against the limits in bytes.

        `line_end` is the offset of the end of its request line, negative while it is incomplete.
        """
        line_size = size if line_end < 0 else line_end
        if line_size > self._settings.max_target_bytes + _REQUEST_LINE_REST_BYTES:
            raise TargetTooLong(f"a request line of {line_size} bytes or more")
        # A field line is smaller on the wire than the size it counts, unless padded with spaces.
        limit = self._settings.max_field_section_bytes
        if line_end >= 0 and size - line_end - 4 > limit:
            raise FieldsTooLarge(f"header section over {limit} bytes")

    def _decide(self, head: RequestHead) -> HeadReceived:
        """Decide framing and persistence by the fields; each is read from all its lines at once."""
        decisive: dict[bytes, list[bytes]] = {}
        for name, value in head.fields:
            if name in _KINDS:
                decisive.setdefault(name, []).append(value)
        coding = length = None
        if b"content-length" in decisive or b"transfer-encoding" in decisive:
            coding = decisive.get(b"transfer-encoding")
            length = self._content_length(
                decisive.get(b"content-length"), coding, head.http_version
            )
        self._read_host(head, decisive.get(b"host", _NO_LINES))
        if head.target[0] != _SLASH or head.method == b"CONNECT":  # not origin-form
            self._rewrite_target(head)
        # Before Upgrade is considered: it must not make a tunnel of CONNECT.
        check_served(head, self._scheme)
        expects = b"expect" in decisive
        if expects:
            check_expectations(decisive[b"expect"])
        if len(decisive.get(b"cookie", _NO_LINES)) > 1 or b"early-data" in decisive:
            head.fields = with_single_lines(head.fields, decisive)
        has_content = coding is not None or bool(length)
        old = head.http_version == "1.0"
        options = list_elements(decisive[b"connection"]) if b"connection" in decisive else ()
        if b"upgrade" in options and not has_content and not old:
            head.protocol = _upgrade_protocol(decisive.get(b"upgrade", _NO_LINES))
        return HeadReceived(
            head,
            # RFC 9112 9.3: close takes precedence over keep-alive.
            b"close" not in options and (not old or b"keep-alive" in options),
            has_content,
            length,
            # RFC 9110 10.1.1: not from an HTTP/1.0 client; without content there is no wait.
            has_content and expects and not old,
        )

    def _content_length(
        self, lengths: list[bytes] | None, codings: list[bytes] | None, version: str
    ) -> int | None:
        if codings is not None:
            # RFC 9112 6.1: both together mean request smuggling; HTTP/1.0 has no transfer codings.
            if lengths is not None or version == "1.0":
                raise MalformedMessage("Transfer-Encoding with Content-Length or in HTTP/1.0")
            coding = b", ".join(codings)
            if coding.lower() != b"chunked":
                raise coding_fault(coding)
            return None
        assert lengths is not None  # noqa: S101  # one of both is present
        # RFC 9110 8.6: a list of lengths, in one line or in several, may be rejected.
        size = parse_content_length(b", ".join(lengths))
        if size is None:
            raise MalformedMessage("Content-Length is not one number below 2^63")
        limit = self._settings.max_content_bytes
        if limit and size > limit:
            raise ContentTooLarge(f"{size} bytes of content, {limit} are allowed")
        return size

    def _read_host(self, head: RequestHead, hosts: list[bytes]) -> None:
        # RFC 9112 3.2: exactly one Host field with a valid value, or 400. HTTP/1.0 may do without.
        if len(hosts) != 1:
            if hosts or head.http_version != "1.0":
                raise MalformedMessage(f"{len(hosts)} Host fields")
            return
        if hosts[0] != self._authority:
            check_authority(hosts[0])
            self._authority = hosts[0] if len(hosts[0]) <= MAX_TEXT_BYTES else None
        head.authority = hosts[0]

    def _rewrite_target(self, head: RequestHead) -> None:
        """Convert the other forms of a request target to origin-form (RFC 9112 3.2)."""
        if head.method == b"CONNECT":
            check_tunnel(head.target)
        elif head.target == b"*":
            check_path(head.target, head.method)
        else:
            # RFC 9112 3.2.2: the target's host counts, and Host is ignored and replaced by it.
            head.scheme, head.authority, head.target = split_absolute(head.target, head.method)
            head.fields = [
                (b"host", head.authority),
                *(line for line in head.fields if line[0] != b"host"),
            ]


def _upgrade_protocol(values: list[bytes]) -> bytes | None:
    """The protocol in an Upgrade field, None to ignore the field.

    RFC 9110 7.8: it may be ignored. A list is ignored: no client is known to offer two protocols.
    """
    return values[0].lower() if len(values) == 1 and is_token(values[0]) else None
