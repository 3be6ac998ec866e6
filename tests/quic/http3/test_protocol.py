"""HTTP/3 on a real endpoint: what requests and responses become, what a fault takes down."""

import asyncio
import gc
import weakref

import pytest

from tercel.quic.http3.connection import H3Connection
from tercel.quic.http3.errors import ErrorCode
from tercel.shared.bytestream import ByteReceiver
from tercel.shared.errors import LocalProtocolError, ResetReason
from tercel.shared.messages import ResponseHead
from tercel.shared.upgrade import upgrade
from tests.quic.served import echo, hello, serving
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, on_both_loops
from tests.support.h3_client import (
    CONTROL,
    DATA,
    DECODER,
    ENCODER,
    GOAWAY,
    HEADERS,
    SETTINGS,
    H3Client,
    frame,
    headers,
    section,
)
from tests.support.raw_quic import numbers, short_packet
from tests.support.raw_quic import stream as stream_frame

pytestmark = pytest.mark.usefixtures("either_path")

CONTENT = bytes(range(256)) * 40  # more than a few datagrams


# -- exchanges ----------------------------------------------------------------------------------


@on_both_loops
async def test_a_request_is_answered():
    async with serving() as server, H3Client(server.port) as client:
        stream = await client.request("GET", "/a?b=c", (b"x-test", b"1"))
        assert (stream.status, bytes(stream.content), stream.ended) == (200, b"hello", True)
        assert stream.fields[b"content-type"] == b"text/plain"
        assert stream.fields[b"server"] == b"tercel"
        assert stream.fields[b"date"].endswith(b" GMT")
        (exchange,) = server.exchanges
        head = exchange.stream.head
        assert (head.method, head.target, head.http_version) == (b"GET", b"/a?b=c", "3")
        assert head.fields == [(b"host", b"localhost"), (b"x-test", b"1")]
        assert exchange.stream.connection.client == client.local_address
        assert exchange.stream.connection.server == ("127.0.0.1", server.port)
        assert exchange.stream.connection.secure
        # Answered before `open` returned: it was over, and there was nothing left to tell.
        assert exchange.calls == []


@on_both_loops
async def test_content_comes_and_goes_whole():
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = await client.request("POST", "/", content=CONTENT)
        assert bytes(stream.content) == CONTENT
        assert server.exchanges[0].calls == ["content", "complete"]


@asynctest
async def test_many_requests_run_at_the_same_time():
    async with serving(echo) as server, H3Client(server.port) as client:
        streams = [client.begin("POST", content=b"%d" % n, end=False) for n in range(50)]
        await server.until(lambda: len(server.exchanges) == 50)
        for stream in reversed(streams):
            client.send(stream, end=True)
        for number, stream in enumerate(streams):
            await client.until(lambda stream=stream: stream.done)
            assert bytes(stream.content) == b"%d" % number


@asynctest
async def test_a_connection_says_what_it_is():
    async with serving() as server, H3Client(server.port) as client:
        await client.request()
        (connection,) = server.connections
        assert connection.version == 3
        assert isinstance(connection.http, H3Connection)
        assert connection.connection is connection.http
        assert connection.streams == {}
        assert connection.http.peer_settings == {}


@asynctest
async def test_trailers_go_both_ways():
    async def app(exchange):
        await exchange.whole()
        assert exchange.stream.content.trailers == [(b"x-sum", b"42")]
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"abc")
        exchange.stream.send_trailers([(b"x-mus", b"24")])

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", content=b"x", end=False)
        client.send(stream, frame(HEADERS, section([(b"x-sum", b"42")])), end=True)
        await client.until(lambda: stream.done)
        assert stream.order == ["200", "content", "trailers"]
        assert stream.trailers == [(b"x-mus", b"24")]


@asynctest
async def test_a_response_may_have_trailers_without_content_and_empty_ones():
    def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_trailers([(b"x", b"y")] if exchange.path == b"/some" else [])

    async with serving(app) as server, H3Client(server.port) as client:
        some = await client.request("GET", "/some")
        assert (some.order, some.trailers) == (["200", "trailers"], [(b"x", b"y")])
        none = await client.request("GET", "/none")
        assert (none.order, none.trailers, none.ended) == (["200"], None, True)


