"""Decodes complete header sections into request heads: their limits, the forms of a request target,
and the fields for framing and persistence (RFC 9112 3, 6, 9).

Does not find the end of a section, and knows nothing of what follows it.
"""

from dataclasses import replace

from tercel.h1 import syntax
from tercel.h1.events import Event, HeadReceived
from tercel.h1.llhttp import FieldParser, coding_fault
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
from tercel.shared.messages import RequestHead, is_token, parse_content_length
from tercel.shared.request_fields import check_expectations, list_elements, with_single_lines
from tercel.shared.settings import Settings

# The size of a request line without its target: method, spaces, version, CRLF. The longest method
# that llhttp knows has 11 characters.
_REQUEST_LINE_REST_BYTES = 64

# A head up to this size may be kept for the next request: an idle connection must not hold a large
# head that its client once sent. Heads of browsers without large cookies are shorter.
MOST_KNOWN_BYTES = 2048

_HIGHEST_VERSION = b"1.1"
_SLASH = 0x2F
_NO_LINES: list[bytes] = []


class _KnownSection:
    """The field section of the last plain request, and the event decoded from it.

    Most clients repeat the same fields on a persistent connection. Not parsing them again saves
    2 us for a head of one field and 9 us for one of twelve.
    """

    __slots__ = ("alone", "event", "raw", "whole")

    def __init__(self, raw: bytes, event: HeadReceived) -> None:
        self.raw = raw
        """The head from the space before the version to the empty line."""
        self.whole = b""
        """The last complete head: polling clients repeat it, which saves 0.7 us."""
        # One event object for all requests, of which only the head changes: 0.4 us less.
        self.event = replace(event)
        self.alone: list[Event] = [] if event.has_content else [self.event]
        """The events of the last complete head, if no content follows it."""


class HeadDecoder:
    """Decodes the heads of one connection's requests."""

    __slots__ = ("_fields", "_known_hosts", "_scheme", "_settings", "_small", "known")

    def __init__(self, settings: Settings, scheme: bytes) -> None:
        self._settings = settings
        self._scheme = scheme
        self._fields: FieldParser | None = None
        self._known_hosts: list[bytes] | None = None
        self.known: _KnownSection | None = None
        """The last request's fields, which the next request is likely to repeat."""
        # A head up to this size exceeds none of the byte limits.
        self._small = min(settings.max_target_bytes, settings.max_field_section_bytes)

    def repeated(self, raw: bytes) -> HeadReceived | None:
        """The event for the head `raw`, if all after its target equals the previous head.

        Data other than one complete head never matches: the target's pattern has no line ends.
        """
        known = self.known
        if known is None:
            return None
        if raw != known.whole:
            if len(raw) > MOST_KNOWN_BYTES or not raw.endswith(known.raw):
                return None
            match = syntax.METHOD_AND_PATH.fullmatch(raw, 0, len(raw) - len(known.raw))
            if match is None:
                return None
            method, target = match[1], match[2]
            if method not in SERVED_METHODS or len(target) > self._settings.max_target_bytes:
                return None
            known.whole = raw
            known.event.head = known.event.head.with_target(method, target)
        return known.event

    def received(self, raw: bytes) -> HeadReceived:
        """Decode the complete header section `raw`. Raises RemoteProtocolError."""
        settings = self._settings
        size = len(raw)
        lines = raw.count(b"\n") - 2
        if size > self._small:
            self.check_size(raw.find(b"\r\n"), size)
        if lines > settings.max_fields:
            raise FieldsTooLarge(f"{lines} field lines")
        match = syntax.HEAD.match(raw)
        if match is None:
            raise syntax.head_fault(raw)
        method, target, version = match.groups()
        if version > _HIGHEST_VERSION:
            # RFC 9110 2.5: a higher minor version is processed as the highest supported one.
            # llhttp would reject it.
            start, end = match.span(3)
            raw, version = raw[:start] + _HIGHEST_VERSION + raw[end:], _HIGHEST_VERSION
        if len(target) > settings.max_target_bytes:
            raise TargetTooLong(f"a target of {len(target)} bytes")
        if method not in KNOWN_METHODS:
            raise NotImplementedByServer("unknown method")
        parser = self._fields or FieldParser()
        section = parser.parse(raw, version)
        fields = section.fields
        if size + lines * syntax.FIELD_OVERHEAD_BYTES > settings.max_field_section_bytes:
            syntax.check_section_size(fields, settings)
        head = RequestHead(
            method=method,
            scheme=self._scheme,
            authority=b"",
            target=target,
            fields=fields,
            http_version="1.1" if version == _HIGHEST_VERSION else "1.0",
        )
        event = self._decide(head, section.decisive)
        # Nothing of a large head is kept, including the last section in the parser.
        is_small = size <= MOST_KNOWN_BYTES
        # After a head with content llhttp would wait for the content, which it never gets.
        reuses = is_small and section.is_reusable and not event.has_content
        self._fields = parser if reuses else None
        if not is_small:
            self._known_hosts = None
            return event
        is_plain = head.protocol is None and not event.expect_continue
        if is_plain and event.keep_alive and target[0] == _SLASH:
            self.known = _KnownSection(raw[len(method) + len(target) + 1 :], event)
        return event

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

    def _decide(self, head: RequestHead, decisive: dict[bytes, list[bytes]]) -> HeadReceived:
        """Decide framing and persistence by the fields; each is read from all its lines at once."""
        coding = length = None
        if b"content-length" in decisive or b"transfer-encoding" in decisive:
            coding = decisive.get(b"transfer-encoding")
            length = self._content_length(
                decisive.get(b"content-length"), coding, head.http_version
            )
        hosts = decisive.get(b"host", _NO_LINES)
        if hosts == self._known_hosts:
            head.authority = hosts[0]
        else:
            self._read_host(head, hosts)
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
        check_authority(hosts[0])
        head.authority, self._known_hosts = hosts[0], hosts

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
