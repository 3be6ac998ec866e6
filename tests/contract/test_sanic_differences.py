"""docs/sanic.md tells what an application notices that goes over from Sanic's own server."""

from typing import Any

import pytest
from sanic import Sanic, text
from sanic.exceptions import SanicException

from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest


@pytest.fixture
def app() -> Any:
    """Answers with its request's raw header section, and notes what its error handler gets."""
    Sanic._app_registry.pop("differences", None)
    app: Any = Sanic("differences")
    app.config.TOUCHUP = False
    app.ctx.handled = []

    @app.route("/", methods=["GET", "POST"])
    async def raw(request: Any) -> Any:
        return text(request.raw_headers.decode())

    @app.exception(SanicException)
    async def failed(request: Any, error: SanicException) -> Any:
        app.ctx.handled.append(type(error).__name__)
        return text("mine", error.status_code)

    return app


@asynctest
async def test_a_header_section_over_its_limit_is_431_and_no_error_handler_runs(
    pair: Pair, app: Any
) -> None:
    app.config.REQUEST_MAX_HEADER_SIZE = 2048
    async with pair(app) as client:
        exchange = await client.open("GET", "/", [(b"x-large", b"a" * 50_000)])
        assert (await exchange.over()).status == 431
    assert app.ctx.handled == []


@asynctest
async def test_the_limit_of_a_request_is_one_of_its_content(pair: Pair, app: Any) -> None:
    app.config.REQUEST_MAX_SIZE = 1
    async with pair(app) as client:
        assert (await client.get("/")).status == 200
        assert app.ctx.handled == []
        exchange = await client.open("POST", "/", content=b"two")
        assert (await exchange.over()).status == 413
        assert bytes(exchange.content) == b"mine"
    assert app.ctx.handled == ["PayloadTooLarge"]


@asynctest
async def test_raw_headers_have_names_in_lower_case(pair: Pair, app: Any) -> None:
    async with pair(app) as client:
        name = b"X-Mine" if client.http_version == "1.1" else b"x-mine"
        lines = bytes((await client.get("/", (name, b"A"))).content).split(b"\r\n")
        assert sorted(lines) == [b"host: localhost", b"x-mine: A"]
        assert bytes((await client.get("/")).content) == b"host: localhost"


@asynctest
async def test_responses_say_date_and_server_and_not_that_the_connection_persists(
    pair: Pair, app: Any
) -> None:
    async with pair(app) as client:
        header = (await client.get("/")).header
        assert {b"date", b"server"} <= set(header)
        assert b"connection" not in header
        await client.get("/")
        assert client.connections == 1
    async with pair(app, date_header=False, server_name="") as client:
        assert not {b"date", b"server"} & set((await client.get("/")).header)