@asynctest
async def test_early_hints_come_before_the_response():
    async def app(exchange):
        exchange.stream.send_informational(103, [(b"link", b"</a.css>; rel=preload")])
        await exchange.whole()
        exchange.respond(200, b"hello")

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", end=False)
        await client.until(lambda: stream.interim == [103])
        assert dict(stream.heads[0])[b"link"] == b"</a.css>; rel=preload"
        client.send(stream, end=True)
        await client.until(lambda: stream.done)
        assert stream.order == ["103", "200", "content"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@asynctest
async def test_a_response_without_content_has_none_whatever_the_application_sends(method, status):
    def app(exchange):
        fields = [] if status == 204 else [(b"content-length", b"5")]
        exchange.stream.send_head(ResponseHead(status, fields))
        exchange.stream.send_content(b"hello", end_stream=True)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = await client.request(method)
        assert (stream.status, bytes(stream.content), stream.ended) == (status, b"", True)
        assert stream.fields.get(b"content-length") == (None if status == 204 else b"5")


@asynctest
async def test_head_and_content_of_one_turn_leave_in_one_datagram():
    async with serving() as server, H3Client(server.port) as client:
        await client.request()
        await client.settled()
        sent = []
        send = server.endpoint.send
        server.endpoint.send = lambda *args: (sent.append(len(args[0])), send(*args))
        await client.request()
        assert sent[0] == 1


@asynctest
async def test_a_request_that_came_before_is_none_on_a_unidirectional_stream():
    async with serving() as server, H3Client(server.port) as client:
        request = headers()
        for _ in range(3):
            stream = client.send(client.open(), request, end=True)
            await client.until(lambda stream=stream: stream.done)
        client.open_uni(request[0], request[1:], end=True)
        assert await client.close_reason() == ErrorCode.STREAM_CREATION_ERROR
        assert len(server.exchanges) == 3


async def flushing(script):
    """What happened when a request came beside one that waits, in order."""
    order = []

    def app(exchange):
        return exchange.path == b"/wait" or script(exchange)

    async with serving(app) as server, H3Client(server.port) as client:
        waiting = client.begin("GET", "/wait")
        await client.request()
        endpoint = server.endpoint
        take, flush = endpoint._take, endpoint._flush

        def watched_take(datagrams):
            take(datagrams)
            if len(server.exchanges) == 3 and "taken" not in order:
                order.append("taken")
                asyncio.get_running_loop().call_soon(order.append, "next turn")

        def watched_flush(connections):
            order.append("flushed")
            flush(connections)

        endpoint._take, endpoint._flush = watched_take, watched_flush
        await client.request()
        assert not waiting.done
    return order[order.index("taken") :]


@on_both_loops
async def test_an_answer_leaves_at_once_beside_an_exchange_that_waits():
    assert (await flushing(hello))[:2] == ["taken", "flushed"]


@on_both_loops
async def test_an_acknowledgement_waits_a_turn_for_the_answer_of_an_application_s_task():
    def answers_soon(exchange):
        asyncio.get_running_loop().call_soon(hello, exchange)

    assert (await flushing(answers_soon))[:3] == ["taken", "next turn", "flushed"]


@asynctest
async def test_a_head_leaves_without_waiting_for_content():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        await exchange.whole()
        exchange.stream.send_content(b"late", end_stream=True)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", end=False)
        await client.until(lambda: stream.status == 200)
        client.send(stream, end=True)
        await client.until(lambda: stream.done)
        assert bytes(stream.content) == b"late"


# -- 100-continue -------------------------------------------------------------------------------


async def reads_when_asked(exchange):
    if exchange.path == b"/wanted":
        exchange.stream.want_content()
        exchange.stream.want_content()
    await exchange.whole()
    exchange.respond(200, bytes(exchange.body))


EXPECT = (b"expect", b"100-continue")


@asynctest
async def test_100_continue_is_sent_once_when_content_is_wanted():
    async with serving(reads_when_asked) as server, H3Client(server.port) as client:
        stream = client.begin("POST", "/wanted", EXPECT, end=False)
        await client.until(lambda: stream.interim == [100])
        client.send(stream, frame(DATA, b"content"), end=True)
        await client.until(lambda: stream.done)
        assert stream.order == ["100", "200", "content"]


@pytest.mark.parametrize(
    ("path", "fields", "content"),
    [
        ("/unwanted", [EXPECT], b""),
        ("/wanted", [], b""),
        ("/wanted", [EXPECT, (b"content-length", b"0")], b""),
    ],
)
@asynctest
async def test_100_continue_is_not_sent_for_nothing(path, fields, content):
    async with serving(reads_when_asked) as server, H3Client(server.port) as client:
        stream = await client.request("POST", path, *fields, content=content)
        assert stream.heads[0][0] == (b":status", b"200")


@asynctest
async def test_100_continue_is_not_sent_once_content_has_come():
    async def app(exchange):
        while not exchange.body:
            await exchange.change()
        exchange.stream.want_content()
        await exchange.whole()
        exchange.respond(200)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", "/", EXPECT, content=b"x", end=False)
        await server.until(lambda: bool(server.exchanges and server.exchanges[0].body))
        await client.settled()
        client.send(stream, end=True)
        await client.until(lambda: stream.done)
        assert stream.interim == []


# -- messages that are refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")],
        [(b":method", b"CONNECT"), (b":path", b"/"), (b":authority", b"a")],
    ],
    ids=["empty", "no authority", "CONNECT with a path"],
)
@pytest.mark.parametrize("content", [b"", b"some content"])
@asynctest
async def test_a_malformed_message_resets_its_stream_and_no_more(lines, content):
    async with serving() as server, H3Client(server.port) as client:
        stream = client.open()
        data = frame(HEADERS, section(lines))
        client.send(stream, data + (frame(DATA, content) if content else b""))
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.MESSAGE_ERROR
        await client.until(lambda: stream.stop_code == ErrorCode.MESSAGE_ERROR)
        assert (await client.request()).status == 200
        assert len(server.exchanges) == 1


