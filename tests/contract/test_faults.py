"""Applications that fail or break the rules, beside the tables in test_mistakes.py."""

import asyncio
import logging

import pytest

from tests.contract.apps import App, Receive, Scope, Send, body, http_only, respond, start
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest, turns


def faulty(fault: App) -> App:
    """`fault` at /fault, and elsewhere an application that works."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fault":
            await fault(scope, receive, send)
        else:
            await respond(send, b"works")

    return app


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


LARGE_FIELD = [(b"x-large", b"a" * 70_000)]


async def sends_it_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"some", LARGE_FIELD)


async def sends_it_before_content(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, LARGE_FIELD)
    await turns()
    await body(send, b"some", more=True)
    await body(send)


async def sends_it_after_content(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, trailers=True)
    await body(send, b"some")
    await send({"type": "http.response.trailers", "headers": LARGE_FIELD})


async def hints_at_it(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.early_hint", "links": [LARGE_FIELD[0][1]]})
    await respond(send, b"some")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "app", [sends_it_at_once, sends_it_before_content, sends_it_after_content, hints_at_it]
)
@asynctest
async def test_a_field_that_a_version_cannot_carry_is_an_error_at_once(
    pair: Pair, app: App, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(faulty(app)) as client:
        for _ in range(3):
            exchange = await (await client.open(method, "/fault", [(b"te", b"trailers")])).over()
            if client.http_version == "1.1":
                assert (exchange.status, exchange.broken) == (200, False)
            elif app is sends_it_after_content:
                # There is no such section where there is no content.
                assert exchange.broken == (method == "GET")
            else:
                assert (exchange.status, exchange.broken) == (500, False)
            assert bytes((await client.get("/")).content) == b"works"
        assert client.connections == 1
    assert all("cannot carry" in str(record.exc_info) for record in errors(caplog))


async def starts_only(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, [(b"etag", b'"1"')], status=int(scope["query_string"]))


async def starts_and_waits(scope: Scope, receive: Receive, send: Send) -> None:
    await starts_only(scope, receive, send)
    await turns()


async def starts_and_announces_trailers(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, [(b"etag", b'"1"')], status=int(scope["query_string"]), trailers=True)
    await body(send)


@pytest.mark.parametrize("app", [starts_only, starts_and_waits, starts_and_announces_trailers])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@asynctest
async def test_a_response_that_can_have_no_content_is_whole_with_its_start_message(
    pair: Pair, app: App, method: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(faulty(app)) as client:
        response = await client.request(method, f"/fault?{status}")
        assert (response.status, bytes(response.content)) == (status, b"")
        assert response.header[b"etag"] == b'"1"'
        assert bytes((await client.get("/")).content) == b"works"
        assert client.connections == 1
    (record,) = errors(caplog)
    assert "returned where http.response." in record.getMessage()


@asynctest
async def test_a_head_that_cannot_be_sent_is_a_500_without_content_too(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, [(b"content-length", b"6"), (b"content-length", b"7")])

    async with pair(faulty(fault)) as client:
        assert (await client.request("HEAD", "/fault")).status == 500
        assert bytes((await client.get("/")).content) == b"works"
        assert client.connections == 1
    assert len(errors(caplog)) == 1


@asynctest
async def test_the_traceback_of_an_application_is_logged_once(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(faulty(raises_at_once)) as client:
        await client.get("/fault")
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


INJECTIONS = [
    (b"x-name", b"value\r\nset-cookie: stolen=1"),
    (b"x-name", b"value\nset-cookie: stolen=1"),
    (b"x-name", b"value\rset-cookie: stolen=1"),
    (b"x-name", b"value\0"),
    (b"x-name\r\nset-cookie", b"stolen=1"),
    (b"x-name: injected\r\nx", b"1"),
    (b"x name", b"value"),
    (b":status", b"200"),
    (b"", b"value"),
]


@pytest.mark.parametrize("field", INJECTIONS)
@asynctest
async def test_a_field_that_would_inject_others_becomes_a_500(
    pair: Pair, field: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"content", [field])

    async with pair(faulty(fault)) as client:
        response = await client.get("/fault")
        assert response.status == 500
        assert not {b"set-cookie", b"x-name", b"x", b"x name"} & set(response.header)
        assert bytes((await client.get("/")).content) == b"works"
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("field", INJECTIONS)
@asynctest
async def test_a_trailer_that_would_inject_others_breaks_the_response(
    pair: Pair, field: tuple[bytes, bytes]
) -> None:
    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, trailers=True)
        await body(send, b"content")
        await send({"type": "http.response.trailers", "headers": [field]})

    async with pair(faulty(fault)) as client:
        exchange = await client.open("GET", "/fault", [(b"te", b"trailers")])
        await exchange.over()
        assert exchange.broken or exchange.status == 500
        assert exchange.trailers == []


@asynctest
async def test_an_application_may_go_on_after_its_error_was_told_to_it(pair: Pair) -> None:
    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await start(send, [(b"x-bad", b"\r\n")])
        except Exception as error:
            await respond(send, type(error).__name__.encode(), status=503)

    async with pair(faulty(fault)) as client:
        response = await client.get("/fault")
        assert (response.status, bytes(response.content)) == (503, b"LocalProtocolError")


@asynctest
async def test_a_fault_does_not_touch_the_exchanges_beside_it(pair: Pair) -> None:
    release = asyncio.Event()

    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"some", more=True)
        if scope["query_string"]:
            raise ZeroDivisionError
        await release.wait()
        await body(send, b" and the rest")

    async with pair(faulty(fault)) as client:
        beside = await client.open("GET", "/fault")
        await beside.received(4)
        assert (await (await client.open("GET", "/fault?raise")).over()).broken
        release.set()
        await beside.whole()
        assert bytes(beside.content) == b"some and the rest"
