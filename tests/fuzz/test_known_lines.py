"""A connection that has seen field lines before decides as a new one, whatever it has seen."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tercel.h1.events import HeadReceived, MessageFailed
from tercel.h1.parser import RequestParser
from tercel.shared.settings import Settings
from tests.h1.test_parser import vars_of

SETTINGS = Settings(max_field_section_bytes=9000, max_fields=40)

VALID_LINES = [
    *(b"Host: a.test", b"host:a.test", b"Host: b.test:81", b"X: y", b"X:\ty ", b"X:", b"x: y"),
    *(b"Content-Length: 0", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: keep-alive, Upgrade"),
    *(b"Upgrade: websocket", b"Upgrade: h2c", b"Expect: 100-continue", b"Early-Data: 1"),
    *(b"Cookie: a=1", b"Cookie: b=2", b"TE: trailers", b"Proxy-Connection: close"),
    *(b"Long: " + b"l" * 700, b"Longer: " + b"l" * 2000, b"Connection: close," + b"l" * 2500),
]
ODD_LINES = [
    *(b"A : b", b" folded", b"\tfolded", b"A: b\rc", b"A: b\nC: d", b"A: b\0", b": b", b"A", b""),
    *(b"Host:", b"Host: a b", b"Content-Length: 3, 3", b"Content-Length: +3", b"Expect: other"),
    *(b"Transfer-Encoding: gzip", b"Transfer-Encoding: gzip, chunked", b"A\x01: b", b"A: b\r"),
    *(b"Content-Length: 99999999999999999999", b"\xe4: b", b"A: \xe4", b"Upgrade: a, b"),
]
HOST = st.just(b"Host: a.test")
NUMBERED = st.integers(0, 60).map(lambda number: b"N%d: %d" % (number % 3, number))
LINES = st.lists(
    st.one_of(HOST, st.sampled_from(VALID_LINES), NUMBERED, st.sampled_from(ODD_LINES)),
    max_size=6,
)
GOOD_LINES = st.lists(st.one_of(st.sampled_from(VALID_LINES), NUMBERED), max_size=12)
REQUEST_LINES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"GET /a?b HTTP/1.1", b"POST / HTTP/1.1"),
        *(b"GET / HTTP/1.0", b"GET /1.2 HTTP/1.2", b"OPTIONS * HTTP/1.1", b"HEAD / HTTP/1.1"),
        *(b"GET http://c.test/d HTTP/1.1", b"CONNECT a.test:1 HTTP/1.1", b"get / HTTP/1.1"),
        *(b"CONNECT / HTTP/1.1", b"TRACE / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/2.0"),
    ]
)
HEADS = st.tuples(REQUEST_LINES, st.one_of(GOOD_LINES, LINES)).map(
    lambda parts: b"\r\n".join([parts[0], b"Host: a.test", *parts[1], b"", b""])
)
MANY = b"GET / HTTP/1.1\r\nHost: a.test\r\n%b\r\n"


def by_a_new_connection(data: bytes) -> list[Any]:
    parser = RequestParser(SETTINGS, scheme=b"http")
    return [vars_of(event) for event in parser.feed(data)]


# Few different heads, and each several times.
SEQUENCES = st.lists(HEADS, min_size=1, max_size=4).flatmap(
    lambda heads: st.lists(st.sampled_from(heads), min_size=2, max_size=12)
)


@given(SEQUENCES)
@example([MANY % b"".join(b"F%d: %d\r\n" % (n, n) for n in range(at, at + 30)) for at in (0, 9, 0)])
@example([MANY % b"", MANY % b"Host: a.test\r\n"])
@example([MANY % b"Cookie: a\r\n", MANY % b"Cookie: a\r\nCookie: a\r\n"])
def test_known_lines_decide_as_new_ones(heads: list[bytes]) -> None:
    parser = RequestParser(SETTINGS, scheme=b"http")
    for data in heads:
        expected = by_a_new_connection(data)
        events = parser.feed(data)
        assert [vars_of(event) for event in events] == expected
        head = events[0]
        if isinstance(head, MessageFailed):
            # No connection survives it; what was parsed before must not have changed.
            parser = RequestParser(SETTINGS, scheme=b"http")
            continue
        assert isinstance(head, HeadReceived)
        if head.has_content and parser.started:
            content = b"0\r\n\r\n" if head.content_length is None else b"abc"
            parser.feed(content)
        if parser.resume():
            parser = RequestParser(SETTINGS, scheme=b"http")