@pytest.mark.parametrize(
    ("length", "parts", "whole"),
    [
        (b"3", [b"ab"], True),
        (b"3", [b"ab", b"cd"], False),
        (b"3", [b"abcd"], True),
        (b"3", [], True),
        (b"0", [b"a"], False),
    ],
)
@asynctest
async def test_content_that_does_not_match_its_length_resets_the_stream(length, parts, whole):
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = client.begin("POST", "/", (b"content-length", length), end=not parts)
        for part in parts:
            client.send(stream, frame(DATA, part), end=whole and part is parts[-1])
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.MESSAGE_ERROR
        assert (await client.request("POST", content=b"abc")).status == 200
        for exchange in server.exchanges[:-1]:
            assert exchange.calls[-1] == "aborted"


@asynctest
async def test_content_that_matches_its_length_is_served():
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = await client.request("POST", "/", (b"content-length", b"3"), content=b"abc")
        assert bytes(stream.content) == b"abc"
        stream = await client.request("POST", "/", (b"content-length", b"0"))
        assert stream.status == 200


@pytest.mark.parametrize(("length", "content"), [(b"3", b"abcd"), (b"3", b"ab")])
@asynctest
async def test_a_response_that_breaks_its_own_length_is_the_applications_fault(length, content):
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, [(b"content-length", length)]))
        try:
            exchange.stream.send_content(content, end_stream=True)
        except LocalProtocolError:
            exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = await client.request()
        assert stream.reset_code == ErrorCode.INTERNAL_ERROR
        assert client.close_code is None


@asynctest
async def test_malformed_trailers_reset_the_stream():
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = client.begin("POST", content=b"abc", end=False)
        client.send(stream, frame(HEADERS, section([(b":path", b"/")])), end=True)
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.MESSAGE_ERROR
        assert server.exchanges[0].calls == ["content", "aborted"]


@asynctest
async def test_a_stream_that_ends_without_a_request_is_reset():
    async with serving() as server, H3Client(server.port) as client:
        stream = client.send(client.open(), frame(0x21, b"grease"), end=True)
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.REQUEST_INCOMPLETE
        assert (await client.request()).status == 200


REFUSED = {
    "TRACE": (headers(b"TRACE"), 405),
    "CONNECT": (
        frame(HEADERS, section([(b":method", b"CONNECT"), (b":authority", b"a:443")])),
        400,
    ),
    "a method in lower case": (headers(b"connect"), 501),
    "the unexpected beside 100-continue": (
        headers(b"POST", b"/", (b"expect", b"100-continue"), (b"expect", b"the-unexpected")),
        417,
    ),
    "an unknown :protocol": (
        frame(
            HEADERS,
            section(
                [
                    (b":method", b"CONNECT"),
                    (b":protocol", b"carrier-pigeon"),
                    (b":scheme", b"https"),
                    (b":authority", b"localhost"),
                    (b":path", b"/"),
                ]
            ),
        ),
        501,
    ),
    "an unknown expectation": (headers(b"POST", b"/", (b"expect", b"the-unexpected")), 417),
    "a target over its size": (headers(b"GET", b"/" + b"a" * 500), 414),
    "a section over its size": (headers(b"GET", b"/", (b"x", b"y" * 2000)), 431),
    "a section over its lines": (headers(b"GET", b"/", *[(b"x", b"y")] * 20), 431),
}


@pytest.mark.parametrize("ended", [True, False], ids=["whole", "open"])
@pytest.mark.parametrize(("request_head", "status"), REFUSED.values(), ids=REFUSED.keys())
@asynctest
async def test_what_is_not_served_is_answered_and_the_connection_lives(request_head, status, ended):
    limits = {"max_fields": 16, "max_field_section_bytes": 2048, "max_target_bytes": 400}
    async with serving(**limits) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), request_head + frame(DATA, b"x" * 500), end=ended)
        await client.until(lambda: stream.done)
        assert (stream.status, stream.ended) == (status, True)
        assert stream.fields[b"content-length"] == b"0"
        if not ended:
            await client.until(lambda: stream.stop_code == ErrorCode.NO_ERROR)
        assert (await client.request()).status == 200
        assert [exchange.path for exchange in server.exchanges] == [b"/"]


