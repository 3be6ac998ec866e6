"""RFC 9114, 9204, 9218, 9220: what bad HTTP/3 gets from a running endpoint, row by row."""

import asyncio
import time
import tracemalloc

import pytest
from aioquic.buffer import encode_uint_var

from tercel.quic.http3.connection import H3Connection
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.http3.request_parser import MessageFailed
from tercel.quic.transport.abuse_limits import LIMITS, Flood
from tercel.shared.messages import ResponseHead
from tercel.shared.settings import Settings
from tests.quic.http3.test_connection import ENCODER_STREAM, FakeQuic, insert, varint7
from tests.quic.served import echo, serving
from tests.support.asynchronous import asynctest, turns
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

CANCEL_PUSH, PUSH_PROMISE, MAX_PUSH_ID = 0x03, 0x05, 0x0D
PRIORITY_UPDATE, PRIORITY_UPDATE_OF_PUSH = 0xF0700, 0xF0701
HTTP2_FRAMES = (0x02, 0x06, 0x08, 0x09)
GREASE = 0x21 + 0x1F * 7
PSEUDO = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/"),
]


def without(name):
    return [line for line in PSEUDO if line[0] != name]


def request_of(lines):
    return frame(HEADERS, section(lines))


async def closed_by(data, *, where="request", end=False):
    """The code of the connection's close when a new client sends `data`."""
    types = {"control": CONTROL, "encoder": ENCODER, "decoder": DECODER}
    async with serving() as server, H3Client(server.port, setup=False) as client:
        if where == "request":
            client.send(client.open(), data, end=end)
        else:
            client.open_uni(types[where], data, end=end)
        code = await client.close_reason()
        assert server.exchanges == [] or where == "request"
        return code


# -- frames and streams -------------------------------------------------------------------------

UNEXPECTED_ON_A_REQUEST = {
    "DATA before HEADERS": frame(DATA, b"x"),
    "DATA after trailers": headers() + request_of([(b"a", b"b")]) + frame(DATA, b"x"),
    "HEADERS after trailers": headers() + 2 * request_of([(b"a", b"b")]),
    "SETTINGS": frame(SETTINGS),
    "GOAWAY": frame(GOAWAY, b"\0"),
    "MAX_PUSH_ID": frame(MAX_PUSH_ID, b"\0"),
    "CANCEL_PUSH": frame(CANCEL_PUSH, b"\0"),
    "PRIORITY_UPDATE": frame(PRIORITY_UPDATE, b"\0u=1"),
    "PRIORITY_UPDATE of a push": frame(PRIORITY_UPDATE_OF_PUSH, b"\0u=1"),
    "PUSH_PROMISE": frame(PUSH_PROMISE, b"\0"),
    **{f"HTTP/2 frame {kind}": frame(kind) for kind in HTTP2_FRAMES},
}
UNEXPECTED_ON_CONTROL = {
    "DATA": frame(DATA, b"x"),
    "HEADERS": headers(),
    "PUSH_PROMISE": frame(PUSH_PROMISE, b"\0"),
    "SETTINGS twice": frame(SETTINGS),
    **{f"HTTP/2 frame {kind}": frame(kind) for kind in HTTP2_FRAMES},
}


@pytest.mark.parametrize(
    "data", UNEXPECTED_ON_A_REQUEST.values(), ids=UNEXPECTED_ON_A_REQUEST.keys()
)
@asynctest
async def test_a_frame_that_does_not_belong_on_a_request_is_frame_unexpected(data):
    assert await closed_by(data) == ErrorCode.FRAME_UNEXPECTED


@pytest.mark.parametrize("data", UNEXPECTED_ON_CONTROL.values(), ids=UNEXPECTED_ON_CONTROL.keys())
@asynctest
async def test_a_frame_that_does_not_belong_on_control_is_frame_unexpected(data):
    code = await closed_by(frame(SETTINGS) + data, where="control")
    assert code == ErrorCode.FRAME_UNEXPECTED


