"""tercel.h1.parser: every row of what a trusted server does with bad HTTP/1.1 input."""

import gc
from typing import Any

import pytest

from tercel.h1.chunked import MAX_EXTENSION_BYTES
from tercel.h1.events import ContentReceived, Event, HeadReceived, MessageComplete, MessageFailed
from tercel.h1.parser import RequestParser
from tercel.shared.control_data import SERVED_METHODS
from tercel.shared.errors import (
    ContentTooLarge,
    ExpectationFailed,
    FieldsTooLarge,
    MalformedMessage,
    MethodNotAllowed,
    MisdirectedRequest,
    NotImplementedByServer,
    RemoteProtocolError,
    TargetTooLong,
    TunnelRefused,
    UnsupportedTransferCoding,
    UnsupportedVersion,
)
from tercel.shared.settings import Settings

SETTINGS = Settings(max_target_bytes=256, max_field_section_bytes=2048, max_fields=20)


def request(
    *lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a.test"
) -> bytes:
    fields = [] if host is None else [b"Host: " + host]
    return b"\r\n".join([line, *fields, *lines, b"", b""])


def post(*lines: bytes, content: bytes = b"") -> bytes:
    return request(*lines, line=b"POST / HTTP/1.1") + content


def chunked(content: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", content=content)


def parse(data: bytes, settings: Settings = SETTINGS) -> list[Event]:
    return RequestParser(settings, scheme=b"http").feed(data)


def head_of(data: bytes) -> HeadReceived:
    event = parse(data)[0]
    assert isinstance(event, HeadReceived)
    return event


def fault_of(data: bytes, settings: Settings = SETTINGS) -> RemoteProtocolError:
    event = parse(data, settings)[-1]
    assert isinstance(event, MessageFailed), event
    return event.error


def content_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ContentReceived))


UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket")

