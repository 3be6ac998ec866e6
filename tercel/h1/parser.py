"""The sans-I/O parser of HTTP/1.1 requests: bytes -> events.

Owns the limits, the framing and the rules for Host and target. llhttp splits the head into fields
and knows what Connection and Upgrade say; what it takes leniently is refused before it sees it
(`tercel.h1.syntax`). Content is framed here, because httptools does not tell where a message ends,
and what follows a message must wait. Knows neither sockets nor exchanges.
"""

from dataclasses import replace
from enum import Enum, auto
from typing import Final

import httptools

from tercel.h1 import syntax
from tercel.h1.chunked import ChunkedDecoder
from tercel.h1.events import ContentReceived, Event, HeadReceived, MessageComplete, MessageFailed
from tercel.shared.errors import (
    ContentTooLarge,
    ExpectationFailed,
    FieldsTooLarge,
    IncompleteMessage,
    MalformedMessage,
    MethodNotAllowed,
    NotImplementedByServer,
    RemoteProtocolError,
    TargetTooLong,
    UnsupportedTransferCoding,
)
from tercel.shared.messages import Fields, RequestHead, is_token, parse_content_length
from tercel.shared.settings import Settings

# A request line without its target: method, spaces, version, CRLF. The longest method that llhttp
# knows has 11 characters.
_REQUEST_LINE_REST_BYTES = 64

