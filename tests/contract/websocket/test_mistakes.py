"""Whatever an application gets wrong with a WebSocket, nothing hangs: the tables of mistakes.

As tests/contract/test_mistakes.py for requests; `end_of` says which of the ends it was.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tercel.shared.errors import LocalProtocolError
from tests.contract.apps import App, Message, Receive, Scope, Send
from tests.contract.test_faults import errors
from tests.contract.test_mistakes import (
    LARGE,
    LONG_NAME,
    RAISED,
    called,
    numbered,
    sending,
    settled,
)
from tests.contract.websocket.apps import bye, hear, say, websockets_only
from tests.contract.websocket.client import End, Refused, WebSocketClient
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, turns

REFUSED = "500"
"""It was not open: a whole 500, and one error is logged."""
CLOSED = "1011"
"""It was open: closed with 1011 in peace, and one error is logged."""
BROKEN = "broken"
"""The response that refuses it is visibly not whole, and one error is logged."""
TOLD = "closed, and an error"
"""It was closed, or refused, by the application before the mistake; one error is logged."""
FINE = "closed"
"""No mistake."""

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close", "code": 4000}
TEXT: Message = {"type": "websocket.send", "text": "some"}
DENY: Message = {"type": "websocket.http.response.start", "status": 403, "headers": []}
PART: Message = {"type": "websocket.http.response.body", "body": b"some", "more_body": True}
DENIED: Message = {"type": "websocket.http.response.body", "body": b"no"}

TYPES: dict[str, tuple[list[Any], str]] = {
    "keys that nobody knows": ([{**ACCEPT, "colour": 1}, {**CLOSE, "colour": 2}], FINE),
    **{
        f"subprotocol {value!r:.20}": ([{**ACCEPT, "subprotocol": value}], REFUSED)
        for value in ("", "other", b"chat", ["chat"], 5, "\ud800", "a" * 70_000)
    },
    "subprotocol None": ([{**ACCEPT, "subprotocol": None}, CLOSE], FINE),
    **{
        f"headers {value!r:.30}": ([{**ACCEPT, "headers": value}], REFUSED)
        for value in (
            None,
            5,
            "ab",
            {b"ab": b"cd"},
            [("x-a", "b")],
            [(b"x-a",)],
            [None],
            [(b"x-a", b"\r\n")],
            [(b"upgrade", b"other")],
        )
    },
    **{
        f"message {value!r:.30}": ([value], REFUSED)
        for value in (None, 5, "websocket.accept", {}, {"type": None}, {"type": []})
    },
    **{
        f"{value!r:.30} when it is open": ([ACCEPT, value], CLOSED)
        for value in (None, 5, "websocket.send", {}, {"type": None}, {"type": []})
    },
    **{
        f"text {value!r:.20}": ([ACCEPT, {**TEXT, "text": value}], CLOSED)
        for value in (5, ["text"], {"a": 1}, "\ud800", "before \udfff after")
    },
    **{
        f"bytes {value!r:.20}": ([ACCEPT, {"type": "websocket.send", "bytes": value}], CLOSED)
        for value in (5, [b"bytes"], {b"a": 1})
    },
    # As other servers take it.
    "text of bytes": ([ACCEPT, {**TEXT, "text": b"bytes"}, CLOSE], FINE),
    "bytes of text": ([ACCEPT, {"type": "websocket.send", "bytes": "text"}, CLOSE], FINE),
    "neither text nor bytes": ([ACCEPT, {"type": "websocket.send"}], CLOSED),
    "both text and bytes": ([ACCEPT, {**TEXT, "bytes": b"some"}], CLOSED),
    "text, and bytes None": ([ACCEPT, {**TEXT, "bytes": None}, CLOSE], FINE),
    **{
        f"code {value!r:.20}": ([ACCEPT, {**CLOSE, "code": value}], CLOSED)
        for value in ("1000", b"1000", 1000.0, True, [], -1, 0, 999, 1004, 1005, 1006, 1015, 2999)
    },
    **{
        f"code {value!r:.20}": ([ACCEPT, {**CLOSE, "code": value}], CLOSED)
        for value in (5000, 65_536, 10**30)
    },
    "code None": ([ACCEPT, {**CLOSE, "code": None}], FINE),
    **{
        f"reason {value!r:.20}": ([ACCEPT, {**CLOSE, "reason": value}], CLOSED)
        for value in (5, b"bytes", ["text"], "\ud800", "a" * 124, "\u00fc" * 62)
    },
    "reason None": ([ACCEPT, {**CLOSE, "reason": None}], FINE),
    "the longest reason": ([ACCEPT, {**CLOSE, "reason": "a" * 123}], FINE),
    "a refusal's status": ([{**DENY, "status": "403"}], REFUSED),
    "a refusal's body": ([DENY, {**DENIED, "body": "no"}], REFUSED),
    "a refusal's later body": ([DENY, PART, {**DENIED, "body": "no"}], BROKEN),
}

ORDERS: dict[str, tuple[list[Any], str]] = {
    "nothing": ([], REFUSED),
    "sent before it is accepted": ([TEXT], REFUSED),
    "accepted twice": ([ACCEPT, ACCEPT], CLOSED),
    "refused when it is open": ([ACCEPT, DENY], CLOSED),
    "refused without a start": ([DENIED], REFUSED),
    "a refusal without content": ([DENY], REFUSED),
    "a refusal without an end": ([DENY, PART], BROKEN),
    "accepted within a refusal": ([DENY, PART, ACCEPT], BROKEN),
    "closed within a refusal": ([DENY, PART, CLOSE], BROKEN),
    "sent within a refusal": ([DENY, PART, TEXT], BROKEN),
    "accepted after a refusal": ([DENY, DENIED, ACCEPT], TOLD),
    "refused twice": ([DENY, DENIED, DENY], TOLD),
    "sent after a refusal": ([DENY, DENIED, TEXT], TOLD),
    "accepted after a close": ([CLOSE, ACCEPT], TOLD),
    "sent after a close before the answer": ([CLOSE, TEXT], TOLD),
    "accepted after the close": ([ACCEPT, CLOSE, ACCEPT], TOLD),
    "sent after the close": ([ACCEPT, CLOSE, TEXT], TOLD),
    "closed twice": ([ACCEPT, CLOSE, CLOSE], FINE),
    "a request's response": ([{"type": "http.response.start", "status": 200}], REFUSED),
    "the same when it is open": ([ACCEPT, {"type": "http.response.body"}], CLOSED),
}

# What HTTP/3 cannot carry. HTTP/1.1 has no limit of its own, but this client of it has.
SIZES: dict[str, list[Any]] = {
    "a large field": [{**ACCEPT, "headers": LARGE}, CLOSE],
    "a long name": [{**ACCEPT, "headers": LONG_NAME}, CLOSE],
    "a refusal's large field": [{**DENY, "headers": LARGE}, DENIED],
}


def served_apps(apps: Mapping[str, App]) -> App:
    """The application called NAME at /NAME; elsewhere one that works."""

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fault = apps.get(scope["path"].removeprefix("/"))
        if fault is not None:
            await fault(scope, receive, send)
            return
        await send(ACCEPT)
        await receive()
        await say(send, await hear(receive) or "nothing")

    return app


async def opened(client: WebSocketClient, path: str) -> tuple[int, bool]:
    """The code of the close, or the status of the refusal, and whether it was in peace."""
    try:
        conversation = await client.connect(path, subprotocols=["chat"])
    except Refused as refused:
        return refused.status, True
    except Exception:
        return 0, False
    end = await conversation.end()
    return end.code, conversation.ended_in_peace


def end_of(code: int, peaceful: bool, logged: int) -> str:
    """Which of the ends it is, or what it is instead."""
    match code, peaceful, logged:
        case (500, True, 1):
            return REFUSED
        case (1011, True, 1):
            return CLOSED
        case (1000 | 4000 | 403, True, 1):
            return TOLD
        case (1000 | 4000 | 403, True, 0):
            return FINE
        case (0, False, 1):
            return BROKEN
    return f"{code}, in peace: {peaceful}, {logged} errors"


async def ends(
    served: Served, apps: Mapping[str, App], caplog: pytest.LogCaptureFixture
) -> dict[str, str]:
    """How each mistake ends. The WebSocket after it works."""
    found = {}
    paths = numbered(apps)
    app = served_apps({path: apps[name] for path, name in paths.items()})
    # What were left of one would keep the next from being served, and the server from stopping.
    limits = {"max_concurrency": 1, "graceful_timeout": 10 * PATIENCE_SECONDS}
    async with served(app, **limits) as client:
        for path, name in paths.items():
            caplog.clear()
            async with asyncio.timeout(PATIENCE_SECONDS):
                code, peaceful = await opened(client, f"/{path}")
            await settled()
            found[name] = end_of(code, peaceful, len(errors(caplog)))
            conversation = await client.connect("/works")
            assert await conversation.echo("works") == "works", name
            assert await conversation.end() == End(1000), name
            await settled()
        return found


@pytest.mark.parametrize("table", [TYPES, ORDERS], ids=["types", "orders"])
@asynctest
async def test_a_mistake_in_messages_ends_the_websocket(
    served: Served, table: dict[str, tuple[list[Any], str]], caplog: pytest.LogCaptureFixture
) -> None:
    apps = {name: sending(messages) for name, (messages, _) in table.items()}
    found = await ends(served, apps, caplog)
    assert found == {name: end for name, (_, end) in table.items()}


@asynctest
async def test_what_http3_cannot_carry_is_a_mistake(
    served_h3: Served, caplog: pytest.LogCaptureFixture
) -> None:
    apps = {name: sending(messages) for name, messages in SIZES.items()}
    assert await ends(served_h3, apps, caplog) == dict.fromkeys(SIZES, REFUSED)


async def before_all(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await called(fail)


async def after_connect(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await receive()
    await turns()
    await called(fail)


async def when_open(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await send(ACCEPT)
    await called(fail)


async def after_a_message(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await send(ACCEPT)
    await send(TEXT)
    await turns()
    await called(fail)


async def within_a_refusal(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await send(DENY)
    await send(PART)
    await called(fail)


async def after_the_close(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await send(ACCEPT)
    await bye(send, 4000)
    await called(fail)


POINTS: dict[Any, str] = {
    before_all: REFUSED,
    after_connect: REFUSED,
    when_open: CLOSED,
    after_a_message: CLOSED,
    within_a_refusal: BROKEN,
    after_the_close: TOLD,
}


@pytest.mark.parametrize("point", POINTS)
@asynctest
async def test_whatever_leaves_an_application_is_logged_once_and_ends_its_websocket(
    served: Served, point: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(fail: Callable[[], Any]) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await point(receive, send, fail)

        return app

    found = await ends(served, {name: failing(fail) for name, fail in RAISED.items()}, caplog)
    assert found == dict.fromkeys(RAISED, POINTS[point])


@asynctest
async def test_two_tasks_that_receive_at_a_time_are_a_mistake(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await asyncio.gather(receive(), receive())

    assert await ends(served, {"two": app}, caplog) == {"two": CLOSED}


@pytest.mark.parametrize("closed", [True, False])
@asynctest
async def test_what_is_sent_and_received_after_the_return_is_of_no_effect(
    served: Served, closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[tuple[Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append((receive, send))
        await receive()
        await send(ACCEPT)
        if closed:
            await send(CLOSE)

    assert await ends(served, {"early": app}, caplog) == {"early": FINE}
    ((receive, send),) = kept
    assert (await receive())["type"] == "websocket.disconnect"
    for message in (ACCEPT, TEXT, DENY, PART):
        with pytest.raises((LocalProtocolError, OSError)):
            await send(message)


@asynctest
async def test_who_goes_on_after_a_mistake_may_close_as_it_likes(served: Served) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        closes = ({"code": 1006}, {"code": 999}, {"code": "1000"}, {"reason": "\ud800"})
        for mistake in (ACCEPT, {**TEXT, "text": "\ud800"}, *({**CLOSE, **bad} for bad in closes)):
            with pytest.raises(LocalProtocolError):
                await send(mistake)
        await say(send, "still open")
        await send(CLOSE)

    async with served(served_apps({"fault": app})) as client:
        conversation = await client.connect("/fault")
        assert await conversation.recv() == "still open"
        assert await conversation.end() == End(4000)