# RFC 9218 7.2
WRONG_PRIORITY_UPDATES = {
    "of a stream of the server's": (frame(PRIORITY_UPDATE, b"\x01u=1"), ErrorCode.ID_ERROR),
    "of a unidirectional stream": (frame(PRIORITY_UPDATE, b"\x02u=1"), ErrorCode.ID_ERROR),
    "of a stream beyond the limit": (
        frame(PRIORITY_UPDATE, encode_uint_var(4 * 128) + b"u=1"),
        ErrorCode.ID_ERROR,
    ),
    "of a push": (frame(PRIORITY_UPDATE_OF_PUSH, b"\0u=1"), ErrorCode.ID_ERROR),
    "without an ID": (frame(PRIORITY_UPDATE, b""), ErrorCode.FRAME_ERROR),
    "with half an ID": (frame(PRIORITY_UPDATE, b"\x40"), ErrorCode.FRAME_ERROR),
    "too long": (frame(PRIORITY_UPDATE, b"\0" + b" " * 4096), ErrorCode.EXCESSIVE_LOAD),
}


@pytest.mark.parametrize(
    ("data", "code"), WRONG_PRIORITY_UPDATES.values(), ids=WRONG_PRIORITY_UPDATES.keys()
)
@asynctest
async def test_a_priority_update_of_what_cannot_be_ends_the_connection(data, code):
    assert await closed_by(frame(SETTINGS) + data, where="control") == code


@pytest.mark.parametrize("value", [b"u=1, i", b"", b"no structured field"])
@asynctest
async def test_a_priority_update_may_come_before_its_request_and_after(value):
    async with serving() as server, H3Client(server.port) as client:
        last = frame(PRIORITY_UPDATE, encode_uint_var(4 * 127) + value)
        client.send(client.control, frame(PRIORITY_UPDATE, b"\0" + value) + last)
        assert (await client.request()).status == 200
        update = frame(PRIORITY_UPDATE, b"\0" + value)
        client.send(client.control, update[:5])
        client.send(client.control, update[5:])
        assert (await client.request()).status == 200


@pytest.mark.parametrize("first", [frame(GREASE), frame(MAX_PUSH_ID, b"\0"), frame(GOAWAY, b"\0")])
@asynctest
async def test_a_first_control_frame_other_than_settings_is_missing_settings(first):
    assert await closed_by(first, where="control") == ErrorCode.MISSING_SETTINGS


@pytest.mark.parametrize("kind", [CONTROL, ENCODER, DECODER])
@asynctest
async def test_a_second_critical_stream_is_a_stream_creation_error(kind):
    async with serving() as server, H3Client(server.port) as client:
        client.open_uni(kind)
        assert await client.close_reason() == ErrorCode.STREAM_CREATION_ERROR


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("name", ["control", "encoder", "decoder"])
@asynctest
async def test_a_closed_critical_stream_is_closed_critical_stream(name, how):
    async with serving() as server, H3Client(server.port) as client:
        stream = getattr(client, name)
        if how == "end":
            client.send(stream, end=True)
        else:
            await client.settled()
            client.reset(stream)
        assert await client.close_reason() == ErrorCode.CLOSED_CRITICAL_STREAM


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x03, 0x04, 0x05])
@asynctest
async def test_a_setting_of_http2_is_a_settings_error(identifier):
    data = frame(SETTINGS, encode_uint_var(identifier) + b"\x01")
    assert await closed_by(data, where="control") == ErrorCode.SETTINGS_ERROR


@asynctest
async def test_a_setting_twice_is_a_settings_error():
    data = frame(SETTINGS, b"\x06\x10\x06\x10")
    assert await closed_by(data, where="control") == ErrorCode.SETTINGS_ERROR


