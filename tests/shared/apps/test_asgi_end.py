"""How an ASGI exchange ends: as it should, by a failure, or because the client has gone."""

import asyncio
import logging
from typing import Any

import pytest

from tercel.shared.apps.endings import is_disconnect
from tercel.shared.errors import ConnectionClosed, LocalProtocolError, ResetReason, StreamAborted
from tests.support.asynchronous import asynctest, turns
from tests.support.memory_stream import END, START, Exchange, answer, request_head, respond

POST = {"method": b"POST"}


class ClientDisconnect(Exception):
    """As Starlette's."""


@asynctest
async def test_unread_content_is_dropped_when_the_response_is_complete() -> None:
    background = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        await background.wait()

    exchange = Exchange(app, request_head(**POST))
    exchange.open()
    exchange.stream.receive_content(b"x" * 100)
    await turns()
    assert exchange.stream.content.discarding
    assert exchange.stream.consumed == 100
    background.set()
    await exchange.finish()


@asynctest
async def test_background_work_goes_on_after_the_response() -> None:
    background = asyncio.Event()
    done = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        await background.wait()
        done.append(True)

    exchange = Exchange(app)
    exchange.open()
    exchange.receive()
    await turns()
    assert exchange.stream.ended
    assert len(exchange.tasks) == 1
    background.set()
    await exchange.finish()
    assert done == [True]
    assert exchange.stream.resets == []


@asynctest
async def test_error_before_the_head_is_a_500_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("broken")

    stream = await answer(app, request_head(target=b"/a"))
    assert stream.status == 500
    assert stream.written == [
        (
            "head",
            (500, [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")]),
            False,
        ),
        ("content", b"Internal Server Error", True),
    ]
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("tercel.asgi", "GET '/a' failed")
    ]
    assert caplog.records[0].exc_info[0] is KeyError


@asynctest
async def test_error_between_start_and_first_content_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        raise KeyError("broken")

    assert (await answer(app)).status == 500


@asynctest
async def test_error_after_the_head_resets_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({**END, "more_body": True})
        raise KeyError("broken")

    stream = await answer(app)
    assert stream.status == 200
    assert stream.resets == [ResetReason.INTERNAL_ERROR]
    assert len(caplog.records) == 1


@asynctest
async def test_error_after_the_response_is_logged_and_resets_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        raise KeyError("background")

    stream = await answer(app)
    assert stream.ended
    assert stream.resets == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize("sent", [0, 1])
@asynctest
async def test_return_before_content_is_a_500(caplog: pytest.LogCaptureFixture, sent: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in [START][:sent]:
            await send(message)

    stream = await answer(app)
    assert stream.status == 500
    expected = ["http.response.start", "http.response.body"][sent]
    assert caplog.messages == [f"GET '/' returned where {expected} was expected"]


@asynctest
async def test_return_before_the_last_content_resets() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({**END, "more_body": True})

    assert (await answer(app)).resets == [ResetReason.INTERNAL_ERROR]


@asynctest
async def test_return_without_promised_trailers_resets(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send(END)

    head = request_head(fields=[(b"te", b"trailers")])
    assert (await answer(app, head)).resets == [ResetReason.INTERNAL_ERROR]
    assert caplog.messages == ["GET '/' returned where http.response.trailers was expected"]


@asynctest
async def test_broken_message_rule_is_raised_in_the_application() -> None:
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(END)
        except LocalProtocolError as error:
            errors.append(error)
        await respond(send)

    stream = await answer(app)
    assert len(errors) == 1
    assert (stream.status, stream.body) == (200, b"ok")


@asynctest
async def test_return_after_the_client_has_gone_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    exchange = Exchange(app)
    exchange.open()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    stream = await exchange.finish()
    assert caplog.records == []
    assert stream.written == []
    assert stream.resets == []


@asynctest
async def test_send_to_a_client_that_has_gone_raises_and_is_only_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "tercel.asgi")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)

    exchange = Exchange(app)
    exchange.open()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()
    assert [r.levelname for r in caplog.records] == ["DEBUG"]


@asynctest
async def test_error_while_the_client_has_gone_is_still_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("broken")

    exchange = Exchange(app)
    exchange.open()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    stream = await exchange.finish()
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert stream.written == []


@asynctest
async def test_cancelled_application_resets_its_exchange() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    exchange = Exchange(app)
    exchange.open()
    await turns()
    await exchange.tasks.cancel_all()
    assert exchange.stream.resets == [ResetReason.REQUEST_CANCELLED]


@asynctest
async def test_cancelled_background_work_resets_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        await asyncio.Event().wait()

    exchange = Exchange(app)
    exchange.open()
    await turns()
    await exchange.tasks.cancel_all()
    assert exchange.stream.resets == []


@asynctest
async def test_send_after_the_application_returned_raises() -> None:
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(send)

    await answer(app)
    with pytest.raises(LocalProtocolError):
        await kept[0](START)


# -- whose fault ----------------------------------------------------------------------------------


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StreamAborted("gone"), True),
        (ConnectionClosed("gone"), True),
        (ClientDisconnect(), True),
        (raised_from(RuntimeError(), StreamAborted("gone")), True),
        (ExceptionGroup("tasks", [StreamAborted("gone"), ClientDisconnect()]), True),
        (ExceptionGroup("tasks", [StreamAborted("gone"), KeyError()]), False),
        (KeyError(), False),
        (OSError(), False),
        (raised_from(RuntimeError(), KeyError()), False),
    ],
)
def test_only_a_client_that_has_gone_is_no_error(error: Exception, expected: bool) -> None:
    assert is_disconnect(error) is expected
