"""Messages: methods, content of every size, interim responses, trailers, files."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.contract.apps import (
    Receive,
    Scope,
    Send,
    body,
    content,
    echo,
    hello,
    http_only,
    read,
    respond,
    respond_json,
    start,
)
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest

SIZES = [0, 1, 16_384, 1_048_576]


@asynctest
async def test_a_get_is_answered_with_status_fields_and_content(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await read(receive) == b""
        await respond(send, b"teapot", [(b"x-kind", b"short")], status=418)

    async with pair(app) as client:
        response = await client.get()
        assert (response.status, bytes(response.content)) == (418, b"teapot")
        assert response.header[b"x-kind"] == b"short"


@asynctest
async def test_a_head_request_gets_the_head_of_a_get_and_no_content(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"hello", [(b"content-length", b"5"), (b"x-method", b"seen")])

    async with pair(app) as client:
        response = await client.request("HEAD")
        assert (response.status, bytes(response.content)) == (200, b"")
        assert response.header[b"content-length"] == b"5"
        after = await client.get()
        assert bytes(after.content) == b"hello"


@pytest.mark.parametrize("status", [204, 304])
@asynctest
async def test_a_response_that_may_have_no_content_gets_none(pair: Pair, status: int) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"never to be seen", [(b"etag", b'"1"')], status=status)

    async with pair(app) as client:
        response = await client.get()
        assert (response.status, bytes(response.content)) == (status, b"")
        assert response.header[b"etag"] == b'"1"'
        assert b"transfer-encoding" not in response.header
        assert (await client.get()).status == status


@asynctest
async def test_options_of_the_server_as_a_whole_reaches_the_application(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(send, [scope["method"], scope["path"], scope["raw_path"].decode()])

    async with pair(app) as client:
        response = await client.request("OPTIONS", "*")
        assert json.loads(response.content) == ["OPTIONS", "*", "*"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("has_length", [True, False], ids=["content-length", "open length"])
@asynctest
async def test_content_arrives_unchanged_in_both_directions(
    pair: Pair, size: int, has_length: bool
) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        data = await read(receive)
        fields = [(b"x-sha256", hashlib.sha256(data).hexdigest().encode())]
        if has_length:
            fields.append((b"content-length", b"%d" % len(data)))
        await start(send, fields)
        for at in range(0, len(data), 50_000):
            await body(send, data[at : at + 50_000], more=True)
        await body(send)

    data = os.urandom(size)
    async with pair(app) as client:
        if has_length:
            exchange = await client.open("POST", content=data)
        else:
            exchange = await client.begin("POST", "/")
            await exchange.send(data)
            await exchange.end()
        response = await exchange.whole()
        assert response.status == 200
        assert response.header[b"x-sha256"] == hashlib.sha256(data).hexdigest().encode()
        assert bytes(response.content) == data


@asynctest
async def test_100_continue_is_sent_when_the_application_reads(pair: Pair) -> None:
    async with pair(echo) as client:
        exchange = await client.begin(
            "POST", "/", [(b"expect", b"100-continue"), (b"content-length", b"5")]
        )
        await exchange.until(lambda: bool(exchange.interim))
        await exchange.send(b"hello")
        await exchange.end()
        await exchange.whole()
        assert [interim.status for interim in exchange.interim] == [100]
        assert (exchange.status, bytes(exchange.content)) == (200, b"hello")


@asynctest
async def test_100_continue_is_not_sent_when_the_application_does_not_read(pair: Pair) -> None:
    async with pair(hello) as client:
        exchange = await client.begin(
            "POST", "/", [(b"expect", b"100-continue"), (b"content-length", b"5")]
        )
        await exchange.whole()
        assert exchange.interim == []
        assert (exchange.status, bytes(exchange.content)) == (200, b"hello")


@asynctest
async def test_another_expectation_is_refused_with_417(pair: Pair) -> None:
    async with pair(hello) as client:
        exchange = await client.begin("POST", "/", [(b"expect", b"x"), (b"content-length", b"0")])
        assert (await exchange.head()).status == 417


@asynctest
async def test_early_hints_come_before_the_response(pair: Pair) -> None:
    links = [b"</style.css>; rel=preload", b"</app.js>; rel=preload"]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": links})
        # The response waits until the client has the hints, and says so.
        await respond(send, await read(receive))

    async with pair(app) as client:
        exchange = await client.begin("POST", "/")
        await exchange.until(lambda: bool(exchange.interim))
        assert exchange.status is None
        await exchange.send(b"seen")
        await exchange.end()
        await exchange.whole()
        assert [(item.status, item.fields) for item in exchange.interim] == [
            (103, [(b"link", link) for link in links])
        ]
        assert (exchange.status, bytes(exchange.content)) == (200, b"seen")


@asynctest
async def test_trailers_of_a_request_reach_the_application_apart_from_its_fields(
    pair: Pair,
) -> None:
    seen = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        trailers = scope["extensions"]["tercel.request.trailers"]
        before = list(trailers)
        data = await read(receive)
        seen.append((data, before, list(trailers), dict(scope["headers"]).get(b"x-sum")))
        await respond(send)

    async with pair(app) as client:
        exchange = await client.begin("POST", "/", [(b"trailer", b"x-sum")])
        await exchange.send(b"content")
        await exchange.end([(b"x-sum", b"42"), (b"x-more", b"1")])
        await exchange.whole()
    assert seen == [(b"content", [], [(b"x-sum", b"42"), (b"x-more", b"1")], None)]


@http_only
async def trailing(scope: Scope, receive: Receive, send: Send) -> None:
    """Content with a trailer in two messages."""
    await start(send, trailers=True)
    await body(send, b"content")
    kind = "http.response.trailers"
    await send({"type": kind, "headers": [(b"x-sum", b"42")], "more_trailers": True})
    await send({"type": kind, "headers": [(b"x-more", b"1")]})


@asynctest
async def test_trailers_of_a_response_reach_a_client_that_takes_them(pair: Pair) -> None:
    async with pair(trailing) as client:
        response = await client.get("/", (b"te", b"trailers"))
        assert bytes(response.content) == b"content"
        assert response.trailers == [(b"x-sum", b"42"), (b"x-more", b"1")]
        assert b"x-sum" not in response.header


@asynctest
async def test_trailers_of_a_response_are_kept_from_a_client_that_takes_none(pair: Pair) -> None:
    async with pair(trailing) as client:
        response = await client.get()
        assert (bytes(response.content), response.trailers) == (b"content", [])


@asynctest
async def test_a_file_is_sent_by_its_path(pair: Pair, tmp_path: Path) -> None:
    data = os.urandom(700_001)
    path = tmp_path / "file"
    path.write_bytes(data)

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, [(b"content-length", b"%d" % len(data))])
        await send({"type": "http.response.pathsend", "path": str(path)})

    async with pair(app) as client:
        assert bytes((await client.get()).content) == data


@asynctest
async def test_a_file_is_sent_by_a_relative_path(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await start(send)
        await send({"type": "http.response.pathsend", "path": "file"})

    async with pair(app, pathsend=True) as client:
        assert bytes((await client.get()).content) == b"content"


@asynctest
async def test_parts_of_an_open_file_are_sent_between_other_content(
    pair: Pair, tmp_path: Path
) -> None:
    data = os.urandom(400_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"before ", more=True)
        with path.open("rb") as file:
            part = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
            await send(part | {"offset": 100_000, "count": 200_000})
        await body(send, b" after")

    async with pair(app) as client:
        response = await client.get()
        assert bytes(response.content) == b"before " + data[100_000:300_000] + b" after"


@asynctest
async def test_empty_parts_of_content_end_nothing(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        parts = [part async for part in content(receive)]
        await start(send)
        for part in (b"", *parts, b""):
            await body(send, part, more=True)
        await body(send, b"end")

    async with pair(app) as client:
        exchange = await client.begin("POST", "/")
        await exchange.send(b"")
        await exchange.send(b"some ")
        await exchange.end()
        assert bytes((await exchange.whole()).content) == b"some end"


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        ([b"trailers"], True),
        ([b"Trailers"], True),
        ([b"trailers", b"trailers"], True),
        ([b"gzip;q=0.5, trailers"], True),
        ([b"gzip;q=0.5", b"trailers"], True),
        ([b"trailers;q=0.5"], False),
        ([b"gzip"], False),
        ([], False),
    ],
)
@asynctest
async def test_trailers_go_to_a_client_whose_te_has_them_without_a_weight(
    pair: Pair, lines: list[bytes], taken: bool
) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, trailers=True)
        await body(send, b"content")
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    async with pair(app) as client:
        exchange = await client.open("GET", "/", [(b"te", line) for line in lines])
        await exchange.over()
        if client.http_version == "3" and {line.lower() for line in lines} - {b"trailers"}:
            assert exchange.broken  # RFC 9114 4.2: TE has nothing but trailers there
        else:
            assert bytes(exchange.content) == b"content"
            assert exchange.trailers == ([(b"x-sum", b"1")] if taken else [])
