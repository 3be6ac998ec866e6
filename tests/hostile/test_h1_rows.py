"""RFC 9110, 9112: what bad HTTP/1.1 gets from a running server, row by row."""

import asyncio

import pytest

from tercel.shared.errors import LocalProtocolError, ResetReason
from tercel.shared.messages import ResponseHead
from tests.h1.serving import Clock, echo, nothing, serving
from tests.h1.test_parser import MALFORMED, OTHER_FAULTS, chunked, post, request
from tests.support.asynchronous import asynctest

LIMITS = {"max_target_bytes": 256, "max_field_section_bytes": 2048, "max_fields": 20}

# The rows of the table, by the names of their cases in tests/h1/test_parser.py.
FRAMING = ("content-length", "transfer-encoding with content-length")
CODING = ("transfer-encoding",)
FIELDS = (
    *("space before", "tab before", "obs-fold", "leading space in", "bare", "NUL in a value"),
    *("control byte in a value", "DEL in a value", "empty field name", "field name", "no colon"),
)
HOST = ("no Host", "two Hosts", "empty Host", "Host", "invalid Host")
LINE = (
    *("two spaces", "leading space", "trailing space", "tab for", "control byte in the target"),
    *("DEL in the target", "target outside", "fragment", "relative", "asterisk", "absolute-form"),
    *("HTTP/", "http in", "ICE", "method with", "a TLS"),
)
CHUNK = ("chunk size", "no CRLF", "two bytes", "LF after", "LF in a chunk", "CR in a chunk", "NUL")
EXTENSIONS = ("one chunk extension", "chunk extension without", "many chunk")
TRAILERS = ("bad field line in the", "bare LF in the trailers", "obs-fold in the trailers")


def row(*prefixes):
    """The malformed messages of a row, for parametrize."""
    cases = {name: data for name, data in MALFORMED.items() if name.startswith(prefixes)}
    assert cases
    return pytest.mark.parametrize("data", cases.values(), ids=cases.keys())


async def answer_to(data, **settings):
    """What the server says to `data` before it closes: the status, and that nothing follows."""
    async with serving(echo, **{**LIMITS, **settings}) as server:
        client = await server.connect()
        client.send(data)
        response = await client.response()
        assert response.fields[b"connection"] == b"close"
        assert await client.rest() == b""
        for exchange in server.application.exchanges:
            assert "complete" not in exchange.calls, "the application took it for whole"
        return response


async def is_400x(data):
    assert (await answer_to(data)).status == 400


def test_no_malformed_message_is_without_its_row():
    rows = (
        *(FRAMING, CODING, FIELDS, HOST, LINE, CHUNK, EXTENSIONS, TRAILERS),
        ("CONNECT",),
    )
    known = tuple(prefix for prefixes in rows for prefix in prefixes)
    assert [name for name in MALFORMED if not name.startswith(known)] == []


@row(*FRAMING)
@asynctest
async def test_a_content_length_that_two_may_read_differently_is_400x(data):
    await is_400x(data)


@row(*CODING)
@asynctest
async def test_a_malformed_transfer_encoding_or_one_in_http_1_0_is_400x(data):
    await is_400x(data)


@pytest.mark.parametrize(
    "data",
    [case[0] for name, case in OTHER_FAULTS.items() if "transfer" in name or "chunked" in name],
)
@asynctest
async def test_a_transfer_encoding_other_than_chunked_is_501x(data):
    assert (await answer_to(data)).status == 501


@row(*FIELDS)
@asynctest
async def test_a_field_line_that_two_may_read_differently_is_400x(data):
    await is_400x(data)


@row(*HOST)
@asynctest
async def test_no_host_two_hosts_and_an_invalid_host_are_400x(data):
    await is_400x(data)


@asynctest
async def test_an_absolute_form_target_wins_over_host():
    async with serving(echo) as server:
        client = await server.connect()
        client.send(request(line=b"GET http://b.test/x HTTP/1.1"))
        assert (await client.response()).status == 200
        head = server.application.exchanges[0].stream.head
        assert (head.authority, head.target) == (b"b.test", b"/x")
        assert [value for name, value in head.fields if name == b"host"] == [b"b.test"]


