"""Whole header sections to heads of requests: their limits, the rules for Host and target, and what
the fields say about framing (RFC 9112 3, 6).

Knows neither where a section ends nor what follows it.
"""

from dataclasses import replace

from tercel.h1 import syntax
from tercel.h1.events import Event, HeadReceived
from tercel.h1.llhttp import FieldParser, FieldSection, coding_fault
from tercel.shared.errors import (
    ContentTooLarge,
    ExpectationFailed,
    FieldsTooLarge,
    MalformedMessage,
    MethodNotAllowed,
    TargetTooLong,
)
from tercel.shared.messages import RequestHead, is_token, parse_content_length
from tercel.shared.settings import Settings

# A request line without its target: method, spaces, version, CRLF. The longest method that llhttp
# knows has 11 characters.
_REQUEST_LINE_REST_BYTES = 64

_SLASH = 0x2F
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
# Methods that llhttp has let pass in this process; it knows some 30.
_known_methods: set[bytes] = set()


class _KnownSection:
    """The field section of the last plain request, and what it was found to mean.

    Most clients send the same fields again on a connection that persists: not to parse them again
    saves 2 us for a head of one field and 9 us for one of twelve.
    """

    __slots__ = ("alone", "event", "raw", "whole")

    def __init__(self, raw: bytes, event: HeadReceived) -> None:
        self.raw = raw
        """From the space before the version to the empty line."""
        self.whole = b""
        """The last whole head: who polls asks for the same again, for 0.7 us less."""
        # One event for all requests, which differ in their heads only: 0.4 us less.
        self.event = replace(event)
        self.alone: list[Event] = [] if event.has_content else [self.event]
        """The events of the last whole head, if no content follows it."""


