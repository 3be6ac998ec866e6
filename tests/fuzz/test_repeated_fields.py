"""Fields that come in several lines: a model says what they mean, and each version agrees.

The model knows one rule for each field, of its RFC: the lines are one list, or there may be only
one, or they are joined. That the last line wins, or the first, is no rule of any.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.h1.events import HeadReceived, MessageFailed
from tercel.h1.parser import RequestParser
from tercel.h1.writer import ResponseWriter
from tercel.quic.http3.fields import HeadReader
from tercel.quic.http3.stream import check_served
from tercel.shared.errors import MalformedMessage, RemoteProtocolError
from tercel.shared.messages import Fields, RequestHead, ResponseHead
from tercel.shared.request_fields import takes_trailers
from tercel.shared.response_fields import ResponseFields
from tercel.shared.settings import Settings
from tercel.shared.websocket.negotiation import Handshake, HandshakeRefused
from tests.quic.http3.test_fields import section

SETTINGS = Settings()
MALFORMED = 400
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def lines_of(*values: bytes) -> st.SearchStrategy[list[bytes]]:
    """Up to four lines, each a value or a list of some."""
    value = st.sampled_from(values)
    some = st.lists(value, min_size=1, max_size=3).map(lambda parts: b", ".join(parts).strip())
    return st.lists(st.one_of(value, some), min_size=1, max_size=4)


def over_h1(
    name: bytes, values: list[bytes], *others: bytes, version: bytes = b"1.1"
) -> HeadReceived | int:
    """What HTTP/1.1 makes of `values` in as many lines; the status if it is a refusal."""
    lines = [b"POST / HTTP/" + version, *others, *(name + b": " + value for value in values)]
    if name != b"host":
        lines.append(b"Host: a.test")
    data = b"\r\n".join([*lines, b"", b""])
    parser = RequestParser(SETTINGS, scheme=b"https")
    for _ in range(2):  # the second time by what is known of the first
        event = parser.feed(data)[0]
        if isinstance(event, MessageFailed):
            return event.error.status
        assert isinstance(event, HeadReceived)
        if event.has_content or event.head.protocol is not None:
            break
        parser.resume()
    return event


def over_h3(name: bytes, values: list[bytes]) -> RequestHead | int:
    """The same of HTTP/3; 400 for a malformed message."""
    lines = section(*((name, value) for value in values), method=b"POST")
    reader = HeadReader()
    try:
        for _ in range(2):  # the second time by what is known of the first
            request = reader.read(list(lines))
            check_served(request, SETTINGS)
    except RemoteProtocolError as error:
        return MALFORMED if isinstance(error, MalformedMessage) else error.status
    return request[0]


def elements(values: list[bytes]) -> list[bytes]:
    """The model of a list: its lines joined by commas, then taken apart (RFC 9110 5.3)."""
    parts = b",".join(values).lower().split(b",")
    return [part.strip() for part in parts if part.strip()]


@given(lines_of(b"chunked", b"Chunked", b"identity", b"gzip", b"x;a=b", b"", b"@"))
def test_transfer_encoding_is_chunked_alone_or_refused(values: list[bytes]) -> None:
    event = over_h1(b"Transfer-Encoding", values)
    if b",".join(values).lower() == b"chunked":
        assert isinstance(event, HeadReceived)
        assert (event.has_content, event.content_length) == (True, None)
    else:
        parts = [part.strip() for part in b",".join(values).split(b",")]
        assert event == (MALFORMED if b"" in parts or b"@" in parts else 501)
    assert over_h3(b"transfer-encoding", values) == MALFORMED


@given(lines_of(b"0", b"3", b"03", b"4", b"+3", b""))
def test_content_length_is_one_number_or_refused(values: list[bytes]) -> None:
    h1, h3 = over_h1(b"Content-Length", values), over_h3(b"content-length", values)
    if len(values) == 1 and values[0].isdigit():
        assert isinstance(h1, HeadReceived)
        assert (h1.content_length or 0) == int(values[0])
        assert not isinstance(h3, int)
    else:
        assert (h1, h3) == (MALFORMED, MALFORMED)


@given(lines_of(b"example.org", b"b.test", b""))
def test_host_comes_once_or_is_refused(values: list[bytes]) -> None:
    h1, h3 = over_h1(b"host", values), over_h3(b"host", values)
    if len(values) == 1 and values[0] and b"," not in values[0]:
        assert isinstance(h1, HeadReceived)
        assert h1.head.authority == values[0]
        # RFC 9114 4.3.1: beside :authority it has to say the same.
        assert isinstance(h3, int) == (values != [b"example.org"])
    elif len(values) > 1:
        assert (h1, h3) == (MALFORMED, MALFORMED)


@given(lines_of(b"100-continue", b"100-Continue", b"other", b"", b'x="100-continue, a"'))
def test_expect_is_100_continue_in_every_element_or_refused(values: list[bytes]) -> None:
    h1 = over_h1(b"Expect", values, b"Content-Length: 1")
    h3 = over_h3(b"expect", values)
    if set(elements(values)) == {b"100-continue"}:
        assert isinstance(h1, HeadReceived)
        assert h1.expect_continue
        assert not isinstance(h3, int)
    else:
        assert (h1, h3) == (417, 417)


@given(
    lines_of(b"close", b"Keep-Alive", b"keep-alive", b"closed", b"x", b""),
    st.sampled_from([b"1.0", b"1.1"]),
)
def test_connection_persists_unless_any_element_says_close(
    values: list[bytes], version: bytes
) -> None:
    event = over_h1(b"Connection", values, version=version)
    assert isinstance(event, HeadReceived)
    options = elements(values)
    asked = version == b"1.1" or b"keep-alive" in options
    assert event.keep_alive == (asked and b"close" not in options)
    assert over_h3(b"connection", values) == MALFORMED


@given(lines_of(b"upgrade", b"close", b"x"), lines_of(b"websocket", b"WebSocket", b"h2c", b""))
def test_upgrade_is_one_protocol_that_connection_names_or_ignored(
    connection: list[bytes], values: list[bytes]
) -> None:
    options = [b"Connection: " + value for value in connection]
    event = over_h1(b"Upgrade", values, *options)
    assert isinstance(event, HeadReceived)
    asked = b"upgrade" in elements(connection)
    alone = len(values) == 1 and values[0] and b"," not in values[0]
    assert event.head.protocol == (values[0].lower() if asked and alone else None)
    assert over_h3(b"upgrade", values) == MALFORMED


@given(lines_of(b"a=1", b"b=2", b"c"))
def test_cookies_are_one_line_with_all_of_them(values: list[bytes]) -> None:
    joined = [(b"cookie", b"; ".join(values))]
    h1, h3 = over_h1(b"Cookie", values), over_h3(b"cookie", values)
    assert isinstance(h1, HeadReceived)
    assert isinstance(h3, RequestHead)
    for head in (h1.head, h3):
        assert [line for line in head.fields if line[0] == b"cookie"] == joined


@given(lines_of(b"1", b"0", b""))
def test_early_data_is_one_line_that_says_1(values: list[bytes]) -> None:
    # RFC 8470 5.1: several lines, and other values, are read as 1.
    h1, h3 = over_h1(b"Early-Data", values), over_h3(b"early-data", values)
    assert isinstance(h1, HeadReceived)
    assert isinstance(h3, RequestHead)
    for head in (h1.head, h3):
        assert [value for name, value in head.fields if name == b"early-data"] == [b"1"]


@given(lines_of(b"trailers", b"Trailers", b"trailers;q=0.5", b"gzip", b'x;a="b, trailers"', b""))
def test_te_is_read_alike_wherever_trailers_are_decided_about(values: list[bytes]) -> None:
    event = over_h1(b"TE", values)
    assert isinstance(event, HeadReceived)
    # In a list without quoted strings; what is in them is no element.
    unquoted = [value.replace(b'x;a="b, trailers"', b"x") for value in values]
    asked = b"trailers" in elements(unquoted)
    writer = ResponseWriter(event.head, True, ResponseFields())
    writer.head(ResponseHead(200, []))
    assert (b"x-sum" in writer.end([(b"x-sum", b"1")])) == asked
    assert takes_trailers(event.head.fields) == asked
    only = set(elements(unquoted)) == {b"trailers"}  # RFC 9114 4.2
    h3 = over_h3(b"te", values)
    assert isinstance(h3, RequestHead) == only
    assert not only or takes_trailers(h3.fields)  # type: ignore[union-attr]


def handshake(head: RequestHead, fields: Fields) -> Handshake | int:
    """A WebSocket that `head` asks for with further `fields`; the status if it is refused."""
    head.fields = fields
    try:
        return Handshake(head, Settings(ws_origins=("https://good.test",)))
    except HandshakeRefused as refused:
        return refused.status


ASKING: dict[str, Callable[[], RequestHead]] = {
    "h1": lambda: _asking(b"GET", "1.1"),
    "h3": lambda: _asking(b"CONNECT", "3"),
}
WEBSOCKET_FIELDS = {
    b"origin": (b"https://good.test", b"https://evil.test"),
    b"sec-websocket-version": (b"13", b"8", b""),
    b"sec-websocket-key": (KEY, b"c2hvcnQ="),
}


def _asking(method: bytes, version: str) -> RequestHead:
    return RequestHead(
        method=method,
        scheme=b"https",
        authority=b"a.test",
        target=b"/",
        fields=[],
        http_version=version,
        protocol=b"websocket",
    )


@pytest.mark.parametrize("version", ASKING)
@pytest.mark.parametrize("name", WEBSOCKET_FIELDS)
@given(st.data())
def test_what_a_websocket_depends_on_comes_once_and_right_or_is_refused(
    name: bytes, version: str, data: Any
) -> None:
    values = data.draw(lines_of(*WEBSOCKET_FIELDS[name]))
    usual = {key: right[0] for key, right in WEBSOCKET_FIELDS.items() if key != name}
    fields = [*usual.items(), *((name, value) for value in values)]
    granted = isinstance(handshake(ASKING[version](), fields), Handshake)
    assert granted == (values == [WEBSOCKET_FIELDS[name][0]])


@pytest.mark.parametrize("version", ASKING)
@given(lines_of(b"a", b"b", b"c"))
def test_subprotocols_are_one_list_of_all_lines(version: str, values: list[bytes]) -> None:
    usual = [(name, right[0]) for name, right in WEBSOCKET_FIELDS.items()]
    fields = [*usual, *((b"sec-websocket-protocol", value) for value in values)]
    result = handshake(ASKING[version](), fields)
    assert isinstance(result, Handshake)
    assert result.subprotocols == [part.decode() for part in elements(values)]