@asynctest
async def test_grease_and_unknown_frames_streams_and_settings_are_ignored():
    async with serving(echo) as server, H3Client(server.port, setup=False) as client:
        client.open_uni(CONTROL, frame(SETTINGS, encode_uint_var(GREASE) + b"\x05"))
        client.open_uni(GREASE, b"anything")
        client.open_uni(0x4242, b"anything", end=True)
        grease = frame(GREASE, b"grease") + frame(0x4242, b"")
        data = grease + headers(b"POST") + grease + frame(DATA, b"abc") + grease
        stream = client.send(client.open(), data, end=True)
        await client.until(lambda: stream.done)
        assert (stream.status, bytes(stream.content)) == (200, b"abc")
        assert client.close_code is None


# -- malformed messages -------------------------------------------------------------------------

MALFORMED = {
    **{f"no {name.decode()}": without(name) for name, _ in PSEUDO},
    **{f"{name.decode()} twice": [*PSEUDO, (name, value)] for name, value in PSEUDO},
    **{f"empty {name.decode()}": [*without(name), (name, b"")] for name, _ in PSEUDO},
    "an unknown pseudo-header field": [*PSEUDO, (b":client", b"x")],
    ":status in a request": [*PSEUDO, (b":status", b"200")],
    "a late pseudo-header field": [*without(b":path"), (b"a", b"b"), (b":path", b"/")],
    "upper case in a name": [*PSEUDO, (b"X-Upper", b"x")],
    "a name that is no token": [*PSEUDO, (b"a b", b"x")],
    "CR in a value": [*PSEUDO, (b"a", b"b\rc")],
    "LF in a value": [*PSEUDO, (b"a", b"b\nc")],
    "NUL in a value": [*PSEUDO, (b"a", b"b\0c")],
    "connection": [*PSEUDO, (b"connection", b"close")],
    "keep-alive": [*PSEUDO, (b"keep-alive", b"1")],
    "proxy-connection": [*PSEUDO, (b"proxy-connection", b"close")],
    "transfer-encoding": [*PSEUDO, (b"transfer-encoding", b"chunked")],
    "upgrade": [*PSEUDO, (b"upgrade", b"h2c")],
    "te other than trailers": [*PSEUDO, (b"te", b"gzip")],
    "content-length with a sign": [*PSEUDO, (b"content-length", b"+3")],
    "content-length with an underscore": [*PSEUDO, (b"content-length", b"1_0")],
    "content-length that is a list": [*PSEUDO, (b"content-length", b"3, 3")],
    "content-length that is empty": [*PSEUDO, (b"content-length", b"")],
    "content-length twice, differently": [
        *PSEUDO,
        (b"content-length", b"0"),
        (b"content-length", b"1"),
    ],
    "content-length that does not match": [*PSEUDO, (b"content-length", b"3")],
    ":authority and Host that differ": [*PSEUDO, (b"host", b"other")],
    "a path without a slash": [*without(b":path"), (b":path", b"nowhere")],
    "a path with a fragment": [*without(b":path"), (b":path", b"/#x")],
    "a path with a blank": [*without(b":path"), (b":path", b"/a b")],
    "a scheme of another kind": [*without(b":scheme"), (b":scheme", b"ftp")],
    "two equal Host fields": [*PSEUDO, (b"host", b"localhost"), (b"host", b"localhost")],
    "two equal content-lengths": [*PSEUDO, (b"content-length", b"0"), (b"content-length", b"0")],
    "te: trailers with a weight": [*PSEUDO, (b"te", b"trailers;q=0.5")],
    "userinfo in :authority": [*without(b":authority"), (b":authority", b"me@localhost")],
    "CONNECT with :path and :scheme": [(b":method", b"CONNECT"), *PSEUDO[1:]],
    ":protocol without CONNECT": [*PSEUDO, (b":protocol", b"websocket")],
}


@pytest.mark.parametrize("lines", MALFORMED.values(), ids=MALFORMED.keys())
@asynctest
async def test_a_malformed_message_costs_its_stream_and_not_its_connection(lines):
    async with serving(echo) as server, H3Client(server.port) as client:
        other = client.begin("POST", end=False)
        stream = client.send(client.open(), request_of(lines), end=True)
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.MESSAGE_ERROR
        client.send(other, end=True)
        await client.until(lambda: other.done)
        assert (await client.request()).status == 200
        assert client.close_code is None


