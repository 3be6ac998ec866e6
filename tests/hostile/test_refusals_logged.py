"""Each request that the server itself refuses is one line of the access log, with the reason."""

import asyncio
import logging
import re

import pytest

from tests.h1.serving import echo
from tests.h1.serving import serving as serving_h1
from tests.quic.served import serving as serving_h3
from tests.support.asynchronous import asynctest
from tests.support.h3_client import DATA, H3Client, frame, headers

HOST = b"Host: a.test\r\n"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tercel.access"]


def request(*parts: bytes) -> bytes:
    return b"\r\n".join((*parts, b"", b""))


# What is sent, and what the line says of it: request line, status, reason.
ON_HTTP_1 = {
    "malformed field": (
        request(b"GET /a?b HTTP/1.1", b"Host: a", b"bad name: x"),
        ("GET /a\\?b HTTP/1.1", 400, "malformed field line"),
    ),
    "no request line": (
        request(b"\x16\x03\x01 nonsense"),
        ("-", 400, "malformed request line"),
    ),
    "a request line that forges one": (
        request(b'GET /\x1b[2J" 200 HTTP/1.1', b"Host: a"),
        ("-", 400, "malformed request line"),
    ),
    "later version": (
        request(b"PRI * HTTP/2.0", b"SM"),
        ("PRI \\* HTTP/2.0", 505, "no later version"),
    ),
    "unknown method": (
        request(b"NONSENSE / HTTP/1.1", b"Host: a"),
        ("NONSENSE / HTTP/1.1", 501, "unknown method"),
    ),
    "long target": (
        request(b"GET /" + b"a" * 17_000 + b" HTTP/1.1", b"Host: a"),
        ("GET /a{2043}\\.\\.\\.", 414, "bytes"),
    ),
    "many fields": (
        request(b"GET /x HTTP/1.1", b"Host: a", *[b"a: b"] * 200),
        ("GET /x HTTP/1.1", 431, "201 field lines"),
    ),
    "large content": (
        request(b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: 2000"),
        ("POST /x HTTP/1.1", 413, "2000 bytes of content"),
    ),
    "large content of open length": (
        request(b"POST /x HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        + b"7d0\r\n"
        + bytes(2000)
        + b"\r\n",
        ("POST /x HTTP/1.1", 413, "content"),
    ),
    "expectation": (
        request(b"POST /x HTTP/1.1", b"Host: a", b"Expect: more", b"Content-Length: 1"),
        ("POST /x HTTP/1.1", 417, "only 100-continue"),
    ),
    "transfer coding": (
        request(b"POST /x HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip"),
        ("POST /x HTTP/1.1", 501, "transfer coding"),
    ),
    "trace": (
        request(b"TRACE /x HTTP/1.1", b"Host: a"),
        ("TRACE /x HTTP/1.1", 405, "TRACE is not served"),
    ),
    "broken content": (
        request(b"POST /x HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + b"zz\r\n",
        ("POST /x HTTP/1.1", 400, "chunk"),
    ),
}

ON_HTTP_3 = {
    "malformed field": (
        headers(b"GET", b"/a?b", (b"bad name", b"x")),
        ("GET /a\\?b HTTP/3", "-", "invalid field name"),
    ),
    "a path that forges a line": (
        headers(b"GET", b'/\x1b[2J"\r\n127.0.0.1:9 "GET /'),
        (
            "GET /\\\\x1b\\[2J\\\\x22\\\\x0d\\\\x0a127.0.0.1:9 \\\\x22GET / HTTP/3",
            "-",
            "path",
        ),
    ),
    "content before the end is less": (
        headers(b"POST", b"/x", (b"content-length", b"5")) + frame(DATA, b"abc"),
        ("POST /x HTTP/3", "-", "less content"),
    ),
    "long target": (
        headers(b"GET", b"/" + b"a" * 17_000),
        ("GET /a{2047}\\.\\.\\. HTTP/3", 414, "max_target_bytes"),
    ),
    "many fields": (
        headers(b"GET", b"/x", *[(b"a", b"b")] * 200),
        ("-|GET /x HTTP/3", 431, "field lines"),
    ),
    "large content": (
        headers(b"POST", b"/x", (b"content-length", b"2000")),
        ("POST /x HTTP/3", 413, "2000 bytes of content"),
    ),
    "large content of open length": (
        headers(b"POST", b"/x") + frame(DATA, bytes(2000)),
        ("POST /x HTTP/3", 413, "content"),
    ),
    "expectation": (
        headers(b"POST", b"/x", (b"expect", b"more")),
        ("POST /x HTTP/3", 417, "only 100-continue"),
    ),
    "trace": (headers(b"TRACE", b"/x"), ("TRACE /x HTTP/3", 405, "TRACE is not served")),
    "no head": (frame(0x21, b"grease"), ("-", "-", "no header section")),
}


def expected(request_line: str, status: object, size: int, reason: str) -> re.Pattern[str]:
    return re.compile(
        rf'127\.0\.0\.1:\d+ "(?:{request_line})" {status} {size} \d+\.\dms \([^)]*{reason}[^)]*\)'
    )


@pytest.mark.parametrize("case", ON_HTTP_1)
@asynctest
async def test_a_refusal_on_http_1_is_one_line(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    data, (request_line, status, reason) = ON_HTTP_1[case]
    async with serving_h1(echo, access_log=True, max_content_bytes=1000) as server:
        client = await server.connect()
        client.send(data)
        response = await client.response()
        assert response.status == status
        await client.rest()
        client.close()
        await server.until(lambda: not server.connections)
    (line,) = lines(caplog)
    pattern = expected(request_line, status, len(response.content), reason)
    assert pattern.fullmatch(line), line


@pytest.mark.parametrize("case", ON_HTTP_3)
@asynctest
async def test_a_refusal_on_http_3_is_one_line(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    data, (request_line, status, reason) = ON_HTTP_3[case]
    async with (
        serving_h3(lambda exchange: None, max_content_bytes=1000) as server,
        H3Client(server.port) as client,
    ):
        stream = client.send(client.open(), data, end=True)
        await client.until(lambda: stream.done or stream.reset_code is not None)
        assert stream.status == (None if status == "-" else status)
        await client.settled()
    (line,) = lines(caplog)
    assert expected(request_line, status, 0, reason).fullmatch(line), line


@asynctest
async def test_a_head_that_is_late_on_http_1_is_one_line_with_the_time_it_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tests.h1.serving import Clock

    caplog.set_level(logging.INFO, "tercel.access")
    async with serving_h1(echo, clock=Clock(), access_log=True, header_timeout=10) as server:
        client = await server.connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost:")
        await server.until(lambda: server.connections and server.connection.http.started)
        await server.pass_time(11)
        assert (await client.response()).status == 408
    (line,) = lines(caplog)
    assert re.fullmatch(r'127.0.0.1:\d+ "GET /slow HTTP/1.1" 408 \d+ 11000.0ms \(.*\)', line), line


@asynctest
async def test_a_head_that_is_late_on_http_3_is_one_line_with_the_time_it_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    async with serving_h3(header_timeout=0.1) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), headers()[:3])
        await client.until(lambda: stream.done)
        assert stream.status == 408
    (line,) = lines(caplog)
    assert re.fullmatch(r'127.0.0.1:\d+ "-" 408 0 \d\d+\.\dms \(.* in time\)', line), line


async def waiting(exchange: object) -> None:
    await asyncio.Event().wait()


@asynctest
async def test_overload_on_http_1_is_told_with_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    async with serving_h1(
        waiting, access_log=True, max_concurrency=1, max_request_rate=2
    ) as server:
        first, second = await server.connect(), await server.connect()
        first.get("/1")
        await server.application.exchange()
        for target in ("/2", "/3", "/4"):
            second.get(target)
            await second.response()
        found = lines(caplog)
    assert [re.sub(r"^\S+ | 0 [0-9.]+ms", "", line) for line in found] == [
        '"GET /2 HTTP/1.1" 503 (max_concurrency)',
        '"GET /3 HTTP/1.1" 503 (max_concurrency)',
        '"GET /4 HTTP/1.1" 429 (max_request_rate)',
    ]


@asynctest
async def test_overload_on_http_3_is_told_with_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    async with serving_h3(waiting, max_concurrency=1) as server, H3Client(server.port) as client:
        client.begin("GET", "/1")
        await server.until(lambda: len(server.exchanges) == 1)
        assert (await client.request("GET", "/2")).status == 503
        (line,) = lines(caplog)
    assert line.endswith(" (max_concurrency)")
    assert '"GET /2 HTTP/3" 503 0 ' in line


@asynctest
async def test_without_an_access_log_refusals_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    async with serving_h1(echo, access_log=False) as server:
        client = await server.connect()
        client.send(b"nonsense\r\n\r\n")
        assert (await client.response()).status == 400
    async with serving_h3(access_log=False) as server, H3Client(server.port) as client:
        stream = client.send(client.open(), headers(b"TRACE"), end=True)
        await client.until(lambda: stream.done)
    assert lines(caplog) == []