@row(*LINE)
@asynctest
async def test_a_request_line_that_two_may_read_differently_is_400x(data):
    await is_400x(data)


@pytest.mark.parametrize("version", [b"2.0", b"3.0"])
@asynctest
async def test_a_known_higher_major_version_is_505x(version):
    assert (await answer_to(request(line=b"GET / HTTP/" + version))).status == 505


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
@asynctest
async def test_a_higher_minor_version_is_answered_as_1_1(version):
    async with serving(echo) as server:
        client = await server.connect()
        for _ in range(2):
            client.send(request(line=b"GET /x HTTP/" + version))
            response = await client.response()
            assert (response.status, response.content) == (200, b"/x")
            assert b"connection" not in response.fields
        assert {e.stream.head.http_version for e in server.application.exchanges} == {"1.1"}


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
@asynctest
async def test_a_higher_minor_version_is_held_to_the_rules_of_1_1(version):
    line = b"POST / HTTP/" + version
    await is_400x(request(line=line, host=None))
    await is_400x(request(b"Transfer-Encoding: chunked", b"Content-Length: 1", line=line))
    await is_400x(request(b"A : b", line=line))


@row(*CHUNK)
@asynctest
async def test_a_malformed_chunk_is_400x(data):
    await is_400x(data)


@row(*EXTENSIONS)
@asynctest
async def test_chunk_extensions_beyond_their_budget_are_400x(data):
    await is_400x(data)


@row(*TRAILERS)
@asynctest
async def test_a_malformed_trailer_section_is_400x(data):
    await is_400x(data)


@pytest.mark.parametrize("name", ["too many trailers", "trailers over", "trailers without"])
@asynctest
async def test_trailers_beyond_their_budget_are_431x(name):
    (data,) = [case[0] for key, case in OTHER_FAULTS.items() if key.startswith(name)]
    assert (await answer_to(data)).status == 431


@pytest.mark.parametrize(
    "name",
    [
        "field over the section's size",
        "field without an end",
        "white space over the section's size",
        "small fields that count 32 bytes each",
        "too many fields",
    ],
)
@asynctest
async def test_a_header_section_over_its_size_or_count_is_431x(name):
    assert (await answer_to(OTHER_FAULTS[name][0])).status == 431


@pytest.mark.parametrize("name", ["target over its size", "target far over its size"])
@asynctest
async def test_a_target_over_its_size_is_414x(name):
    assert (await answer_to(OTHER_FAULTS[name][0])).status == 414


@asynctest
async def test_framing_and_routing_fields_in_trailers_are_dropped_and_others_stay_apart():
    data = chunked(
        b"5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n"
        b"Host: b.test\r\nX-Sum: 1\r\n\r\n"
    )
    async with serving(echo) as server:
        client = await server.connect()
        client.send(data + request(line=b"GET /next HTTP/1.1"))
        assert (await client.response()).content == b"hello"
        assert (await client.response()).content == b"/next"
        stream = server.application.exchanges[0].stream
        assert stream.content.trailers == [(b"x-sum", b"1")]
        names = [name for name, _ in stream.head.fields]
        assert names == [b"host", b"transfer-encoding"]
        assert stream.head.authority == b"a.test"


@asynctest
async def test_an_expectation_other_than_100_continue_is_417():
    assert (await answer_to(post(b"Expect: the-unexpected"))).status == 417


@asynctest
async def test_100_continue_is_sent_only_when_the_application_first_reads():
    reads = asyncio.Event()

    async def app(exchange):
        await reads.wait()
        await echo(exchange)

    async with serving(app) as server:
        client = await server.connect()
        client.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
        await server.application.exchange()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        reads.set()
        assert (await client.response()).status == 100
        client.send(b"abc")
        assert (await client.response()).content == b"abc"


@row("CONNECT")
@asynctest
async def test_connect_is_400x(data):
    await is_400x(data)


@pytest.mark.parametrize("name", ["CONNECT to a port", "CONNECT with an upgrade"])
@asynctest
async def test_a_well_formed_connect_is_400x_too(name):
    await is_400x(OTHER_FAULTS[name][0])