# Lines of no name (RFC 9204 4.5), and when the table that they may need is filled.
NAMELESS = {
    "a literal": (b"\x20\x01x", ""),
    "without a value, never indexed, in Huffman code": (b"\x38\x80", ""),
    "in the dynamic table": (b"\x80", "first"),
    "behind a line of the dynamic table": (b"\x80\x20\x01x", "first"),
    "in a section that has to wait": (b"\x80\x20\x01x", "later"),
}


@pytest.mark.parametrize(("lines", "table"), NAMELESS.values(), ids=NAMELESS.keys())
@pytest.mark.parametrize("trailing", [False, True], ids=["head", "trailers"])
@asynctest
async def test_a_field_without_a_name_costs_its_stream_and_not_its_connection(
    lines, table, trailing
):
    instructions = b"\x3f\xe1\x1f" + (b"\x40\x01v" if lines == b"\x80" else b"\x41a\x01v")
    prefix = b"\x02\x00" if table else b"\0\0"
    begin, pseudo = (headers(b"POST"), b"") if trailing else (b"", section(PSEUDO)[2:])
    async with serving(echo) as server, H3Client(server.port) as client:
        other = client.begin("POST", end=False)
        if table == "first":
            client.send(client.encoder, instructions)
            await client.settled()
        data = begin + frame(HEADERS, prefix + pseudo + lines)
        stream = client.send(client.open(), data, end=True)
        if table == "later":
            await client.settled()
            client.send(client.encoder, instructions)
        await client.until(lambda: stream.done)
        assert stream.reset_code == ErrorCode.MESSAGE_ERROR
        client.send(other, end=True)
        await client.until(lambda: other.done)
        assert (other.status, client.close_code) == (200, None)


@asynctest
async def test_a_line_that_huffman_makes_longer_than_the_library_decodes_is_431():
    value = b"\xff" + varint7(40_960 - 127) + b"\x18\xc6\x31\x8c\x63" * 8192
    async with serving() as server, H3Client(server.port) as client:
        data = frame(HEADERS, section(PSEUDO) + b"\x21x" + value)
        stream = client.send(client.open(), data, end=True)
        await client.until(lambda: stream.done)
        assert stream.status == 431
        assert (await client.request()).status == 200


# What gives a request up while its section waits, with what the client sees.
GIVEN_UP = {
    "reset": lambda client, stream: client.reset(stream),
    "stopped and reset": lambda client, stream: (client.stop(stream), client.reset(stream)),
    "stopped": lambda client, stream: client.stop(stream),
    "timed out": lambda client, stream: None,
}