# The fields that decide about framing, routing and persistence.
_DECISIVE = frozenset((b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"))

_SLASH = 0x2F
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
# Methods that llhttp has let pass in this process; it knows some 30.
_known_methods: set[bytes] = set()


class _KnownSection:
    """The field section of the last plain request, and what it was found to mean.

    Most clients send the same fields again on a connection that persists: not to parse them again
    saves 2 us for a head of one field and 9 us for one of twelve.
    """

    __slots__ = ("event", "head", "raw", "whole")

    def __init__(self, raw: bytes, event: HeadReceived) -> None:
        self.raw = raw
        """From the space before the version to the empty line."""
        self.whole = b""
        """The last whole head: who polls asks for the same again, for 0.7 us less."""
        self.head = event.head.copy()
        # One event for all requests, which differ in their heads only: 0.4 us less.
        self.event = replace(event)


class _State(Enum):
    HEAD = auto()
    CONTENT = auto()
    """Content of a known length."""
    CHUNKED = auto()
    COMPLETE = auto()
    """Between a message and `resume`."""
    FAILED = auto()


# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_HEAD: Final = _State.HEAD
_COMPLETE: Final = _State.COMPLETE


class RequestParser:
    """Parses the requests of one connection, one at a time.

    `feed` and `resume` return events in order: HeadReceived, and where it announces content any
    number of ContentReceived and a MessageComplete; or MessageFailed as the last. What follows a
    message is kept unparsed, without a bound of its own, until `resume`.
    """

    def __init__(self, settings: Settings, *, scheme: bytes) -> None:
        self._settings = settings
        self._scheme = scheme
        self._state = _HEAD
        self.unparsed = b""
        """What was received and belongs to no event yet."""
        self._scanned = 0
        self._left = 0
        self._chunked: ChunkedDecoder | None = None
        self._heads: _HeadParser | None = None
        self._known_host: bytes | None = None
        self._known: _KnownSection | None = None
        # A head up to this size breaks none of the byte limits.
        self._small = min(settings.max_target_bytes, settings.max_field_section_bytes)

    @property
    def started(self) -> bool:
        """Whether a request has begun to arrive and is not whole."""
        if self._state is _HEAD:
            return bool(self.unparsed)
        return self._state in (_State.CONTENT, _State.CHUNKED)

    @property
    def content_left(self) -> int | None:
        """Content bytes that are still to come; None where only the client knows."""
        return self._left if self._state is not _State.CHUNKED else None

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes from the peer."""
        state = self._state
        if state is _HEAD and self._known is not None and not self.unparsed:
            # Most data is one whole head, and nothing else.
            event = self._known_head(data)
            if event is not None and not event.has_content:
                self._state = _COMPLETE
                return [event]
        if state is _State.FAILED:
            return []
        if self.unparsed:
            data = self.unparsed + data
            self.unparsed = b""
        if state is _COMPLETE:
            self.unparsed = data
            return []
        return self._parse(data)

    def resume(self) -> list[Event]:
        """Go on with what follows the message that was completed."""
        if self._state is not _COMPLETE:
            return []
        self._state = _HEAD
        if not self.unparsed:
            return []
        data, self.unparsed = self.unparsed, b""
        return self._parse(data)

    def feed_eof(self) -> list[Event]:
        """Note that nothing follows. It is a fault in the middle of a message only."""
        if not self.started:
            return []
        self._state = _State.FAILED
        return [MessageFailed(IncompleteMessage("the client closed in the middle of a request"))]

    def take_unparsed(self) -> bytes:
        """Hand over what came after the head, which asked for another protocol, and stop."""
        data, self.unparsed = self.unparsed, b""
        self._state = _State.FAILED
        return data

    def _parse(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            position = 0
            if self._state is _HEAD:
                position = self._parse_head(data, events)
            if self._state is _State.CONTENT:
                position = self._parse_content(data, position, events)
            elif self._state is _State.CHUNKED:
                position = self._parse_chunked(data, position, events)
            if position < len(data):
                self.unparsed = data[position:] if position else data
        except RemoteProtocolError as error:
            self._state = _State.FAILED
            self.unparsed = b""
            events.append(MessageFailed(error))
        return events

    # -- content --------------------------------------------------------------------------------

    def _parse_content(self, data: bytes, position: int, events: list[Event]) -> int:
        part = data[position : position + self._left]
        if part:
            self._left -= len(part)
            events.append(ContentReceived(part))
        if not self._left:
            self._complete([], events)
        return position + len(part)

    def _parse_chunked(self, data: bytes, position: int, events: list[Event]) -> int:
        assert self._chunked is not None  # noqa: S101  # the state says so
        part, position = self._chunked.feed(data, position)
        if part:
            events.append(ContentReceived(part))
        if self._chunked.trailers is not None:
            self._complete(self._chunked.trailers, events)
        return position

    def _complete(self, trailers: Fields, events: list[Event]) -> None:
        self._state = _COMPLETE
        events.append(MessageComplete(trailers))

    # -- head -----------------------------------------------------------------------------------

    def _parse_head(self, data: bytes, events: list[Event]) -> int:
        start = 0
        # RFC 9112 2.2: empty lines before a request line are ignored.
        while data.startswith(b"\r\n", start):
            start += 2
        end = data.find(b"\r\n\r\n", max(start, self._scanned - 3)) + 4
        if end == 3:
            self._check_unfinished(data, start)
            self._scanned = len(data) - start
            return start
        self._scanned = 0
        whole = start == 0 and end == len(data)
        raw = data if whole else data[start:end]
        event = self._known_head(raw) or self._received_head(raw)
        events.append(event)
        if not event.has_content:
            self._state = _COMPLETE
        elif event.content_length is None:
            self._state = _State.CHUNKED
            self._chunked = ChunkedDecoder(self._settings)
        else:
            self._state = _State.CONTENT
            self._left = event.content_length
        return end

    def _check_unfinished(self, data: bytes, start: int) -> None:
        """Refuse at once what the rest of the head cannot mend."""
        line_end = data.find(b"\r\n", start)
        self._check_size(data, start, line_end, len(data))
        if syntax.UNFINISHED_FAULT.search(data, max(start, self._scanned - 1)) or (
            line_end >= 0 and not syntax.REQUEST_LINE.match(data, start)
        ):
            raise syntax.head_fault(data[start:])

    def _check_size(self, data: bytes, start: int, line_end: int, end: int) -> None:
        """Check a header section, or what has arrived of it, against the limits in bytes."""
        line_size = (end if line_end < 0 else line_end) - start
        if line_size > self._settings.max_target_bytes + _REQUEST_LINE_REST_BYTES:
            raise TargetTooLong(f"a request line of {line_size} bytes or more")
        # A field line takes less on the wire than it counts, unless white space pads it.
        limit = self._settings.max_field_section_bytes
        if line_end >= 0 and end - line_end - 4 > limit:
            raise FieldsTooLarge(f"header section over {limit} bytes")

    def _received_head(self, raw: bytes) -> HeadReceived:
        settings = self._settings
        size = len(raw)
        lines = raw.count(b"\n") - 2
        if size > self._small:
            self._check_size(raw, 0, raw.find(b"\r\n"), size)
        if lines > settings.max_fields:
            raise FieldsTooLarge(f"{lines} field lines")
        match = syntax.HEAD.match(raw)
        if match is None:
            raise syntax.head_fault(raw)
        method, target, version = match.groups()
        if len(target) > settings.max_target_bytes:
            raise TargetTooLong(f"a target of {len(target)} bytes")
        heads = self._heads or _HeadParser()
        heads.parse(raw, version)
        fields = heads.fields
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
        event = self._decide(head, heads)
        lasts = event.keep_alive and not heads.upgrade
        # With content to come llhttp waits for it, which it does not get.
        self._heads = heads if lasts and not event.has_content else None
        if not lasts:
            return event
        if method not in _REFUSED_METHODS and target[0] == _SLASH and not event.expect_continue:
            _known_methods.add(method)
            self._known = _KnownSection(raw[len(method) + len(target) + 1 :], event)
        return event

    def _known_head(self, raw: bytes) -> HeadReceived | None:
        """The head `raw`, if all after its target is what the head before it had.

        Anything else than one whole head is none: the target's pattern has no line ends.
        """
        known = self._known
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
            known.head = known.head.with_target(method, target)
        event = known.event
        event.head = known.head.copy()
        return event

    def _decide(self, head: RequestHead, heads: "_HeadParser") -> HeadReceived:
        hosts = 0
        coding = length_value = expect = upgrade = length = None
        for name, value in heads.decisive:
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
        if upgrade is not None and heads.upgrade and not has_content and head.http_version != "1.0":
            # RFC 9110 7.8: Connection names it too, and in HTTP/1.0 it is ignored. With content
            # before the switch it is ignored, as it may be, and so is a list: nobody has ever
            # offered two.
            head.protocol = upgrade.lower() if is_token(upgrade) else None
        return HeadReceived(
            head,
            heads.keep_alive,
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
                raise _coding_fault(coding)
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


class _HeadParser:
    """llhttp, used for heads only: each is given whole, and its content is not."""

    __slots__ = ("_llhttp", "_padded", "decisive", "fields", "keep_alive", "upgrade")

    def __init__(self) -> None:
        self._llhttp = httptools.HttpRequestParser(self)
        self._padded = False
        self.fields: Fields = []
        self.decisive: Fields = []
        """The lines among `fields` that decide what the message is."""
        self.keep_alive = False
        self.upgrade = False

    def parse(self, raw: bytes, version: bytes) -> None:
        """Take one header section that `syntax.HEAD` matches. Raises RemoteProtocolError."""
        self.fields = []
        self.decisive = []
        # llhttp leaves the white space after a value.
        self._padded = b" \r\n" in raw or b"\t\r\n" in raw
        try:
            self._llhttp.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # where the next protocol would begin: after the head, as for every message
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 9.1: a method that is not recognised.
            raise NotImplementedByServer("unknown method") from None
        except httptools.HttpParserError as error:
            raise _framing_fault(raw, version, str(error)) from None

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        line = (name, value.rstrip(b" \t") if self._padded else value)
        self.fields.append(line)
        if name in _DECISIVE:
            self.decisive.append(line)

    def on_headers_complete(self) -> None:
        self.keep_alive = self._llhttp.should_keep_alive()
        self.upgrade = self._llhttp.should_upgrade()


def _framing_fault(raw: bytes, version: bytes, reason: str) -> RemoteProtocolError:
    """Find the status for what llhttp refused: it has one error for all that is wrong."""
    lines = raw[raw.index(b"\r\n") + 2 : -2]
    values: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    codings = values.get(b"transfer-encoding")
    if codings and version != b"1.0" and b"content-length" not in values:
        return _coding_fault(b", ".join(codings))
    return MalformedMessage(f"refused by llhttp: {reason}")


def _coding_fault(coding: bytes) -> RemoteProtocolError:
    if syntax.is_list_of_codings(coding):
        return UnsupportedTransferCoding("a transfer coding other than chunked alone")
    return MalformedMessage("malformed Transfer-Encoding")