class HeadDecoder:
    """Decodes the heads of one connection's requests."""

    __slots__ = ("_fields", "_known_host", "_scheme", "_settings", "_small", "known")

    def __init__(self, settings: Settings, scheme: bytes) -> None:
        self._settings = settings
        self._scheme = scheme
        self._fields: FieldParser | None = None
        self._known_host: bytes | None = None
        self.known: _KnownSection | None = None
        """The last request's fields, which the next is likely to have, too."""
        # A head up to this size breaks none of the byte limits.
        self._small = min(settings.max_target_bytes, settings.max_field_section_bytes)

    def repeated(self, raw: bytes) -> HeadReceived | None:
        """The head `raw`, if all after its target is what the head before it had.

        Anything else than one whole head is none: the target's pattern has no line ends.
        """
        known = self.known
        if known is None:
            return None
        if raw != known.whole:
            if not raw.endswith(known.raw):
                return None
            match = syntax.METHOD_AND_PATH.fullmatch(raw, 0, len(raw) - len(known.raw))
            if match is None:
                return None
            method, target = match[1], match[2]
            if method not in _known_methods or len(target) > self._settings.max_target_bytes:
                return None
            known.whole = raw
            known.event.head = known.event.head.with_target(method, target)
        return known.event

    def received(self, raw: bytes) -> HeadReceived:
        """What the whole header section `raw` says. Raises RemoteProtocolError."""
        settings = self._settings
        size = len(raw)
        lines = raw.count(b"\n") - 2
        if size > self._small:
            self.check_size(raw, 0, raw.find(b"\r\n"), size)
        if lines > settings.max_fields:
            raise FieldsTooLarge(f"{lines} field lines")
        match = syntax.HEAD.match(raw)
        if match is None:
            raise syntax.head_fault(raw)
        method, target, version = match.groups()
        if len(target) > settings.max_target_bytes:
            raise TargetTooLong(f"a target of {len(target)} bytes")
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
            http_version="1.1" if version == b"1.1" else "1.0",
        )
        event = self._decide(head, section)
        lasts = event.keep_alive and not section.upgrade
        # With content to come llhttp waits for it, which it does not get.
        self._fields = parser if lasts and not event.has_content else None
        if not lasts:
            return event
        if method not in _REFUSED_METHODS and target[0] == _SLASH and not event.expect_continue:
            _known_methods.add(method)
            self.known = _KnownSection(raw[len(method) + len(target) + 1 :], event)
        return event

    def check_size(self, data: bytes, start: int, line_end: int, end: int) -> None:
        """Check a header section, or what has arrived of it, against the limits in bytes."""
        line_size = (end if line_end < 0 else line_end) - start
        if line_size > self._settings.max_target_bytes + _REQUEST_LINE_REST_BYTES:
            raise TargetTooLong(f"a request line of {line_size} bytes or more")
        # A field line takes less on the wire than it counts, unless white space pads it.
        limit = self._settings.max_field_section_bytes
        if line_end >= 0 and end - line_end - 4 > limit:
            raise FieldsTooLarge(f"header section over {limit} bytes")

    def _decide(self, head: RequestHead, section: FieldSection) -> HeadReceived:
        hosts = 0
        coding = length_value = expect = upgrade = length = None
        for name, value in section.decisive:
            if name == b"host":
                hosts += 1
                head.authority = value
            elif name == b"content-length":
                length_value = value
            elif name == b"transfer-encoding":
                coding = value
            elif name == b"expect":
                expect = value.lower() if expect in (None, b"100-continue") else expect
            else:
                upgrade = value
        if length_value is not None or coding is not None:
            length = self._content_length(length_value, coding, head.http_version)
        if hosts != 1 or head.authority != self._known_host:
            self._check_host(head, hosts)
        if head.method == b"CONNECT":
            raise MalformedMessage("CONNECT is not served")
        if head.target[0] != _SLASH:  # not origin-form
            self._rewrite_target(head)
        if head.method == b"TRACE":
            raise MethodNotAllowed("TRACE is not served")
        if expect is not None and expect != b"100-continue":
            raise ExpectationFailed("only 100-continue is understood")
        has_content = coding is not None or bool(length)
        upgrades = section.upgrade and not has_content and head.http_version != "1.0"
        if upgrade is not None and upgrades:
            # RFC 9110 7.8: Connection names it too, and in HTTP/1.0 it is ignored. With content
            # before the switch it is ignored, as it may be, and so is a list: nobody has ever
            # offered two.
            head.protocol = upgrade.lower() if is_token(upgrade) else None
        return HeadReceived(
            head,
            section.keep_alive,
            has_content,
            length,
            # RFC 9110 10.1.1: not from an HTTP/1.0 client; without content there is no wait.
            has_content and expect is not None and head.http_version != "1.0",
        )

    def _content_length(
        self, length: bytes | None, coding: bytes | None, version: str
    ) -> int | None:
        if coding is not None:
            # RFC 9112 6.1: both is how requests are smuggled; 1.0 knows no transfer codings.
            if length is not None or version == "1.0":
                raise MalformedMessage("Transfer-Encoding with Content-Length or in HTTP/1.0")
            if coding.lower() != b"chunked":
                raise coding_fault(coding)
            return None
        assert length is not None  # noqa: S101  # one of both is there
        size = parse_content_length(length)
        if size is None:
            raise MalformedMessage("Content-Length is not a number below 2^63")
        limit = self._settings.max_content_bytes
        if limit and size > limit:
            raise ContentTooLarge(f"{size} bytes of content, {limit} are allowed")
        return size

    def _check_host(self, head: RequestHead, hosts: int) -> None:
        # RFC 9112 3.2: exactly one Host field with a valid value, or 400. HTTP/1.0 may do without.
        if hosts != 1 and (hosts or head.http_version != "1.0"):
            raise MalformedMessage(f"{hosts} Host fields")
        if hosts:
            if not syntax.is_authority(head.authority):
                raise MalformedMessage("invalid Host")
            self._known_host = head.authority

    def _rewrite_target(self, head: RequestHead) -> None:
        """Bring the other forms of a target to origin-form (RFC 9112 3.2)."""
        if head.target == b"*":
            if head.method != b"OPTIONS":
                raise MalformedMessage("target * without OPTIONS")  # RFC 9112 3.2.4
            return
        # RFC 9112 3.2.2: the target's host counts, and Host is ignored and replaced by it.
        head.authority, head.target = syntax.split_absolute(head.target, head.method)
        head.fields = [
            (b"host", head.authority),
            *(line for line in head.fields if line[0] != b"host"),
        ]