@pytest.mark.parametrize("end", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("opened", [False, True], ids=["no encoder stream", "an encoder stream"])
@pytest.mark.parametrize("how", GIVEN_UP.keys())
@asynctest
async def test_a_request_that_waits_for_the_table_may_be_given_up(how, opened, end, caplog):
    async with (
        serving(header_timeout=0.3 if how == "timed out" else 10.0) as server,
        H3Client(server.port, setup=False) as client,
    ):
        client.open_uni(CONTROL, frame(SETTINGS))
        encoder = client.open_uni(ENCODER) if opened else None
        instructions = insert(b":path", b"/" + b"x" * 200)
        data = frame(HEADERS, b"\x02\x00" + section(without(b":path"))[2:] + b"\x80")
        stream = client.send(client.open(), data, end=end)
        await client.settled()
        GIVEN_UP[how](client, stream)
        if how == "timed out":
            await client.until(lambda: stream.done)
        await client.settled()
        encoder = (
            client.send(encoder, instructions)
            if encoder
            else client.open_uni(ENCODER, instructions)
        )
        await client.settled()
        again = client.send(client.open(), data, end=True)
        await client.until(lambda: again.done)
        assert (again.status, client.close_code) == (200, None)
    assert caplog.records == []


@asynctest
async def test_a_request_that_waits_for_the_table_is_served_after_goaway():
    async with serving() as server, H3Client(server.port, setup=False) as client:
        client.open_uni(CONTROL, frame(SETTINGS))
        data = frame(HEADERS, b"\x02\x00" + section(without(b":path"))[2:] + b"\x80")
        waiting = client.send(client.open(), data, end=True)
        await client.settled()
        server.endpoint.stop_accepting()
        await client.until(lambda: client.goaway is not None)
        rejected = client.send(client.open(), data, end=True)
        await client.until(lambda: rejected.done)
        assert rejected.reset_code == ErrorCode.REQUEST_REJECTED
        client.open_uni(ENCODER, insert(b":path", b"/" + b"x" * 200))
        await client.until(lambda: waiting.done)
        assert waiting.status == 200


@asynctest
async def test_a_request_with_host_and_no_authority_is_served():
    async with serving() as server, H3Client(server.port) as client:
        lines = [*without(b":authority"), (b"host", b"localhost")]
        stream = client.send(client.open(), request_of(lines), end=True)
        await client.until(lambda: stream.done)
        assert stream.status == 200
        assert server.exchanges[0].stream.head.authority == b"localhost"


@asynctest
async def test_connect_of_an_unknown_protocol_is_501():
    async with serving() as server, H3Client(server.port) as client:
        lines = [(b":method", b"CONNECT"), (b":protocol", b"pigeon"), *PSEUDO[1:]]
        stream = client.send(client.open(), request_of(lines))
        await client.until(lambda: stream.done)
        assert stream.status == 501
        assert server.exchanges == []


@pytest.mark.parametrize("method", [b"TRACE"])
@asynctest
async def test_trace_is_405(method):
    async with serving() as server, H3Client(server.port) as client:
        stream = client.send(client.open(), headers(method), end=True)
        await client.until(lambda: stream.done)
        assert stream.status == 405
        assert server.exchanges == []


# -- QPACK ----------------------------------------------------------------------------------------


@asynctest
async def test_a_section_over_the_announced_size_after_decoding_is_431():
    limit = 8192
    async with (
        serving(max_field_section_bytes=limit) as server,
        H3Client(server.port) as client,
    ):
        await client.until(
            lambda: any(stream.type == CONTROL for stream in client.streams.values())
        )
        (settings,) = [
            payload
            for stream in client.streams.values()
            for kind, payload in stream.frames
            if kind == SETTINGS
        ]
        assert b"\x06" + encode_uint_var(limit) in settings
        stream = await client.request("GET", "/", *[(b"n", b"v")] * 100, (b"x", b"e" * limit))
        assert stream.status == 431
        assert (await client.request("GET", "/", (b"x", b"e" * 7000))).status == 200


BOMBS = {
    "a line of the dynamic table, 64,000 times": ("insert", b"\x02\x00" + b"\x80" * 64_000),
    "as few lines as are allowed, each of 4 KiB": ("insert", b"\x02\x00" + b"\x80" * 127),
    "a line of the static table, 64,000 times": ("", b"\0\0" + b"\xd5" * 64_000),
    "a cookie of the static table, 3,000 times": ("", b"\0\0" + b"\xc5" * 3000),
    "64,000 empty literals": ("", b"\0\0" + b"\x20\x00" * 32_000),
    "the shortest Huffman code, twice 30,000 bytes": (
        "",
        b"\0\0" + 2 * (b"\x51\xff" + varint7(30_000 - 127) + b"\0" * 30_000),
    ),
}


@pytest.mark.parametrize(("table", "bomb"), BOMBS.values(), ids=BOMBS.keys())
@asynctest
async def test_64_kb_of_qpack_never_become_megabytes(table, bomb):
    async with serving() as server, H3Client(server.port) as client:
        if table:
            client.send(client.encoder, insert(b"a", b"x" * 4000))
        await client.settled()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        stream = client.send(client.open(), frame(HEADERS, bomb), end=True)
        await client.until(lambda: stream.done)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert stream.status == 431
        # The client's and the kernel's copies of 64 kB are in it, too.
        assert peak - before < 1_000_000
        assert server.exchanges == []
        assert (await client.request()).status == 200


@pytest.mark.parametrize(("table", "bomb"), BOMBS.values(), ids=BOMBS.keys())
def test_64_kb_of_qpack_cost_at_most_5_ms_of_cpu_and_64_kib_of_fields(table, bomb):
    for seconds in tries():
        http = H3Connection(FakeQuic(), Settings())
        if table:
            http.receive_data(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 4000), False)
        data = frame(HEADERS, bomb)
        started = time.process_time()
        (event,) = http.receive_data(0, data, True)
        seconds.append(time.process_time() - started)
        assert isinstance(event, MessageFailed)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"n", b"v" * 65_000)],  # in Huffman code, which takes longest
        [(b"cookie", b"")] * 1700,  # the most lines that fit
    ],
    ids=["one field", "cookies"],
)
def test_the_largest_section_that_is_taken_costs_at_most_5_ms_of_cpu(fields):
    lines = [*PSEUDO, *fields]
    data = frame(HEADERS, section(lines))
    for seconds in tries():
        http = H3Connection(FakeQuic(), Settings())
        started = time.process_time()
        (event,) = http.receive_data(0, data, True)
        seconds.append(time.process_time() - started)
        assert event.fields == lines


