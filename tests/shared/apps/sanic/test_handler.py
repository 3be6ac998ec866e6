"""One call of a Sanic application on a stream without a transport."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("sanic")

from sanic import HTTPResponse, Request, Sanic, text
from sanic.exceptions import ServerError

from tercel.shared.apps.sanic.application import SanicApplication
from tercel.shared.errors import ConnectionClosed, ResetReason
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, turns
from tests.support.memory_stream import MemoryStream, request_head

POST = {"method": b"POST"}


class Call:
    """One request to `handler`, which answers GET and POST of every path."""

    def __init__(self, handler: Callable[[Request], Any], **head: Any) -> None:
        Sanic._app_registry.pop("called", None)
        self.app: Sanic[Any, Any] = Sanic("called")
        self.app.config.TOUCHUP = False
        self.app.add_route(handler, "/", methods=["GET", "POST"], name="page", stream=True)
        self.stream = MemoryStream(request_head(**head))
        self._tasks = TaskSet(asyncio.get_running_loop())
        self._application = SanicApplication(
            self.app, settings=Settings(), tasks=self._tasks, background=self._tasks
        )

    async def begin(self) -> "Call":
        await self._application.startup()
        self.stream.handler = self._application.open(self.stream)
        await turns()
        return self

    async def end(self) -> MemoryStream:
        assert await self._tasks.wait(PATIENCE_SECONDS), "the handler still runs"
        await self._application.shutdown()
        return self.stream


async def answered(handler: Callable[[Request], Any], **head: Any) -> MemoryStream:
    call = Call(handler, **head)
    call.stream.content.end([])
    await call.begin()
    return await call.end()


def header(stream: MemoryStream) -> dict[bytes, bytes]:
    assert stream.response is not None
    return dict(stream.response.fields)


@asynctest
async def test_response_is_written_whole() -> None:
    stream = await answered(lambda request: text("hello"))
    assert (stream.status, stream.body, stream.ended) == (200, b"hello", True)
    assert header(stream)[b"content-length"] == b"5"


@asynctest
async def test_response_that_may_have_no_content_has_none() -> None:
    stream = await answered(lambda request: text("surplus", status=204))
    assert (stream.status, stream.body, stream.ended) == (204, b"", True)
    assert b"content-length" not in header(stream)


@asynctest
async def test_framing_of_http_1_is_not_the_application_s_to_write() -> None:
    stream = await answered(lambda request: text("x", headers={"transfer-encoding": "chunked"}))
    assert b"transfer-encoding" not in header(stream)


@asynctest
async def test_line_break_in_a_field_does_not_become_another_field() -> None:
    stream = await answered(lambda request: text("x", headers={"x-a": "1\r\nx-b: 2"}))
    assert b"x-b" not in header(stream)


@asynctest
async def test_status_that_is_none_is_500() -> None:
    stream = await answered(lambda request: text("x", status=99))
    assert stream.status == 500


@asynctest
async def test_a_handler_that_exits_is_a_500() -> None:
    def exits(request: Request) -> HTTPResponse:
        sys.exit("no more")

    assert (await answered(exits)).status == 500


@asynctest
async def test_content_is_consumed_as_it_is_read() -> None:
    consumed = []

    async def handler(request: Request) -> HTTPResponse:
        assert request.stream is not None
        async for _ in request.stream:
            consumed.append(call.stream.consumed)
        return text("read")

    call = await Call(handler, **POST).begin()
    assert (call.stream.consumed, call.stream.content_wanted) == (0, 1)
    for part in (b"abc", b"de"):
        call.stream.receive_content(part)
        await turns()
    call.stream.receive_end([])
    stream = await call.end()
    assert (consumed, stream.body) == ([3, 5], b"read")


@asynctest
async def test_send_waits_while_too_much_is_unsent() -> None:
    sent = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        for number in range(3):
            await response.send(b"x")
            sent.append(number)

    call = Call(handler)
    call.stream.content.end([])
    call.stream.gate.pause()
    await call.begin()
    assert sent == []
    call.stream.gate.resume()
    stream = await call.end()
    assert (sent, stream.body, stream.ended) == ([0, 1, 2], b"xxx", True)


@asynctest
async def test_nothing_can_be_sent_after_the_end() -> None:
    errors = []

    async def handler(request: Request) -> None:
        response = await request.respond()
        await response.send(b"all", end_stream=True)
        try:
            await response.send(b"more")
        except ServerError as error:
            errors.append(error)

    stream = await answered(handler)
    assert (stream.body, len(errors)) == (b"all", 1)


@asynctest
async def test_response_shorter_than_it_promised_is_reset() -> None:
    async def handler(request: Request) -> None:
        response = await request.respond(headers={"content-length": "10"})
        await response.send(b"short")
        await response.eof()

    stream = await answered(handler)
    assert (stream.ended, stream.resets) == (False, [ResetReason.INTERNAL_ERROR])


@asynctest
async def test_client_that_leaves_cancels_the_handler() -> None:
    ended = []

    async def handler(request: Request) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            assert request.conn_info is not None
            ended.append(request.conn_info.lost)

    call = Call(handler)
    call.stream.content.end([])
    await call.begin()
    call.stream.receive_abort(ConnectionClosed("gone"))
    stream = await call.end()
    assert (ended, stream.status) == ([False], None)


@asynctest
async def test_handler_may_be_cancelled_by_itself_and_the_client_gets_an_answer() -> None:
    async def handler(request: Request) -> HTTPResponse:
        raise asyncio.CancelledError("by myself")

    stream = await answered(handler)
    assert stream.status == 500


@asynctest
async def test_server_s_cancellation_goes_through() -> None:
    async def handler(request: Request) -> None:
        await asyncio.Event().wait()

    call = Call(handler)
    call.stream.content.end([])
    await call.begin()
    await call._tasks.cancel_all()
    stream = await call.end()
    assert (stream.status, stream.resets) == (None, [ResetReason.INTERNAL_ERROR])


@asynctest
async def test_extended_connect_is_routed_as_the_get_that_it_stands_for() -> None:
    seen = []

    def handler(request: Request) -> HTTPResponse:
        seen.append((request.method, request.headers.upgrade))
        return text("seen")

    await answered(handler, method=b"CONNECT", protocol=b"websocket")
    assert seen == [("GET", "websocket")]


@asynctest
async def test_target_that_is_no_url_is_answered_by_the_application() -> None:
    stream = await answered(lambda request: text("never"), target=b"/" + b"x" * 70_000)
    assert stream.status == 414