@asynctest
async def test_content_over_its_limit_is_answered_while_there_is_no_response():
    async with serving(echo, max_content_bytes=1000) as server, H3Client(server.port) as client:
        stream = await client.request("POST", content=b"x" * 1001)
        assert (stream.status, stream.ended) == (413, True)
        assert server.exchanges[0].calls[-1] == "aborted"
        stream = await client.request("POST", content=b"x" * 1000)
        assert len(stream.content) == 1000


@asynctest
async def test_content_over_its_limit_resets_a_response_that_has_begun():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        await exchange.whole()

    async with serving(app, max_content_bytes=1000) as server, H3Client(server.port) as client:
        stream = client.begin("POST", end=False)
        await client.until(lambda: stream.status == 200)
        client.send(stream, frame(DATA, b"x" * 1001))
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.EXCESSIVE_LOAD
        assert server.exchanges[0].calls == ["aborted"]


@asynctest
async def test_refused_content_does_not_use_up_the_connection():
    """Four windows of refused content: were its credit lost, the connection would stall."""
    async with (
        serving(
            max_content_bytes=1, stream_window_bytes=16_384, connection_window_bytes=16_384
        ) as server,
        H3Client(server.port) as client,
    ):
        for _ in range(16):
            stream = await client.request("POST", content=b"x" * 5000)
            assert stream.status in (200, 413)
        assert (await client.request()).status == 200


# -- faults of the connection -------------------------------------------------------------------

GREASE_SETTING = frame(SETTINGS, b"\x21\x05")
CONNECTION_FAULTS = {
    "DATA before HEADERS": ("request", frame(DATA, b"x"), ErrorCode.FRAME_UNEXPECTED),
    "DATA after trailers": (
        "request",
        headers() + frame(HEADERS, section([])) + frame(DATA),
        ErrorCode.FRAME_UNEXPECTED,
    ),
    "SETTINGS on a request": ("request", frame(SETTINGS), ErrorCode.FRAME_UNEXPECTED),
    "GOAWAY on a request": ("request", frame(GOAWAY, b"\0"), ErrorCode.FRAME_UNEXPECTED),
    "an HTTP/2 frame": ("request", frame(0x06), ErrorCode.FRAME_UNEXPECTED),
    "a frame cut off": ("request end", headers()[:-1], ErrorCode.FRAME_ERROR),
    "an undecodable section": (
        "request",
        frame(HEADERS, b"\0\0\xff\xff\xff\xff"),
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
    ),
    "no SETTINGS": ("control", frame(0x21), ErrorCode.MISSING_SETTINGS),
    "SETTINGS twice": ("control", GREASE_SETTING * 2, ErrorCode.FRAME_UNEXPECTED),
    "an HTTP/2 setting": ("control", frame(SETTINGS, b"\x02\x01"), ErrorCode.SETTINGS_ERROR),
    "HEADERS on control": ("control", GREASE_SETTING + headers(), ErrorCode.FRAME_UNEXPECTED),
    "control ends": ("control end", GREASE_SETTING, ErrorCode.CLOSED_CRITICAL_STREAM),
    "bad encoder instruction": ("encoder", b"\x80\x00", ErrorCode.QPACK_ENCODER_STREAM_ERROR),
    "bad decoder instruction": ("decoder", b"\x00", ErrorCode.QPACK_DECODER_STREAM_ERROR),
    "a push stream": ("push", b"", ErrorCode.STREAM_CREATION_ERROR),
}


@pytest.mark.parametrize(
    ("where", "data", "code"), CONNECTION_FAULTS.values(), ids=CONNECTION_FAULTS.keys()
)
@asynctest
async def test_a_fault_of_the_connection_closes_it_with_its_code(where, data, code):
    types = {"control": CONTROL, "encoder": ENCODER, "decoder": DECODER, "push": 0x01}
    async with serving() as server, H3Client(server.port, setup=False) as client:
        kind, _, end = where.partition(" ")
        if kind == "request":
            client.send(client.open(), data, end=bool(end))
        else:
            client.open_uni(types[kind], data, end=bool(end))
        assert await client.close_reason() == code


@asynctest
async def test_a_critical_stream_cannot_be_reset_or_stopped():
    async with serving() as server:
        async with H3Client(server.port) as client:
            client.reset(client.control)
            assert await client.close_reason() == ErrorCode.CLOSED_CRITICAL_STREAM
        async with H3Client(server.port) as client:
            await client.until(lambda: client.streams.get(3) is not None)
            client.stop(client.streams[3])
            assert await client.close_reason() == ErrorCode.CLOSED_CRITICAL_STREAM