def tries():
    """Yield a list for what each try takes until one has taken less than 5 ms; a hundred may not.

    What else the machine does, caches and clock rates included, only ever makes a try take longer.
    """
    seconds = []
    while not seconds or seconds[-1] >= 0.005:
        assert len(seconds) < 100, f"{min(seconds):.4f} seconds at best"
        yield seconds


@asynctest
async def test_blocked_streams_over_the_limit_end_the_connection():
    blocked = frame(HEADERS, b"\x02\x00\x80")
    async with serving() as server, H3Client(server.port) as client:
        for _ in range(17):
            client.send(client.open(), blocked, end=True)
        assert await client.close_reason() == ErrorCode.QPACK_DECOMPRESSION_FAILED


@asynctest
async def test_a_blocked_section_is_measured_when_its_table_is_known():
    async with serving() as server, H3Client(server.port) as client:
        stream = client.send(client.open(), frame(HEADERS, b"\x02\x00" + b"\x80" * 100), end=True)
        await client.settled()
        client.send(client.encoder, insert(b"a", b"x" * 4000))
        await client.until(lambda: stream.done)
        assert stream.status == 431
        assert (await client.request()).status == 200


@pytest.mark.parametrize(
    ("where", "data", "code"),
    [
        ("encoder", b"\x80\x00", ErrorCode.QPACK_ENCODER_STREAM_ERROR),
        ("encoder", b"\x3f\xe2\x1f", ErrorCode.QPACK_ENCODER_STREAM_ERROR),  # 4,097 bytes
        ("encoder", b"\x1f" + b"\xff" * 20, ErrorCode.QPACK_ENCODER_STREAM_ERROR),
        ("decoder", b"\x00", ErrorCode.QPACK_DECODER_STREAM_ERROR),
        ("decoder", b"\x80", ErrorCode.QPACK_DECODER_STREAM_ERROR),
    ],
)
@asynctest
async def test_bad_qpack_instructions_end_the_connection(where, data, code):
    assert await closed_by(data, where=where) == code


@pytest.mark.parametrize("capacity", [b"", b"\x20"], ids=["never set", "set to zero"])
@pytest.mark.parametrize(
    "insertion",
    [b"\xd1\x01a", b"\x41a\x01b"],
    ids=["static name", "literal name"],
)
@asynctest
async def test_an_insertion_into_a_table_without_capacity_ends_the_connection(capacity, insertion):
    # RFC 9204 3.2.2, 3.2.3: the capacity is zero until it is set, and no entry fits that.
    code = ErrorCode.QPACK_ENCODER_STREAM_ERROR
    assert await closed_by(capacity + insertion, where="encoder") == code