@asynctest
async def test_an_https_target_without_tls_is_421x():
    assert (await answer_to(OTHER_FAULTS["https without TLS"][0])).status == 421


@pytest.mark.parametrize("options", [b"close, keep-alive", b"keep-alive\r\nConnection: close"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@asynctest
async def test_close_goes_before_keep_alive(version, options):
    data = request(b"Connection: " + options, line=b"GET / HTTP/" + version)
    async with serving(echo) as server:
        client = await server.connect()
        client.send(data)
        response = await client.response()
        assert (response.status, response.fields[b"connection"]) == (200, b"close")
        assert await client.rest() == b""


@asynctest
async def test_trace_is_405():
    response = await answer_to(request(line=b"TRACE / HTTP/1.1"))
    assert response.status == 405
    assert b"TRACE" not in response.fields[b"allow"]


@asynctest
async def test_upgrade_to_h2c_is_ignored():
    upgrade = request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A")
    async with serving(echo) as server:
        client = await server.connect()
        client.send(upgrade + request(line=b"GET /next HTTP/1.1"))
        assert (await client.response()).status == 200
        assert (await client.response()).content == b"/next"


@pytest.mark.parametrize("chunks", [False, True])
@asynctest
async def test_a_body_over_the_limit_is_413x_before_the_application_is_asked_for_more(chunks):
    data = (
        chunked(b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n")
        if chunks
        else post(b"Content-Length: 1024", content=b"x" * 1024)
    )
    response = await answer_to(data, max_content_bytes=1000)
    assert response.status == 413


@asynctest
async def test_a_head_that_is_not_complete_in_its_time_is_408x():
    clock = Clock()
    async with serving(echo, clock=clock, header_timeout=10) as server:
        client = await server.connect()
        client.send(request()[:-2])
        await server.until(lambda: bool(server.connections))
        await server.until(lambda: server.connection._parser.started)
        await server.pass_time(10.1)
        assert (await client.response()).status == 408
        assert await client.rest() == b""


@asynctest
async def test_a_head_byte_by_byte_does_not_gain_time():
    """Slowloris (CVE-2007-6750): each byte comes in time, the head does not."""
    clock = Clock()
    async with serving(echo, clock=clock, header_timeout=10) as server:
        client = await server.connect()
        for byte in request(b"A: b")[:12]:
            client.send(bytes([byte]))
            await server.until(lambda: bool(server.connections))
            await server.until(lambda: server.connection._parser.started)
            await asyncio.sleep(0)
            await server.pass_time(1)
        assert (await client.response()).status == 408


@asynctest
async def test_a_body_slower_than_its_minimum_rate_is_408x():
    clock = Clock()
    settings = {"content_timeout": 10.0, "min_content_rate": 100}
    async with serving(echo, clock=clock, **settings) as server:
        client = await server.connect()
        client.send(post(b"Content-Length: 1000"))
        exchange = await server.application.exchange()
        for _ in range(30):
            if client.reader.at_eof() or exchange.error is not None:
                break
            client.send(b"x")
            received = exchange.stream.content.received
            await server.until(
                lambda received=received: (
                    exchange.stream.content.received > received or exchange.error is not None
                )
            )
            await server.until(
                lambda: server.connection._waiting_since is not None or exchange.error is not None
            )
            await server.pass_time(1)
        assert (await client.response()).status == 408


@asynctest
async def test_an_idle_connection_is_closed_in_silence():
    clock = Clock()
    async with serving(echo, clock=clock, keep_alive_timeout=10) as server:
        client = await server.connect()
        client.send(request())
        await client.response()
        await server.pass_time(10.1)
        assert await client.rest() == b""


@asynctest
async def test_a_body_left_unread_is_drained_up_to_a_bound():
    async def app(exchange):
        exchange.answer(b"done")

    async with serving(app, max_drain_bytes=5000) as server:
        client = await server.connect()
        client.send(post(b"Content-Length: 5000", content=b"x" * 5000) + request())
        assert (await client.response()).content == b"done"
        assert (await client.response()).content == b"done"
        client.send(post(b"Content-Length: 5001"))
        response = await client.response()
        assert response.content == b"done"
        assert response.fields[b"connection"] == b"close"
        assert await client.rest() == b""


@pytest.mark.parametrize("where", ["head", "trailers"])
@asynctest
async def test_a_section_may_be_larger_than_what_is_buffered_for_later(where):
    async def app(exchange):
        await exchange.read_all()
        exchange.answer(b"done")

    line = b"X: " + b"x" * 600_000 + b"\r\n\r\n"
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    async with serving(
        app, max_receive_buffer_bytes=8192, max_field_section_bytes=1 << 20
    ) as server:
        client = await server.connect()
        client.send((b"GET / HTTP/1.1\r\nHost: a\r\n" if where == "head" else chunked) + line)
        assert (await client.response()).content == b"done"


@asynctest
async def test_pipelined_requests_beyond_the_cap_pause_reading_and_stay_in_order():
    gate = asyncio.Event()

    async def app(exchange):
        await gate.wait()
        exchange.answer(exchange.stream.head.target)

    cap = 8192
    async with serving(app, max_receive_buffer_bytes=cap) as server:
        client = await server.connect()
        requests = [request(line=b"GET /%d HTTP/1.1" % number) for number in range(2000)]
        client.send(b"".join(requests))
        await server.until(lambda: bool(server.connections) and server.connection._reading_paused)
        assert len(server.application.exchanges) == 1
        assert len(server.connection._parser.unparsed) <= cap + 262_144
        gate.set()
        for number in range(2000):
            assert (await client.response()).content == b"/%d" % number


@pytest.mark.parametrize("length", [b"5", b"2"])
@asynctest
async def test_a_response_of_another_length_than_promised_never_looks_whole(length):
    """Fields that would inject others are the adapters' row: tests/contract/test_faults.py."""

    async def app(exchange):
        exchange.stream.send_head(ResponseHead(200, [(b"content-length", length)]))
        with pytest.raises(LocalProtocolError):
            exchange.stream.send_content(b"abc", end_stream=True)
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(app) as server:
        client = await server.connect()
        client.send(request())
        head, _, content = (await client.rest()).partition(b"\r\n\r\n")
        assert b" 500 " in head or len(content) < int(length)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@asynctest
async def test_content_where_there_may_be_none_is_not_sent(method, status):
    async def app(exchange):
        exchange.stream.send_head(ResponseHead(status, []))
        exchange.stream.send_content(b"abc", end_stream=True)

    async with serving(app) as server:
        client = await server.connect()
        client.send(request(line=method + b" / HTTP/1.1") * 2)
        for _ in range(2):
            assert (await client.response(bodiless=True)).status == status


# -- past advisories ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloXX0\r\n\r\n",  # h11, CVE-2025-43859: two bytes taken for CRLF
        b"5\r\nhello\r\n0\r\n\r\r",
        b"5\n;a\r\nhello\r\n0\r\n\r\n",  # Go, CVE-2025-22871
        b"5;a\nX: y\r\nhello\r\n0\r\n\r\n",  # Kestrel, CVE-2025-55315
        b"5;\rX\r\nhello\r\n0\r\n\r\n",
        b"0005\r\nhello\r\n0\r\nX: y\n\r\n",
        b"fffffffffffffffff\r\nhello",
    ],
)
@asynctest
async def test_chunked_content_that_others_were_fooled_by_is_400x(body):
    await is_400x(chunked(body))


@asynctest
async def test_what_follows_a_fault_is_never_a_request():
    smuggled = b"GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n"
    async with serving(echo, **LIMITS) as server:
        for name, data in MALFORMED.items():
            if name in ("a TLS handshake",):
                continue
            client = await server.connect()
            client.send(data + smuggled)
            assert (await client.response()).status >= 400
            assert await client.rest() == b""
            client.close()
        targets = [exchange.stream.head.target for exchange in server.application.exchanges]
        assert b"/admin" not in targets


@asynctest
async def test_thousands_of_tiny_chunks_cost_the_application_one_read():
    """CVE-2025-69229."""
    async with serving(nothing) as server:
        client = await server.connect()
        client.send(chunked(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"))
        exchange = await server.application.exchange()
        await exchange.reached("complete")
        assert exchange.stream.content.size == 10_000
        assert len(exchange.stream.content._chunks) < 100