@asynctest
async def test_nothing_is_served_after_a_fault_of_the_connection():
    async with serving() as server, H3Client(server.port) as client:
        waiting = client.begin("POST", end=False)
        await client.until(lambda: waiting.done)
        before = len(server.exchanges)
        client.send(client.open(), frame(DATA, b"x"), flush=False)
        client.send(client.open(), headers(), end=True, flush=False)
        client.flush()
        assert await client.close_reason() == ErrorCode.FRAME_UNEXPECTED
        await server.until(lambda: server.connections == [])
        assert len(server.exchanges) == before


@asynctest
async def test_a_fault_of_the_connection_aborts_its_exchanges_at_once():
    async with serving(echo) as server, H3Client(server.port) as client:
        client.begin("POST", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        (connection,) = server.connections
        client.send(client.open(), frame(DATA, b"x"))
        await server.until(lambda: server.exchanges[0].calls == ["aborted"])
        assert server.connections == [connection], "the closing period is not over yet"


@asynctest
async def test_a_close_by_the_client_aborts_its_exchanges_at_once():
    async with serving(echo) as server:
        async with H3Client(server.port) as client:
            client.begin("POST", end=False)
            await server.until(lambda: len(server.exchanges) == 1)
        await server.until(lambda: server.exchanges[0].calls == ["aborted"])
        assert server.connections == []  # in its draining period a connection has nothing to do


@asynctest
async def test_a_client_that_vanishes_is_given_up_when_it_has_been_idle_for_too_long():
    async with serving(echo, idle_timeout=3) as server, H3Client(server.port) as client:
        client.begin("POST", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        client.vanish()
        await server.until(lambda: server.connections == [])
        assert server.exchanges[0].calls == ["aborted"]


# -- resets -------------------------------------------------------------------------------------


@asynctest
async def test_a_request_that_the_client_resets_is_aborted():
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = client.begin("POST", content=b"abc", end=False)
        await server.until(lambda: bool(server.exchanges and server.exchanges[0].body))
        client.reset(stream)
        await server.until(lambda: server.exchanges[0].calls[-1] == "aborted")
        await client.until(lambda: stream.reset_code == ErrorCode.REQUEST_CANCELLED)
        assert (await client.request()).status == 200


@asynctest
async def test_a_response_that_the_client_stops_is_aborted():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        await exchange.whole()
        while exchange.error is None:
            exchange.stream.send_content(b"x" * 10_000)
            await exchange.stream.drain()
            await exchange.change()

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin()
        await client.until(lambda: bool(stream.content))
        client.stop(stream)
        await server.until(lambda: server.exchanges[0].calls == ["complete", "response aborted"])
        await server.until(lambda: server.connections[0].streams == {})


@pytest.mark.parametrize("end", [True, False])
@asynctest
async def test_a_response_that_is_stopped_before_its_request_comes_is_never_begun(end):
    async with serving() as server, H3Client(server.port) as client:
        stream = client.send(client.open(), headers(), end=end, flush=False)
        client.stop(stream)  # in a packet, STOP_SENDING stands before STREAM
        await client.until(lambda: stream.reset_code is not None)
        assert (await client.request()).status == 200
        await client.settled()
        assert server.connections[0].streams == {}
        assert len(server.exchanges) == 1


@pytest.mark.parametrize(
    "data",
    [frame(HEADERS, section([])), headers(b"GET", b"/", (b"x", b"y" * 5000))],
    ids=["malformed", "too large"],
)
@asynctest
async def test_a_response_that_is_stopped_is_not_sent_for_a_bad_request_either(data):
    async with serving(max_field_section_bytes=4096) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), data, flush=False)
        client.stop(stream, 0x10F)
        await client.until(lambda: stream.reset_code is not None)
        assert stream.reset_code == 0x10F  # RFC 9000 3.5: the code of STOP_SENDING comes back
        assert (await client.request()).status == 200


@asynctest
async def test_what_is_written_after_a_stop_in_the_same_batch_is_dropped():
    def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.on_content = lambda: exchange.stream.send_content(b"too late", end_stream=True)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", end=False)
        await client.until(lambda: stream.status == 200)
        content = stream_frame(stream.id, client.sent(stream), frame(DATA, b"content"))
        stop = b"\x05" + numbers(stream.id, ErrorCode.REQUEST_CANCELLED)
        client._socket.sendto(short_packet(client.quic, content + stop), client._address)
        await client.until(lambda: stream.done)
        assert (stream.reset_code, bytes(stream.content)) == (ErrorCode.REQUEST_CANCELLED, b"")
        assert server.exchanges[0].calls == ["content", "aborted"]


@asynctest
async def test_an_application_can_reset_its_exchange():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(app) as server, H3Client(server.port) as client:
        stream = client.begin("POST", end=False)
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.INTERNAL_ERROR
        await client.until(lambda: stream.stop_code == ErrorCode.INTERNAL_ERROR)
        assert (stream.heads, server.connections[0].streams) == ([], {})


