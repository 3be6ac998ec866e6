"""The HTTP/1.1 parser: no exception, no dependence on splits, no framing but everybody's."""

import h11
import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from tercel.h1.events import ContentReceived, HeadReceived, MessageComplete, MessageFailed
from tercel.h1.parser import RequestParser
from tests.h1.test_parser import MALFORMED, OTHER_FAULTS, SETTINGS, VALID

CORPUS = [*VALID.values(), *MALFORMED.values(), *(data for data, _ in OTHER_FAULTS.values())]

TOKENS = [
    *(b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b" ", b"  ", b"\t", b"/", b"*", b"/a?b#c"),
    *(
        b"http://h.test/x",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
    ),
    *(b"Host: a.test", b"Host", b":", b": ", b"Content-Length: ", b"3", b"+3", b"0x3", b"3, 3"),
    *(b"Transfer-Encoding: ", b"chunked", b"gzip, chunked", b"identity", b"\x0b", b"\0", b"\x7f"),
    *(b"Connection: ", b"close", b"keep-alive", b"Upgrade", b"Upgrade: h2c", b"Expect: ", b"TE: "),
    *(b"100-continue", b"0\r\n\r\n", b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"abc", b"A: b"),
    *(b"ffffffffffffffff", b"8000000000000000\r\n", b"Trailer: x", b"x" * 300, b"\x80\xff"),
]
FIELDS = st.lists(
    st.sampled_from(
        [
            *(b"Host: a.test", b"Content-Length: 3", b"Content-Length: 0", b"Connection: close"),
            *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue"),
            *(b"X: y", b"X:", b"X:\ty ", b"Connection: keep-alive", b"Upgrade: websocket"),
            *(b"Connection: upgrade", b"Cookie: a=b", b"Content-Length: 10", b" folded"),
        ]
    ),
    max_size=5,
)
BODIES = st.sampled_from(
    [
        *(b"", b"abc", b"abcdefghij", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n"),
        *(b"3;x\r\nabc\r\n00\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n"),
    ]
)


@st.composite
def messages(draw):
    """A request that is nearly right."""
    line = b" ".join(
        (
            draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"get", b"OPTIONS"])),
            draw(st.sampled_from([b"/", b"/a%20b?c", b"*", b"http://b.test/c", b"a", b"//x"])),
            draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2"])),
        )
    )
    head = b"\r\n".join([line, b"Host: a.test", *draw(FIELDS), b"", b""])
    return head + draw(BODIES)


@st.composite
def mutations(draw):
    """A message of the corpus, with something deleted, doubled or put in."""
    data = draw(st.sampled_from(CORPUS))[:600]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 8)))
        data = data[:at] + draw(st.sampled_from([*TOKENS, data[at:to] * 2, b""])) + data[to:]
    return data


INPUT = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(TOKENS), max_size=24).map(b"".join),
    st.lists(messages(), min_size=1, max_size=3).map(b"".join),
    mutations(),
)


def run(*pieces):
    """The messages in `pieces` that were taken for whole, and whether a fault followed."""
    parser = RequestParser(SETTINGS, scheme=b"http")
    whole, failed = [], False
    head, content = None, b""
    for piece in pieces:
        events = parser.feed(piece)
        while True:
            for event in events:
                assert not failed, "nothing comes after a fault"
                if isinstance(event, HeadReceived):
                    head, content = event, b""
                elif isinstance(event, ContentReceived):
                    assert event.data
                    content += event.data
                elif isinstance(event, MessageFailed):
                    failed = True
                if isinstance(event, MessageComplete) or (
                    head is not None and not head.has_content
                ):
                    whole.append((head, content))
                    head = None
            before = len(whole)
            if head is None and whole and not whole[-1][0].keep_alive:
                return whole, failed  # nothing after it is a request
            events = parser.resume()
            if not events and len(whole) == before:
                break
    return whole, failed


def told(messages):
    return [
        (head.head.method, head.head.target, tuple(head.head.fields), content)
        for head, content in messages
    ]


@given(INPUT, st.lists(st.integers(0, 400), max_size=6))
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n", [40, 41])
def test_messages_and_faults_do_not_depend_on_splits(data, cuts):
    cuts = sorted({cut for cut in cuts if cut < len(data)})
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole, failed = run(data)
    assert (told(run(*pieces)[0]), run(*pieces)[1]) == (told(whole), failed)


class Llhttp:
    """What llhttp makes of the same bytes."""

    def __init__(self, data):
        self.messages = []
        self._url, self._body, self._fields = b"", b"", []
        parser = httptools.HttpRequestParser(self)
        self._parser = parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It stops at every head that asks for an upgrade, with or without content, granted
            # or not: what it would make of the content is not known.
            self.messages[-1:] = []
        except httptools.HttpParserError:
            pass

    def on_message_begin(self):
        self._url, self._body = b"", b""

    def on_url(self, url):
        self._url += url

    def on_body(self, body):
        self._body += body

    def on_message_complete(self):
        self.messages.append((self._parser.get_method(), self._url, self._body))


def by_h11(data):
    """The messages that h11 finds in `data`, until it refuses it or waits for more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append([event.method, b""])
            elif isinstance(event, h11.Data):
                found[-1][1] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found[-1] = tuple(found[-1])
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                break
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        pass
    return [message for message in found if isinstance(message, tuple)]


@given(INPUT)
@example(
    b"GET / HTTP/1.1\r\nHost:a\r\nContent-Length:3\r\nUpgrade:w\r\nConnection:upgrade\r\n\r\nabc"
)
def test_what_is_accepted_others_frame_the_same_way(data):
    """Request smuggling needs two that disagree (RFC 9112 11.2)."""
    whole, _ = run(data)
    if any(head.head.protocol is not None for head, _ in whole):
        return  # what follows is another protocol's
    ours = [(head.head.method, content) for head, content in whole]
    for others in (
        [(method, body) for method, _, body in Llhttp(data).messages],
        by_h11(data),
    ):
        common = min(len(ours), len(others))
        assert ours[:common] == others[:common]


@given(INPUT)
def test_what_is_accepted_means_the_same_when_a_proxy_passes_it_on(data):
    whole, _ = run(data)
    for received, content in whole:
        head = received.head
        fields = [
            line
            for line in head.fields
            if line[0] not in (b"content-length", b"transfer-encoding", b"host", b"expect")
        ]
        lines = [b" ".join((head.method, head.target, b"HTTP/1.1")), b"host: " + head.authority]
        if not head.authority:
            continue  # HTTP/1.0 may do without
        lines += [name + b": " + value for name, value in fields]
        if received.has_content:
            lines.append(b"content-length: %d" % len(content))
        again, failed = run(b"\r\n".join([*lines, b"", b""]) + content)
        assert not failed
        ((copy, copied),) = again
        assert (copy.head.method, copy.head.target) == (head.method, head.target)
        assert copy.head.authority == head.authority
        assert copied == content
        assert [line for line in copy.head.fields if line in fields] == fields