MALFORMED = {
    # framing (RFC 9112 6)
    "content-length with transfer-encoding": post(
        b"Content-Length: 3", b"Transfer-Encoding: chunked"
    ),
    "transfer-encoding with content-length": post(
        b"Transfer-Encoding: chunked", b"Content-Length: 3"
    ),
    "content-length twice, equal": post(b"Content-Length: 3", b"Content-Length: 3"),
    "content-length twice, different": post(b"Content-Length: 3", b"Content-Length: 4"),
    "content-length as a list": post(b"Content-Length: 3, 3"),
    "content-length with plus": post(b"Content-Length: +3"),
    "content-length with minus": post(b"Content-Length: -3"),
    "content-length in hex": post(b"Content-Length: 0x3"),
    "content-length with underscore": post(b"Content-Length: 1_0"),
    "content-length empty": post(b"Content-Length:"),
    "content-length blank": post(b"Content-Length:   "),
    "content-length of 2^63": post(b"Content-Length: 9223372036854775808"),
    "content-length of 2^64": post(b"Content-Length: 18446744073709551616"),
    "content-length in other digits": post("Content-Length: ٣".encode()),
    "transfer-encoding in HTTP/1.0": request(
        b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"
    ),
    "transfer-encoding empty": post(b"Transfer-Encoding:"),
    "transfer-encoding with an empty element": post(b"Transfer-Encoding: chunked,"),
    "transfer-encoding empty beside chunked": post(
        b"Transfer-Encoding:", b"Transfer-Encoding: chunked"
    ),
    "transfer-encoding quoted": post(b'Transfer-Encoding: "chunked"'),
    "transfer-encoding with a vertical tab": post(b"Transfer-Encoding: \x0bchunked"),
    # field lines (RFC 9112 5)
    "space before the colon": request(b"A : b"),
    "tab before the colon": request(b"A\t: b"),
    "obs-fold": request(b"A: b", b" c"),
    "obs-fold with tab": request(b"A: b", b"\tc"),
    "leading space in the first field": request(b"A: b").replace(b"Host", b" Host"),
    "bare LF after a field": request(b"A: b\nB: c"),
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF as the last line": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": request(b"A: b\rc"),
    "bare CR at the end of a value": request(b"A: b\r"),
    "NUL in a value": request(b"A: b\0c"),
    "control byte in a value": request(b"A: b\x01"),
    "DEL in a value": request(b"A: b\x7f"),
    "empty field name": request(b": b"),
    "field name with parenthesis": request(b"A(: b"),
    "field name with NUL": request(b"A\0: b"),
    "field name outside ASCII": request(b"\xc3\xa4: b"),
    "no colon": request(b"A"),
    # Host (RFC 9112 3.2)
    "no Host": request(host=None),
    "two Hosts": request(b"Host: a.test"),
    "two Hosts in HTTP/1.0": request(b"Host: a.test", line=b"GET / HTTP/1.0"),
    "empty Host": request(host=b""),
    "Host with a space": request(host=b"a b"),
    "Host with a path": request(host=b"a/b"),
    "Host with userinfo": request(host=b"u@a"),
    "Host with a port that is no number": request(host=b"a:b"),
    "Host that is a port": request(host=b":80"),
    "Host with a broken escape": request(host=b"a%2"),
    "Host with an open bracket": request(host=b"[::1"),
    "Host outside ASCII": request(host="ä.test".encode()),
    "invalid Host beside an absolute-form target": request(
        host=b"a b", line=b"GET http://a.test/ HTTP/1.1"
    ),
    # request line (RFC 9112 3)
    "two spaces before the target": request(line=b"GET  / HTTP/1.1"),
    "two spaces after the target": request(line=b"GET /  HTTP/1.1"),
    "leading space": request(line=b" GET / HTTP/1.1"),
    "trailing space": request(line=b"GET / HTTP/1.1 "),
    "tab for a space": request(line=b"GET\t/ HTTP/1.1"),
    "control byte in the target": request(line=b"GET /\x01 HTTP/1.1"),
    "DEL in the target": request(line=b"GET /\x7f HTTP/1.1"),
    "target outside ASCII": request(line="GET /ä HTTP/1.1".encode()),
    "fragment in the target": request(line=b"GET /#a HTTP/1.1"),
    "fragment in an absolute-form target": request(line=b"GET http://a.test/#a HTTP/1.1"),
    "relative target": request(line=b"GET a HTTP/1.1"),
    "asterisk without OPTIONS": request(line=b"GET * HTTP/1.1"),
    "absolute-form of another scheme": request(line=b"GET ftp://a.test/ HTTP/1.1"),
    "absolute-form without a host": request(line=b"GET http:///a HTTP/1.1"),
    "absolute-form with userinfo": request(line=b"GET http://u@a.test/ HTTP/1.1"),
    "CONNECT without a port": request(line=b"CONNECT a.test HTTP/1.1"),
    "CONNECT in origin-form": request(line=b"CONNECT / HTTP/1.1"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/0.9 by name": request(line=b"GET / HTTP/0.9"),
    "HTTP/9.9": request(line=b"GET / HTTP/9.9"),
    "HTTP/1": request(line=b"GET / HTTP/1"),
    "HTTP/1.10": request(line=b"GET / HTTP/1.10"),
    "http in lower case": request(line=b"GET / http/1.1"),
    "ICE": request(line=b"SOURCE / ICE/1.0"),
    "method with a slash": request(line=b"G/T / HTTP/1.1"),
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # chunks (RFC 9112 7.1)
    "chunk size with plus": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with minus": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with underscore": chunked(b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a space before": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a space after": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size missing": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "chunk size of 2^63": chunked(b"8000000000000000\r\n"),
    "chunk size of 2^64": chunked(b"10000000000000000\r\n"),
    "chunk size ended by LF": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "chunk size ended by CR": chunked(b"5\rhello\r\n0\r\n\r\n"),
    "no CRLF after chunk data": chunked(b"5\r\nhello0\r\n\r\n"),
    "two bytes for CRLF after chunk data": chunked(b"5\r\nhelloXX0\r\n\r\n"),
    "LF after chunk data": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "LF in a chunk extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "CR in a chunk extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "NUL in a chunk extension": chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"),
    "one chunk extension over the budget": chunked(
        b"5;" + b"a" * MAX_EXTENSION_BYTES + b"\r\nhello\r\n0\r\n\r\n"
    ),
    "chunk extension without an end": chunked(b"5;" + b"a" * (MAX_EXTENSION_BYTES + 20)),
    "many chunk extensions over the budget": chunked(
        (b"1;" + b"a" * 99 + b"\r\nx\r\n") * (MAX_EXTENSION_BYTES // 100 + 1)
    ),
    "bad field line in the trailers": chunked(b"0\r\nA : b\r\n\r\n"),
    "bare LF in the trailers": chunked(b"0\r\nA: b\nB: c\r\n\r\n"),
    "obs-fold in the trailers": chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_message_is_refused_with_400(data: bytes) -> None:
    fault = fault_of(data)
    assert isinstance(fault, MalformedMessage)
    assert fault.status == 400


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_message_is_refused_alike_byte_by_byte(data: bytes) -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    events = [event for index in range(len(data)) for event in parser.feed(data[index : index + 1])]
    assert isinstance(events[-1], MessageFailed)
    assert events[-1].error.status == 400


OTHER_FAULTS = {
    "two transfer codings": (post(b"Transfer-Encoding: gzip, chunked"), UnsupportedTransferCoding),
    "transfer-encoding identity": (post(b"Transfer-Encoding: identity"), UnsupportedTransferCoding),
    "transfer-encoding gzip": (post(b"Transfer-Encoding: gzip"), UnsupportedTransferCoding),
    "transfer-encoding unknown": (post(b"Transfer-Encoding: xchunked"), UnsupportedTransferCoding),
    "chunked twice": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        UnsupportedTransferCoding,
    ),
    "chunked twice in one line": (
        post(b"Transfer-Encoding: chunked, chunked"),
        UnsupportedTransferCoding,
    ),
    "identity and chunked in two lines": (
        post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
        UnsupportedTransferCoding,
    ),
    "gzip and chunked in two lines": (
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
        UnsupportedTransferCoding,
    ),
    "chunked and identity in two lines": (
        post(b"Transfer-Encoding: chunked", b"X: y", b"Transfer-Encoding: identity"),
        UnsupportedTransferCoding,
    ),
    "HTTP/2.0": (request(line=b"GET / HTTP/2.0"), UnsupportedVersion),
    "HTTP/3.0": (request(line=b"GET / HTTP/3.0"), UnsupportedVersion),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UnsupportedVersion),
    "method that is unknown": (request(line=b"BREW / HTTP/1.1"), NotImplementedByServer),
    "method in lower case": (request(line=b"get / HTTP/1.1"), NotImplementedByServer),
    "TRACE": (request(line=b"TRACE / HTTP/1.1"), MethodNotAllowed),
    "CONNECT to a port": (request(line=b"CONNECT a.test:443 HTTP/1.1"), TunnelRefused),
    "CONNECT with an upgrade": (
        request(*UPGRADE, line=b"CONNECT a.test:443 HTTP/1.1"),
        TunnelRefused,
    ),
    "https without TLS": (request(line=b"GET https://a.test/ HTTP/1.1"), MisdirectedRequest),
    "another Expect": (post(b"Expect: the-unexpected"), ExpectationFailed),
    "two Expects": (
        post(b"Expect: 100-continue", b"Expect: the-unexpected", b"Content-Length: 1"),
        ExpectationFailed,
    ),
    "target over its size": (request(line=b"GET /" + b"a" * 256 + b" HTTP/1.1"), TargetTooLong),
    "target far over its size": (b"GET /" + b"a" * 1000, TargetTooLong),
    "field over the section's size": (request(b"A: " + b"b" * 2048), FieldsTooLarge),
    "field without an end": (request(b"A: " + b"b" * 2500)[:-4], FieldsTooLarge),
    "white space over the section's size": (request(b"A:" + b" " * 2100), FieldsTooLarge),
    "small fields that count 32 bytes each": (request(*[b"A: " + b"b" * 80] * 19), FieldsTooLarge),
    "too many fields": (request(*[b"a:"] * 20), FieldsTooLarge),
    "too many trailers": (chunked(b"0\r\n" + b"a:\r\n" * 21 + b"\r\n"), FieldsTooLarge),
    "trailers over their size": (
        chunked(b"0\r\nA: " + b"b" * 2048 + b"\r\n\r\n"),
        FieldsTooLarge,
    ),
    "trailers without an end": (chunked(b"0\r\nA: " + b"b" * 2500), FieldsTooLarge),
}


@pytest.mark.parametrize(("data", "fault"), OTHER_FAULTS.values(), ids=OTHER_FAULTS.keys())
def test_fault_has_its_own_status(data: bytes, fault: type[RemoteProtocolError]) -> None:
    assert type(fault_of(data)) is fault


def test_nothing_comes_after_a_fault() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    assert isinstance(parser.feed(request(b"A : b"))[-1], MessageFailed)
    assert parser.feed(request()) == []
    assert parser.resume() == []
    assert not parser.started


# -- what is valid ------------------------------------------------------------------------------


def test_head_is_split_into_its_parts() -> None:
    event = head_of(request(b"X-A:  b \t", b"Accept:", line=b"GET /a%20b?c=d HTTP/1.1"))
    assert event.head.method == b"GET"
    assert event.head.scheme == b"http"
    assert event.head.target == b"/a%20b?c=d"
    assert event.head.authority == b"a.test"
    assert event.head.http_version == "1.1"
    assert event.head.fields == [(b"host", b"a.test"), (b"x-a", b"b"), (b"accept", b"")]
    assert not event.has_content


@pytest.mark.parametrize("method", sorted(SERVED_METHODS))
def test_every_method_that_is_served_is_one_of_llhttp_s(method: bytes) -> None:
    assert head_of(request(line=method + b" / HTTP/1.1")).head.method == method


def test_field_values_may_have_bytes_outside_ascii() -> None:
    assert (b"x", b"\xe4\xff") in head_of(request(b"X: \xe4\xff")).head.fields


@pytest.mark.parametrize(
    "host",
    [
        *(b"a.test:8080", b"127.0.0.1", b"[::1]:443", b"a_b.test", b"xn--4ca.test", b"a%20b"),
        # RFC 3986 3.2.3: a port is any number of digits; 3.2.2: an address of a future version.
        *(b"example.org:000080", b"a.test:", b"[v1.foo]"),
    ],
)
def test_valid_host_is_the_authority(host: bytes) -> None:
    assert head_of(request(host=host)).head.authority == host


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
def test_a_higher_minor_version_is_read_as_1_1(version: bytes) -> None:
    line = b"POST /a HTTP/" + version
    upgrade = head_of(request(*UPGRADE, line=line))
    assert upgrade.head.http_version == "1.1"
    assert upgrade.head.protocol == b"websocket"
    assert upgrade.keep_alive
    first, second = (
        request(b"Transfer-Encoding: chunked", line=line) + b"0\r\n\r\n" for _ in range(2)
    )
    parser = RequestParser(SETTINGS, scheme=b"http")
    for events in (parser.feed(first + second), parser.resume()):
        assert isinstance(events[0], HeadReceived)
        assert (events[0].head.http_version, events[0].head.target) == ("1.1", b"/a")
        assert isinstance(events[-1], MessageComplete)


def test_http_1_0_does_without_host() -> None:
    event = head_of(b"GET / HTTP/1.0\r\n\r\n")
    assert event.head.authority == b""
    assert event.head.http_version == "1.0"
    assert not event.keep_alive


@pytest.mark.parametrize(
    ("line", "authority", "target"),
    [
        (b"GET http://b.test/c?d HTTP/1.1", b"b.test", b"/c?d"),
        (b"GET HTTP://b.test:81 HTTP/1.1", b"b.test:81", b"/"),
        (b"GET http://b.test?d HTTP/1.1", b"b.test", b"/?d"),
        (b"OPTIONS http://b.test HTTP/1.1", b"b.test", b"*"),
    ],
)
def test_absolute_form_target_wins_over_host(line: bytes, authority: bytes, target: bytes) -> None:
    head = head_of(request(b"X: y", line=line)).head
    assert head.authority == authority
    assert head.target == target
    assert head.fields == [(b"host", authority), (b"x", b"y")]


def test_options_may_ask_about_the_server_as_a_whole() -> None:
    assert head_of(request(line=b"OPTIONS * HTTP/1.1")).head.target == b"*"


@pytest.mark.parametrize(
    ("lines", "version", "persists"),
    [
        ([], b"1.1", True),
        ([b"Connection: close"], b"1.1", False),
        ([b"Connection: foo, CLOSE"], b"1.1", False),
        ([b"Connection: foo", b"Connection: close"], b"1.1", False),
        ([b"Connection: closed"], b"1.1", True),
        ([], b"1.0", False),
        ([b"Connection: Keep-Alive"], b"1.0", True),
        ([b"Connection: close, keep-alive"], b"1.0", False),
        ([b"Connection: keep-alive", b"Connection: close"], b"1.0", False),
        ([b"Connection: keep-alive, close"], b"1.1", False),
        ([b"Proxy-Connection: keep-alive"], b"1.0", False),
        ([b"Proxy-Connection: close"], b"1.1", True),
    ],
)
def test_persistence_follows_version_and_connection(
    lines: list[bytes], version: bytes, persists: bool
) -> None:
    assert head_of(request(*lines, line=b"GET / HTTP/" + version)).keep_alive is persists


def test_expectation_counts_only_with_content_to_come() -> None:
    assert head_of(post(b"Expect: 100-Continue", b"Content-Length: 1")).expect_continue
    assert not head_of(post(b"Expect: 100-continue", b"Content-Length: 0")).expect_continue
    assert not head_of(post(b"Expect: 100-continue")).expect_continue
    old = request(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.0")
    assert not head_of(old).expect_continue


def test_upgrade_is_the_protocol_of_the_head_where_connection_names_it() -> None:
    assert head_of(request(*UPGRADE)).head.protocol == b"websocket"
    assert head_of(request(b"Upgrade: websocket")).head.protocol is None
    assert head_of(request()).head.protocol is None


def test_upgrade_is_ignored_with_content_and_for_a_list() -> None:
    with_content = post(*UPGRADE, b"Content-Length: 1", content=b"x")
    assert head_of(with_content).head.protocol is None
    assert isinstance(parse(with_content)[-1], MessageComplete)
    several = request(b"Connection: upgrade", b"Upgrade: h2c, websocket")
    assert head_of(several).head.protocol is None
    lines = request(b"Connection: upgrade", b"Upgrade: h2c", b"Upgrade: websocket")
    assert head_of(lines).head.protocol is None


def test_bytes_after_an_upgrade_are_handed_over_unparsed() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    data = request(*UPGRADE) + b"\x81\x00frames"
    assert isinstance(parser.feed(data)[0], HeadReceived)
    assert parser.take_unparsed() == b"\x81\x00frames"
    assert parser.feed(request()) == []


def test_several_cookie_lines_are_one() -> None:
    head = head_of(request(b"Cookie: a=1", b"Accept: */*", b"Cookie: b=2")).head
    fields = [(b"host", b"a.test"), (b"accept", b"*/*"), (b"cookie", b"a=1; b=2")]
    assert head.fields == fields


def test_h2c_upgrade_that_is_ignored_leaves_an_ordinary_request() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM")
    events = parser.feed(post(*lines, b"Content-Length: 3", content=b"abc") + request())
    assert content_of(events) == b"abc"
    assert isinstance(events[-1], MessageComplete)
    assert isinstance(parser.resume()[0], HeadReceived)


def test_empty_lines_before_a_request_are_ignored() -> None:
    events = parse(b"\r\n\r\n" + request())
    assert [type(event) for event in events] == [HeadReceived]
    parser = RequestParser(SETTINGS, scheme=b"http")
    assert parser.feed(b"\r\n") == []
    assert not parser.started


def test_content_length_may_have_leading_zeros_and_space_around() -> None:
    assert head_of(post(b"Content-Length: \t 007 \t")).content_length == 7


def test_chunked_in_any_case_is_chunked() -> None:
    event = head_of(post(b"Transfer-Encoding: Chunked"))
    assert event.has_content
    assert event.content_length is None


def test_chunks_are_freed_from_their_framing() -> None:
    events = parse(chunked(b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n000;c\r\n\r\n"))
    assert content_of(events) == b"hello0123456789"
    assert events[-1] == MessageComplete([])


def test_many_small_chunks_of_one_read_are_one_event() -> None:
    events = parse(chunked(b"1\r\nx\r\n" * 100 + b"0\r\n\r\n"))
    assert events[1:] == [ContentReceived(b"x" * 100), MessageComplete([])]


def test_trailers_are_apart_and_cannot_frame_or_route() -> None:
    events = parse(
        chunked(
            b"0\r\nX-Sum:  1 \r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\nHost: b\r\n"
            b"Trailer: x\r\nCookie: a=1\r\nTE: gzip\r\n\r\n"
        )
    )
    assert events[-1] == MessageComplete([(b"x-sum", b"1")])
    assert isinstance(events[0], HeadReceived)
    assert (b"x-sum", b"1") not in events[0].head.fields


def test_limits_are_met_exactly() -> None:
    line = b"GET /" + b"a" * 255 + b" HTTP/1.1"
    assert isinstance(parse(request(line=line))[0], HeadReceived)
    assert isinstance(parse(request(*[b"a:"] * 19))[0], HeadReceived)
    host_size = len(b"hosta.test") + 32
    fits = request(b"A: " + b"b" * (2048 - host_size - 33))
    assert isinstance(parse(fits)[0], HeadReceived)
    assert isinstance(fault_of(request(b"A: " + b"b" * (2048 - host_size - 32))), FieldsTooLarge)


def test_content_over_its_limit_is_refused_with_the_head() -> None:
    settings = Settings(max_content_bytes=10)
    events = parse(post(b"Content-Length: 11"), settings)
    assert len(events) == 1
    assert isinstance(fault_of(post(b"Content-Length: 11"), settings), ContentTooLarge)
    assert len(parse(post(b"Content-Length: 10", content=b"x" * 10), settings)) == 3


def test_chunked_content_over_its_limit_is_refused_as_it_arrives() -> None:
    settings = Settings(max_content_bytes=10)
    fault = fault_of(chunked(b"6\r\nabcdef\r\n5\r\n"), settings)
    assert isinstance(fault, ContentTooLarge)
    assert isinstance(
        parse(chunked(b"a\r\n0123456789\r\n0\r\n\r\n"), settings)[-1], MessageComplete
    )


# -- the same lines again: field lines that are not parsed anew --------------------------------


def after(first: bytes, second: bytes) -> Event:
    """The first event of `second` on a connection that brought `first`."""
    parser = RequestParser(SETTINGS, scheme=b"http")
    parser.feed(first)
    parser.resume()
    return parser.feed(second)[0]


@pytest.mark.parametrize("line", [b"GET /b?c HTTP/1.1", b"POST /b HTTP/1.1", b"GET / HTTP/1.1"])
def test_head_with_the_fields_of_the_one_before_is_the_same_as_on_a_new_connection(
    line: bytes,
) -> None:
    second = request(b"X: y", line=line)
    event = after(request(b"X: y"), second)
    assert isinstance(event, HeadReceived)
    expected = head_of(second)
    assert (event.keep_alive, event.has_content) == (expected.keep_alive, expected.has_content)
    for attribute in ("method", "scheme", "authority", "target", "fields", "http_version"):
        assert getattr(event.head, attribute) == getattr(expected.head, attribute)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_content_with_the_fields_of_the_one_before_is_framed_as_on_a_new_connection(
    head: bytes,
) -> None:
    content = b"3\r\nabc\r\n0\r\n\r\n" if b"chunked" in head else b"abc"
    message = head + (b"" if b" 0\r" in head else content)
    expected = parse(message)
    parser = RequestParser(SETTINGS, scheme=b"http")
    for pieces in ([message], [head, message[len(head) :]], [message[:-1], message[-1:]]):
        events = [event for piece in pieces for event in parser.feed(piece)]
        told = [vars_of(event) for event in events if not isinstance(event, ContentReceived)]
        assert told == [vars_of(e) for e in expected if not isinstance(e, ContentReceived)]
        parts = [event.data for event in events if isinstance(event, ContentReceived)]
        assert b"".join(parts) == (b"abc" if len(expected) > 1 else b"")
        assert parser.resume() == []


def vars_of(event: Event) -> Any:
    """What can be compared of an event."""
    if isinstance(event, MessageFailed):
        return (type(event.error), event.error.status, event.error.request_line)
    if not isinstance(event, HeadReceived):
        return event
    head = event.head
    return (
        (event.keep_alive, event.has_content, event.content_length, event.expect_continue),
        (head.method, head.scheme, head.authority, head.target, head.http_version, head.protocol),
        head.fields,
    )


def warm_parser(lines: list[bytes]) -> RequestParser:
    """A parser that has parsed each of `lines`, as far as they are valid and leave it usable."""
    parser = RequestParser(SETTINGS, scheme=b"http")
    for line in (b"X: y", *lines):
        is_host = line.lower().startswith(b"host:")
        data = request(line, host=None if is_host else b"a.test")
        event = parse(data)[0]
        if isinstance(event, HeadReceived) and not event.has_content:
            assert vars_of(parser.feed(data)[0]) == vars_of(event)
            parser.resume()
    return parser


KNOWN_AND_FAULTY = {
    **MALFORMED,
    **{name: data for name, (data, _) in OTHER_FAULTS.items()},
    "two Hosts, equal": request(b"Host: a.test"),
    "Host twice among others": request(b"X: y", b"Host: a.test", b"Z: z"),
    "upgrade": request(*UPGRADE),
    "two cookies": request(b"Cookie: a=1", b"X: y", b"Cookie: a=1"),
    "early data": request(b"Early-Data: 0"),
    "close": request(b"Connection: close"),
    "close after keep-alive": request(b"Connection: keep-alive", b"Connection: close"),
    "expectation without content": request(b"Expect: 100-continue"),
    "length of nothing": request(b"Content-Length: 0"),
    "length of nothing twice": request(b"Content-Length: 0", b"Content-Length: 0"),
    "absolute-form": request(line=b"GET http://b.test/c HTTP/1.1"),
    "HTTP/1.0": request(line=b"GET / HTTP/1.0"),
    "HTTP/1.2": request(line=b"GET /1.1 HTTP/1.2"),
    "OPTIONS": request(line=b"OPTIONS * HTTP/1.1"),
}


@pytest.mark.parametrize("data", KNOWN_AND_FAULTY.values(), ids=KNOWN_AND_FAULTY.keys())
def test_known_lines_decide_the_same_in_any_head(data: bytes) -> None:
    expected = [vars_of(event) for event in parse(data)]
    head = data.partition(b"\r\n\r\n")[0]
    for lines in (head.split(b"\r\n")[1:], head.replace(b"\n", b"\r\n").split(b"\r\n")[1:]):
        assert [vars_of(event) for event in warm_parser(lines).feed(data)] == expected


def test_each_request_has_a_list_of_fields_of_its_own() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    for _ in range(5):
        (event,) = parser.feed(request(b"X: y"))
        assert isinstance(event, HeadReceived)
        assert event.head.fields == [(b"host", b"a.test"), (b"x", b"y")]
        event.head.fields.clear()
        parser.resume()


def test_sections_in_turn_are_decided_each_by_its_own_lines() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    first, second = request(b"X: y"), request(b"Connection: close", host=b"b.test")
    for data in (first, first, first, second, first, second, second, second, first):
        assert [vars_of(event) for event in parser.feed(data)] == [vars_of(e) for e in parse(data)]
        parser.resume()


@pytest.mark.parametrize("others", [0, 9], ids=["room", "no room"])
@pytest.mark.parametrize("name", [b"Connection: ", b"Cookie: ", b"Early-Data: "])
def test_a_line_too_long_to_be_kept_decides_as_others_do(name: bytes, others: int) -> None:
    settings = Settings()
    parser = RequestParser(settings, scheme=b"http")
    lines = [b"N%d: " % number + b"x" * 900 for number in range(others)]
    long = name + b"x" * 2500 + b", close"
    for data in (request(), request(), request(*lines, long), request(*lines, long, long)):
        events = parser.feed(data)
        assert [vars_of(event) for event in events] == [vars_of(e) for e in parse(data, settings)]
        parser.resume()


def test_lines_that_change_with_each_request_do_not_matter_to_the_others() -> None:
    parser = RequestParser(Settings(), scheme=b"http")
    for number in range(200):
        lines = [b"Referer: /%d" % number, b"Cookie: a=%d" % number, b"X: y" * (number % 5 * 200)]
        data = request(*lines[: 2 + number % 2])
        assert [vars_of(e) for e in parser.feed(data)] == [
            vars_of(e) for e in parse(data, Settings())
        ]
        parser.resume()


def test_a_known_head_in_two_parts_is_the_same_request() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    for data in (request(), request()):
        assert len(parser.feed(data)) == 1
        parser.resume()
    whole = request()
    assert parser.feed(whole[:9]) == []
    (event,) = parser.feed(whole[9:])
    assert isinstance(event, HeadReceived)
    assert event.head.fields == [(b"host", b"a.test")]


def test_a_known_head_that_announces_content_is_followed_by_it() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    head = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n"
    for _ in range(3):
        events = [*parser.feed(head), *parser.feed(b"ab")]
        assert events[1:] == [ContentReceived(b"ab"), MessageComplete([])]
        parser.resume()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"TRACE / HTTP/1.1", 405),
        (b"CONNECT a.test:1 HTTP/1.1", 400),
        (b"CONNECT / HTTP/1.1", 400),
        (b"BREW / HTTP/1.1", 501),
        (b"get / HTTP/1.1", 501),
        (b"GET https://a.test/ HTTP/1.1", 421),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /a HTTP/1.1 HTTP/1.1", 400),
        (b"GET /\x01 HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET /" + b"a" * 300 + b" HTTP/1.1", 414),
        (b" HTTP/1.1", 400),
    ],
)
def test_request_line_is_checked_although_the_fields_are_known(line: bytes, status: int) -> None:
    event = after(request(b"X: y"), request(b"X: y", line=line))
    assert isinstance(event, MessageFailed)
    assert event.error.status == status


def test_http_1_0_with_known_fields_does_not_persist() -> None:
    event = after(request(), request(line=b"GET / HTTP/1.0"))
    assert isinstance(event, HeadReceived)
    assert not event.keep_alive


# -- one message at a time ---------------------------------------------------------------------


def test_what_follows_a_message_waits_unparsed() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    second = request(line=b"GET /2 HTTP/1.1")
    events = parser.feed(post(b"Content-Length: 2", content=b"ab") + second)
    assert [type(event) for event in events] == [HeadReceived, ContentReceived, MessageComplete]
    assert len(parser.unparsed) == len(second)
    assert parser.feed(b"junk that is not even HTTP\0") == []
    (first,) = parser.resume()
    assert isinstance(first, HeadReceived)
    assert first.head.target == b"/2"
    assert isinstance(parser.resume()[-1], MessageFailed)


def test_parser_is_ready_again_after_every_kind_of_message() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    kinds = [request(), post(b"Content-Length: 1", content=b"x"), chunked(b"1\r\nx\r\n0\r\n\r\n")]
    for data in kinds * 2:
        events = parser.feed(data)
        assert isinstance(events[0], HeadReceived)
        assert isinstance(events[-1], MessageComplete if events[0].has_content else HeadReceived)
        assert not parser.started
        assert parser.resume() == []


def test_content_left_is_known_where_a_length_was_given() -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    parser.feed(post(b"Content-Length: 5", content=b"ab"))
    assert parser.content_left == 3
    parser = RequestParser(SETTINGS, scheme=b"http")
    parser.feed(chunked(b"5\r\nab"))
    assert parser.content_left is None


# -- splits ---------------------------------------------------------------------------------

VALID = {
    "GET": request(b"X: y"),
    "GET after empty lines": b"\r\n\r\n" + request(),
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "absolute-form": request(line=b"GET http://b.test/c HTTP/1.1"),
    "content-length": post(b"Content-Length: 10", content=b"0123456789"),
    "content that looks like heads": post(b"Content-Length: 8", content=b"\r\n\r\n\r\n\r\n"),
    "chunked": chunked(b'5;x="y"\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n'),
    "chunked with trailers": chunked(b"2\r\nab\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
    "pipelined": request() + post(b"Content-Length: 2", content=b"ab") + request(b"Z: z"),
}


def transcript(*pieces: bytes) -> list[object]:
    """All events of all messages in `pieces`, with adjoining content as one."""
    parser = RequestParser(SETTINGS, scheme=b"http")
    result: list[object] = []
    for piece in pieces:
        events = parser.feed(piece)
        while events:
            for event in events:
                if isinstance(event, HeadReceived):
                    head = event.head
                    result.append((head.method, head.target, head.authority, tuple(head.fields)))
                    result.append(b"" if event.has_content else MessageComplete())
                elif isinstance(event, ContentReceived):
                    result[-1] += event.data  # type: ignore[operator]
                else:
                    result.append(event)
            events = parser.resume()
    return result


@pytest.mark.parametrize("data", VALID.values(), ids=VALID.keys())
def test_events_do_not_depend_on_where_the_bytes_are_split(data: bytes) -> None:
    whole = transcript(data)
    assert isinstance(whole[-1], MessageComplete)
    for index in range(1, len(data)):
        assert transcript(data[:index], data[index:]) == whole, index
    assert transcript(*(data[index : index + 1] for index in range(len(data)))) == whole


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_message_is_refused_wherever_it_is_split(data: bytes) -> None:
    for index in range(1, min(len(data), 300)):
        parser = RequestParser(SETTINGS, scheme=b"http")
        events = parser.feed(data[:index]) + parser.feed(data[index:])
        assert isinstance(events[-1], MessageFailed), index
        assert events[-1].error.status == 400, index


@pytest.mark.parametrize(
    "data",
    [request(), post(b"Content-Length: 3", content=b"abc"), chunked(b"0\r\n\r\n")],
    ids=["none", "length", "chunked"],
)
def test_requests_leave_nothing_to_the_garbage_collector(data: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            parse(data)
        assert gc.collect() == 0
    finally:
        gc.enable()