@asynctest
async def test_an_application_that_fails_to_open_resets_its_stream(caplog):
    def app(exchange):
        raise RuntimeError("broken adapter")

    async with serving(app) as server, H3Client(server.port) as client:
        stream = await client.request()
        assert stream.reset_code == ErrorCode.INTERNAL_ERROR
        assert client.close_code is None
    assert "the application adapter failed" in caplog.text


@asynctest
async def test_requests_that_were_reset_before_they_began_make_room_for_others():
    async with serving(max_concurrent_streams=4) as server, H3Client(server.port) as client:
        for _ in range(12):
            stream = client.send(client.open(), headers()[:-1])
            await client.settled()
            client.reset(stream)
            await client.until(lambda stream=stream: stream.reset_code is not None)
        assert (await client.request()).status == 200
        # What the client acknowledges with a delay is delivered as well, later.
        await server.until(lambda: server.connections[0].idle)


@pytest.mark.parametrize("reading", [True, False], ids=["read", "unread"])
@asynctest
async def test_reset_requests_give_back_exactly_the_credit_they_took(reading):
    """`serving` compares credit and use at the end; this makes many chances to get it wrong."""

    async def app(exchange):
        await exchange.whole()

    async with (
        serving(
            app, reading=reading, stream_window_bytes=16_384, connection_window_bytes=32_768
        ) as server,
        H3Client(server.port) as client,
    ):
        for _ in range(12):
            stream = client.begin("POST", content=b"x" * 9000, end=False)
            await client.settled()
            client.reset(stream)
            await client.until(lambda stream=stream: stream.reset_code is not None)
        await client.settled()
        assert len(server.exchanges) == 12
        assert server.connections[0].streams == {}


# -- early responses ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000, 100_000])
@asynctest
async def test_a_complete_response_stops_the_rest_of_the_request(size):
    async with serving() as server, H3Client(server.port) as client:
        stream = client.begin("POST", content=b"x" * size, end=False)
        await client.until(lambda: stream.ended)
        await client.until(lambda: stream.stop_code == ErrorCode.NO_ERROR)
        assert bytes(stream.content) == b"hello"
        await client.settled()
        assert server.connections[0].streams == {}


@asynctest
async def test_content_that_was_never_read_gives_its_credit_back_with_the_response():
    async def app(exchange):
        await exchange.whole()
        assert exchange.stream.content.size == 10_000
        exchange.respond(200)

    async with (
        serving(
            app, reading=False, stream_window_bytes=16_384, connection_window_bytes=16_384
        ) as server,
        H3Client(server.port) as client,
    ):
        for _ in range(5):
            assert (await client.request("POST", content=b"x" * 10_000)).status == 200
        await client.settled()


@asynctest
async def test_all_that_comes_after_a_complete_response_is_dropped():
    async with serving() as server, H3Client(server.port) as client:
        data = headers(b"POST") + frame(DATA, b"content") + frame(HEADERS, section([(b"x", b"y")]))
        stream = client.send(client.open(), data, end=True)
        await client.until(lambda: stream.done)
        assert bytes(stream.content) == b"hello"


@asynctest
async def test_content_that_nobody_reads_is_dropped_with_its_credit():
    async with (
        serving(stream_window_bytes=16_384, connection_window_bytes=16_384) as server,
        H3Client(server.port) as client,
    ):
        for _ in range(5):
            stream = await client.request("POST", content=b"x" * 40_000)
            assert stream.status == 200
        await client.settled()


# -- backpressure -------------------------------------------------------------------------------


@on_both_loops
async def test_unread_content_does_not_block_other_requests():
    """Two uploads, each beyond a stream's window, that the application does not read for now."""

    async def app(exchange):
        while exchange.path == b"/unread" and not go_on:
            await exchange.change()
        exchange.reading = True
        exchange.read()
        await exchange.whole()
        exchange.respond(200, b"%d" % len(exchange.body))

    go_on = []
    async with (
        serving(
            app, reading=False, stream_window_bytes=16_384, connection_window_bytes=65_536
        ) as server,
        H3Client(server.port) as client,
    ):
        unread = [client.begin("POST", "/unread", content=b"x" * 80_000) for _ in range(2)]
        for _ in range(5):
            stream = await client.request("POST", "/read", content=b"y" * 30_000)
            assert bytes(stream.content) == b"30000"
        held = [e.stream.content.size for e in server.exchanges if e.path == b"/unread"]
        assert all(0 < size <= 16_384 for size in held)
        assert [stream.status for stream in unread] == [None, None]
        go_on.append(True)
        server.endpoint.changed.set()
        for stream in unread:
            await client.until(lambda stream=stream: stream.done)
            assert bytes(stream.content) == b"80000"


