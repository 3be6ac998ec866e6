"""Clients that close cleartext connections: a FIN may be the end of a request or of the client."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sanic import HTTPResponse, Request, Sanic, text

from tests.contract.apps import Receive, Scope, Send, body, http_only, read, respond, start
from tests.contract.cleartext import PLACES, cleartext
from tests.support.asynchronous import on_both_loops

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
_POLLS = 20


@http_only
async def _answers_on_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's content and what comes after it."""
    content = await read(receive)
    message = await receive()
    await respond(send, content + b" " + message["type"].encode())


@pytest.mark.parametrize("place", PLACES)
@on_both_loops
async def test_an_application_hears_that_a_client_has_closed_its_side(
    place: str, tmp_path: Path
) -> None:
    async with cleartext(_answers_on_disconnect, place, tmp_path) as server:
        reader, writer = await server.ask(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nsent"
        )
        writer.write_eof()
        # The client still reads: what is sent after that reaches it.
        response = await reader.read()
        assert response.endswith(b"\r\n\r\nsent http.disconnect"), response
        writer.close()


@on_both_loops
async def test_so_does_that_of_a_request_that_waited_behind_another(tmp_path: Path) -> None:
    async with cleartext(_answers_on_disconnect, "tcp", tmp_path) as server:
        reader, writer = await server.ask(GET + GET)
        writer.write_eof()
        assert (await reader.read()).count(b" http.disconnect") == 2
        writer.close()


@pytest.mark.parametrize("place", PLACES)
@on_both_loops
async def test_abandoned_polls_end_and_leave_no_connection(place: str, tmp_path: Path) -> None:
    asked = left = 0
    all_left = asyncio.Event()

    @http_only
    async def poll(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked, left
        await read(receive)
        await start(send)
        await body(send, b"wait", more=True)
        asked += 1
        assert (await receive())["type"] == "http.disconnect"
        left += 1
        if left == _POLLS:
            all_left.set()

    async with cleartext(poll, place, tmp_path) as server:
        for _ in range(_POLLS):
            reader, writer = await server.ask(GET)
            await reader.readuntil(b"wait")
            writer.close()
        await all_left.wait()
        assert asked == _POLLS
        while server.server.connections:
            await asyncio.sleep(0)


@on_both_loops
async def test_a_sanic_handler_is_cancelled_when_its_client_closes(tmp_path: Path) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    app = _sanic_app("left")

    @app.get("/")
    async def poll(request: Request) -> HTTPResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return text("never")

    async with cleartext(app, "tcp", tmp_path) as server:
        _, writer = await server.ask(GET)
        await begun.wait()
        writer.close()
        await cancelled.wait()
        while server.server.connections:
            await asyncio.sleep(0)


@on_both_loops
async def test_a_sanic_handler_that_has_not_begun_answers_a_client_that_closed_its_side(
    tmp_path: Path,
) -> None:
    app = _sanic_app("answers")

    @app.get("/")
    async def answer(request: Request) -> HTTPResponse:
        return text("answered")

    async with cleartext(app, "tcp", tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(GET)
        writer.write_eof()
        assert (await reader.read()).endswith(b"answered")
        writer.close()


def _sanic_app(name: str) -> Sanic[Any, Any]:
    Sanic._app_registry.pop(name, None)
    app: Sanic[Any, Any] = Sanic(name)
    # It would rewrite Sanic's own classes, for this whole process.
    app.config.TOUCHUP = False
    return app