@asynctest
async def test_the_encoder_may_set_the_capacity_again_and_again():
    async with serving() as server, H3Client(server.port) as client:
        capacities = (b"\x3f\xe1\x1f", b"\x20", b"\x3f\x21")  # 4,096, zero, 64
        for count, capacity in enumerate(capacities):
            insertion = b"" if capacity == b"\x20" else b"\x41%c\x01b" % (ord("a") + count)
            client.send(client.encoder, capacity + insertion)
            await client.settled()
            assert (await client.request()).status == 200


# -- floods ---------------------------------------------------------------------------------------


# One request earns a few beyond the burst.
FRAMES = LIMITS[Flood.FRAMES][0] + 16


@pytest.fixture
def few(monkeypatch):
    """Budgets that are soon used up."""
    for flood in (Flood.CANCELLATIONS, Flood.STREAMS):
        monkeypatch.setitem(LIMITS, flood, (64, 0.1))


async def churn(flood, act):
    """Let a client `act` until the server has had enough; how often it could."""
    async with serving(echo) as server, H3Client(server.port) as client:
        await client.settled()
        count = 0
        while client.close_code is None and count < 4 * LIMITS[flood][0]:
            act(client)
            count += 1
            await client.settled()
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        name = flood.name.lower().replace("_", " ")
        assert server.endpoint.context.limits.met[f"too many {name}"] == 1
        return count


def reset(client):
    stream = client.begin("POST", end=False)
    client.reset(stream)


def stop(client):
    stream = client.begin("POST", end=False)
    client.quic.stop_stream(stream.id, 0x10C)
    client.flush()
    client.reset(stream)


def malformed(client):
    client.send(client.open(), request_of(without(b":path")), end=True)


@pytest.mark.parametrize("act", [reset, stop, malformed])
@asynctest
async def test_requests_begun_to_be_given_up_end_in_excessive_load(few, act):
    """CVE-2023-44487, and its other half in which the server is made to reset."""
    count = await churn(Flood.CANCELLATIONS, act)
    assert count >= LIMITS[Flood.CANCELLATIONS][0] // 2


@asynctest
async def test_a_page_of_requests_may_be_given_up():
    async with serving(echo) as server, H3Client(server.port) as client:
        for _ in range(2):
            streams = [client.begin("POST", end=False) for _ in range(100)]
            await client.settled()
            for stream in streams:
                client.reset(stream)
            await client.settled()
        assert (await client.request()).status == 200


@pytest.mark.parametrize("data", [frame(DATA, b""), frame(GREASE, b""), frame(0x4242, b"ab")])
@asynctest
async def test_a_flood_of_frames_without_effect_ends_in_excessive_load(data):
    async with serving(echo) as server, H3Client(server.port) as client:
        client.send(client.open(), headers(b"POST") + data * FRAMES)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many frames"] == 1


@pytest.mark.parametrize(
    "data", [frame(GREASE, b""), frame(MAX_PUSH_ID, b"\0"), frame(PRIORITY_UPDATE, b"\0u=1")]
)
@asynctest
async def test_a_flood_of_control_stream_frames_ends_in_excessive_load(data):
    async with serving(echo) as server, H3Client(server.port) as client:
        client.send(client.control, data * FRAMES)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD


@asynctest
async def test_content_byte_by_byte_ends_in_excessive_load():
    async with serving(echo) as server, H3Client(server.port) as client:
        client.send(client.open(), headers(b"POST") + frame(DATA, b"x") * 50_000)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many dribble"] == 1


@pytest.mark.parametrize("how", ["end", "reset"])
@asynctest
async def test_a_flood_of_unidirectional_streams_ends_in_excessive_load(few, how):
    def act(client):
        stream = client.open_uni(GREASE, b"x", end=how == "end")
        if how == "reset":
            client.reset(stream)

    count = await churn(Flood.STREAMS, act)
    assert count >= LIMITS[Flood.STREAMS][0] // 2


@pytest.mark.parametrize("again", [b"\x00", b"\x3f\xe1\x1f"], ids=["duplicate", "capacity"])
@asynctest
async def test_a_flood_of_table_instructions_ends_in_excessive_load(again):
    async with serving() as server, H3Client(server.port) as client:
        client.send(client.encoder, insert(b"a", b"x" * 3000) + again * 20_000)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD


# -- the slow -------------------------------------------------------------------------------------


@asynctest
async def test_a_client_that_gives_no_credit_is_given_up_and_its_memory_freed():
    """Responses that are written whole, so that no application waits for them."""

    kept = []

    def app(exchange):
        exchange.respond(200, b"x" * 200_000)
        kept.append(server.connections[0].quic.kept())

    async with (
        serving(app, send_timeout=3) as server,
        H3Client(server.port, max_data=10_000) as client,
        H3Client(server.port) as other,
    ):
        client.quic.withhold_credit = True
        streams = [client.begin() for _ in range(20)]
        await server.until(lambda: len(server.exchanges) == 20)
        connection = server.connections[0]
        assert kept[-1] > 3_000_000
        assert (await other.request()).status == 200
        await client.until(lambda: all(stream.reset_code is not None for stream in streams))
        await server.until(lambda: connection.quic.kept() < 1000)


@asynctest
async def test_what_is_kept_for_one_client_is_bounded_over_all_its_streams():
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, []))
        for _ in range(400):
            exchange.stream.send_content(b"x" * 10_000)
            await exchange.stream.drain()

    bound = 1_000_000
    async with (
        serving(app, max_unacknowledged_bytes=bound, max_unsent_bytes=500_000) as server,
        H3Client(server.port, max_data=10_000) as client,
        H3Client(server.port) as other,
    ):
        client.quic.withhold_credit = True
        for _ in range(50):
            client.begin()
        quic = server.connections[0].quic
        await server.until(lambda: quic.kept() >= bound)
        await client.settled()
        await turns(50)
        assert bound <= quic.kept() <= 2 * bound + 50 * 10_000
        good = other.begin()
        await other.until(lambda: good.status == 200)
        other.reset(good)


@asynctest
async def test_a_head_that_does_not_come_in_its_time_is_408():
    async with serving(header_timeout=0.3) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), headers()[:-3])
        await client.until(lambda: stream.done)
        assert stream.status == 408
        assert (await client.request()).status == 200
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("rate", [0, 500], ids=["any rate", "a least rate"])
@asynctest
async def test_content_that_the_application_waits_for_in_vain_is_408(rate):
    async def app(exchange):
        exchange.stream.want_content()
        await exchange.whole()

    async with (
        serving(app, content_timeout=0.3, min_content_rate=rate) as server,
        H3Client(server.port) as client,
    ):
        stream = client.begin("POST", content=b"some", end=False)
        await client.until(lambda: stream.done)
        assert stream.status == 408
        assert server.exchanges[0].calls[-1] == "aborted"


@asynctest
async def test_an_application_that_never_reads_holds_one_window_and_nobody_else():
    async def app(exchange):
        exchange.reading = exchange.path != b"/never"
        if exchange.reading:
            await echo(exchange)
        else:
            await asyncio.Event().wait()

    window = 65_536
    async with (
        serving(app, reading=False, stream_window_bytes=window) as server,
        H3Client(server.port) as client,
    ):
        stream = client.begin("POST", "/never", content=b"x" * 1_000_000, end=False)
        await client.settled()
        await client.settled()
        assert client.sent(stream) <= window
        exchange = server.exchanges[0]
        assert exchange.stream.content.size <= window
        answer = client.begin("GET", "/other")
        await server.until(lambda: len(server.exchanges) == 2)
        server.exchanges[1].reading = True
        await client.until(lambda: answer.done)
        assert answer.status == 200
        client.reset(stream)


@asynctest
async def test_0_rtt_is_off():
    """No session tickets are given out, so there is nothing to send early data with."""
    tickets = []
    async with serving() as server:
        client = H3Client(server.port)
        client.quic._session_ticket_handler = tickets.append
        async with client:
            assert (await client.request()).status == 200
            await client.settled()
    assert all(not ticket.max_early_data_size for ticket in tickets)