@on_both_loops
async def test_a_slow_reader_holds_its_sender_and_nobody_else():
    sent = []
    chunk = 10_000

    async def app(exchange):
        if exchange.path != b"/endless":
            exchange.respond(200, b"quick")
            return
        exchange.stream.send_head(ResponseHead(200, []))
        for _ in range(100):
            exchange.stream.send_content(b"x" * chunk)
            sent.append(connection_of(exchange).backlog(exchange.stream.stream_id))
            await exchange.stream.drain()
        exchange.stream.send_content(b"", end_stream=True)

    def connection_of(exchange):
        return exchange.stream._protocol.quic

    async with (
        serving(app, max_unsent_bytes=32_768) as server,
        H3Client(server.port, max_stream_data=65_536) as client,
    ):
        client.quic.withhold_credit = True
        slow = client.begin("GET", "/endless")
        await client.until(lambda: slow.received == 65_536)
        for _ in range(5):
            assert bytes((await client.request()).content) == b"quick"
        assert len(sent) < 100
        assert max(sent) <= 32_768 + chunk + 10  # and the header of a frame
        client.quic.withhold_credit = False
        client.flush()
        await client.until(lambda: slow.done)
        assert len(slow.content) == 100 * chunk


@asynctest
async def test_a_client_that_takes_nothing_for_too_long_is_given_up():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"x" * 100_000)
        await exchange.stream.drain()

    async with (
        serving(app, max_unsent_bytes=1024, send_timeout=0.2) as server,
        H3Client(server.port, max_stream_data=16_384) as client,
    ):
        client.quic.withhold_credit = True
        stream = client.begin()
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.REQUEST_CANCELLED
        assert "took nothing" in str(server.exchanges[0].error)


@asynctest
async def test_a_client_that_takes_nothing_of_a_response_that_was_written_whole_is_given_up():
    async with (
        serving(lambda exchange: exchange.respond(200, b"x" * 100_000), send_timeout=0.2) as server,
        H3Client(server.port, max_stream_data=16_384) as client,
    ):
        client.quic.withhold_credit = True
        stream = client.begin()
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.REQUEST_CANCELLED
        assert server.exchanges[0].error is None  # it had ended before


@asynctest
async def test_a_connection_that_is_given_up_twice_for_its_buffers_is_closed_once():
    async def app(exchange):
        await exchange.whole()

    async with serving(app) as server, H3Client(server.port) as client:
        client.begin("POST", content=b"some", end=False)
        await server.until(lambda: bool(server.exchanges))
        (connection,) = server.connections
        connection.give_up_buffers()
        connection.give_up_buffers()
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        await server.until(lambda: not server.connections)
        assert server.exchanges[0].calls.count("aborted") == 1


# -- extended CONNECT ---------------------------------------------------------------------------


class Receiver(ByteReceiver):
    """What arrives on a byte stream."""

    def __init__(self):
        self.data = b""
        self.ends = []

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.ends.append("eof")

    def connection_lost(self, error):
        self.ends.append(error)

    def going_away(self): ...


@asynctest
async def test_a_byte_stream_that_is_closed_ends_after_what_was_written():
    receiver = Receiver()

    async def app(exchange):
        streams.append(upgrade(exchange.stream, [], receiver))

    streams = []
    connect = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", b"/"),
    ]
    async with serving(app, reading=False) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), frame(HEADERS, section(connect)) + frame(DATA, b"hi"))
        await server.until(lambda: receiver.data == b"hi")
        streams[0].write(b"good")
        streams[0].write(b"bye")
        streams[0].close()
        streams[0].write(b" for ever")
        await client.until(lambda: stream.done)
        assert (stream.status, bytes(stream.content)) == (200, b"goodbye")
        assert stream.reset_code is None
        assert receiver.ends == [None]


# -- the network --------------------------------------------------------------------------------


@on_both_loops
async def test_a_client_whose_address_changes_goes_on():
    async with serving(echo) as server, H3Client(server.port) as client:
        stream = client.begin("POST", content=CONTENT, end=False)
        await server.until(lambda: bool(server.exchanges and server.exchanges[0].body))
        before = client.local_address
        client.migrate()
        assert client.local_address != before
        client.send(stream, frame(DATA, CONTENT), end=True)
        await client.until(lambda: stream.done)
        assert bytes(stream.content) == CONTENT * 2
        (connection,) = server.connections
        assert connection.quic.get_peer_address().peer == client.local_address
        assert (await client.request()).status == 200


# -- shutdown -----------------------------------------------------------------------------------


