"""Limits of a message: what is over them is refused, and what is at them is served."""

import asyncio

import pytest

from tests.contract.apps import Receive, Scope, Send, echo, hello, http_only, respond
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest

LIMIT = 10_000


@asynctest
async def test_content_of_exactly_the_limit_is_served(pair: Pair) -> None:
    async with pair(echo, max_content_bytes=LIMIT) as client:
        response = await client.request("POST", content=bytes(LIMIT))
        assert (response.status, len(response.content)) == (200, LIMIT)


@asynctest
async def test_a_content_length_over_the_limit_is_refused_before_the_application_is_asked(
    pair: Pair,
) -> None:
    called = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["path"])
        await respond(send)

    async with pair(app, max_content_bytes=LIMIT) as client:
        exchange = await client.begin("POST", "/", [(b"content-length", b"%d" % (LIMIT + 1))])
        assert (await exchange.head()).status == 413
        assert called == []


@asynctest
async def test_content_of_open_length_is_refused_where_it_passes_the_limit(pair: Pair) -> None:
    begun = asyncio.Event()
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            assert message["more_body"]
            begun.set()
        told.set_result(message["type"])

    async with pair(app, max_content_bytes=LIMIT) as client:
        exchange = await client.begin("POST", "/")
        await exchange.send(bytes(LIMIT // 2))
        await begun.wait()
        await exchange.send(bytes(LIMIT))
        assert (await exchange.head()).status == 413
        assert await told == "http.disconnect"


@asynctest
async def test_a_field_section_over_its_size_is_refused_with_431(pair: Pair) -> None:
    async with pair(hello, max_field_section_bytes=4096) as client:
        exchange = await client.open("GET", "/", [(b"x-large", b"x" * 5000)])
        assert (await exchange.head()).status == 431
        assert (await client.get()).status == 200


@asynctest
async def test_too_many_fields_are_refused_with_431(pair: Pair) -> None:
    async with pair(hello, max_fields=20) as client:
        fields = [(b"x-%d" % index, b"1") for index in range(21)]
        exchange = await client.open("GET", "/", fields)
        assert (await exchange.head()).status == 431
        assert (await client.get("/", *fields[:15])).status == 200


@asynctest
async def test_180_cookies_are_served_beside_the_fields_of_a_browser(pair: Pair) -> None:
    told = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.extend(line for line in scope["headers"] if line[0] == b"cookie")
        await respond(send)

    # As many as Chromium keeps for a site; over HTTP/3 each is a line (RFC 9114 4.2.1).
    cookies = [b"name-%d=%d" % (index, index) for index in range(180)]
    joined = (b"cookie", b"; ".join(cookies))
    async with pair(app) as client:
        lines = [(b"cookie", value) for value in cookies]
        fields = [(b"x-%d" % index, b"1") for index in range(20)]
        fields += lines if client.http_version == "3" else [joined]
        assert (await client.get("/", *fields)).status == 200
        assert told == [joined]


@asynctest
async def test_cookies_do_not_hide_too_many_other_fields(pair: Pair) -> None:
    async with pair(hello, max_fields=20) as client:
        fields = [(b"x-%d" % index, b"1") for index in range(20)]
        exchange = await client.open("GET", "/", [(b"cookie", b"a=b"), *fields])
        assert (await exchange.head()).status == 431


@asynctest
async def test_a_target_over_its_size_is_refused_with_414(pair: Pair) -> None:
    async with pair(hello, max_target_bytes=100) as client:
        assert (await (await client.open("GET", "/" + "a" * 100)).head()).status == 414
        assert (await client.get("/" + "a" * 99)).status == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@asynctest
async def test_methods_that_are_for_proxies_never_reach_the_application(
    pair: Pair, method: str
) -> None:
    called = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["method"])
        await respond(send)

    async with pair(app) as client:
        exchange = await (await client.open(method, "/")).over()
        assert exchange.broken or exchange.status in (400, 405, 501)
        assert called == []