@on_both_loops
async def test_goaway_lets_what_runs_finish_and_rejects_what_is_new():
    async with serving(echo) as server, H3Client(server.port) as client:
        running = client.begin("POST", content=b"running", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        server.endpoint.stop_accepting()
        server.endpoint.stop_accepting()
        await client.until(lambda: client.goaway is not None)
        assert client.goaway == running.id + 4
        late = client.begin("POST", content=b"x" * 5000, end=False)
        await client.until(lambda: late.done)
        assert late.reset_code == ErrorCode.REQUEST_REJECTED
        await client.until(lambda: late.stop_code == ErrorCode.REQUEST_REJECTED)
        assert client.close_code is None
        client.send(running, end=True)
        await client.until(lambda: running.done)
        assert bytes(running.content) == b"running"
        assert await server.endpoint.drain(PATIENCE_SECONDS)
        server.endpoint.close()
        assert await client.close_reason() == ErrorCode.NO_ERROR
        assert len(server.exchanges) == 1


@asynctest
async def test_draining_waits_until_the_client_has_all_of_the_response():
    async with (
        serving(echo) as server,
        H3Client(server.port, max_stream_data=10_000) as client,
    ):
        client.quic.withhold_credit = True
        stream = client.begin("POST", content=b"x" * 50_000)
        await client.until(lambda: stream.received == 10_000)
        assert server.connections[0].streams == {}
        server.endpoint.stop_accepting()
        assert not await server.endpoint.drain(0.01)
        client.quic.withhold_credit = False
        client.quic._streams[stream.id].max_stream_data_local = 100_000
        client.flush()
        assert await server.endpoint.drain(PATIENCE_SECONDS)
        await client.until(lambda: stream.done)
        assert len(stream.content) == 50_000


@asynctest
async def test_draining_does_not_wait_for_a_client_that_went_without_acknowledging():
    async with serving(echo) as server, H3Client(server.port) as client:
        await client.request()
        client.begin("POST", content=b"last")
        client.vanish()
        await server.until(lambda: len(server.exchanges) == 2)
        server.endpoint.stop_accepting()
        assert await server.endpoint.drain(PATIENCE_SECONDS)


@asynctest
async def test_a_connection_that_completes_its_handshake_during_shutdown_gets_goaway():
    async with serving() as server:
        # So many protocols that the ClientHello takes two datagrams.
        client = H3Client(server.port, alpn_protocols=["h3", *("x" * 200 + c for c in "abcdefgh")])
        try:
            send_rest = client.start_in_parts()
            await server.until(lambda: len(server.connections) == 1)
            assert server.connections[0].http is None
            server.endpoint.stop_accepting()
            send_rest()
            await client.until(lambda: client.goaway == 0)
        finally:
            client.close()


@asynctest
async def test_a_connection_that_fails_does_not_disturb_the_shutdown():
    async with serving() as server, H3Client(server.port) as client:
        await client.until(lambda: client.streams.get(3) is not None)
        (connection,) = server.connections
        client.stop(client.streams[3])
        await server.until(lambda: connection.quic.close_event is not None)
        assert server.connections == [connection], "the closing period is not over yet"
        server.endpoint.stop_accepting()
        assert await client.close_reason() == ErrorCode.CLOSED_CRITICAL_STREAM


@asynctest
async def test_what_still_runs_is_aborted_when_the_endpoint_closes():
    async with serving(echo) as server, H3Client(server.port) as client:
        client.begin("POST", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        server.endpoint.close()
        await server.endpoint.wait_closed()
        assert server.exchanges[0].calls == ["aborted"]
        assert await client.close_reason() == ErrorCode.NO_ERROR


# -- defects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["receive_datagram", "process_events", "transmit"])
@asynctest
async def test_a_defect_met_by_one_connection_is_not_felt_by_others(method, caplog):
    def broken(*_):
        raise RuntimeError("a defect")

    async with (
        serving() as server,
        H3Client(server.port) as client,
        H3Client(server.port, share=client) as other,
    ):
        await client.request()
        (victim, _) = server.connections
        setattr(victim, method, broken)
        client.begin()
        assert (await other.request()).status == 200
        assert "internal error" in caplog.text
        if method == "transmit":
            await server.until(lambda: victim not in server.connections)
        else:
            assert await client.close_reason() == ErrorCode.INTERNAL_ERROR


@on_both_loops
async def test_a_connection_that_ended_does_not_wait_for_the_garbage_collector():
    async with serving(echo) as server:
        try:
            async with H3Client(server.port) as client:
                await client.request("POST", content=CONTENT)
                (connection,) = server.connections
                assert connection.info.protocol is connection
                held = [weakref.ref(item) for item in (connection, connection.quic)]
                del connection
                server.exchanges.clear()
                gc.collect()
                gc.disable()
            await server.until(lambda: not server.connections)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while any(known() for known in held):  # what ended it is still under way
                    await asyncio.sleep(0)
        finally:
            gc.enable()
