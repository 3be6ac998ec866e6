"""The call of an ASGI application: what it is called with, and what it receives."""

import asyncio
import contextvars
from typing import Any

from tercel.shared.apps.scope import REQUEST_TRAILERS
from tercel.shared.errors import ConnectionClosed
from tercel.shared.settings import Settings
from tests.support.asynchronous import asynctest, turns
from tests.support.memory_stream import Exchange, answer, request_head, respond

POST = {"method": b"POST"}


async def read_all(receive: Any) -> list[dict[str, Any]]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


# -- receive ------------------------------------------------------------------------------------


@asynctest
async def test_request_without_content_is_one_empty_message() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend(await read_all(receive))
        await respond(send)

    stream = await answer(app)
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]
    assert stream.content_wanted == 0


@asynctest
async def test_content_arrives_joined_and_in_order() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend(await read_all(receive))
        await respond(send)

    stream = await answer(app, request_head(**POST), b"a" * 1200, b"b" * 1200, b"c")
    assert messages == [
        {"type": "http.request", "body": b"a" * 1200 + b"b" * 1200 + b"c", "more_body": False}
    ]
    assert stream.consumed == 2401


@asynctest
async def test_content_larger_than_one_message_comes_in_several() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend(await read_all(receive))
        await respond(send)

    await answer(app, request_head(**POST), b"a" * 65_536, b"b")
    assert [(len(m["body"]), m["more_body"]) for m in messages] == [(65_536, True), (1, False)]


@asynctest
async def test_receive_waits_for_content_and_says_so() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        messages.append(await receive())
        await respond(send)

    exchange = Exchange(app, request_head(**POST))
    exchange.open()
    await turns()
    assert (messages, exchange.stream.content_wanted) == ([], 1)
    exchange.stream.receive_content(b"one")
    await turns()
    assert messages == [{"type": "http.request", "body": b"one", "more_body": True}]
    exchange.receive()
    await exchange.finish()
    assert messages[1:] == [{"type": "http.request", "body": b"", "more_body": False}]


@asynctest
async def test_request_trailers_are_there_after_the_last_message() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        trailers = scope["extensions"][REQUEST_TRAILERS]
        seen.append(list(trailers))
        await read_all(receive)
        seen.append(list(trailers))
        await respond(send)

    await answer(app, request_head(**POST), b"x", trailers=[(b"x-sum", b"1")])
    assert seen == [[], [(b"x-sum", b"1")]]


@asynctest
async def test_receive_gives_disconnect_when_the_request_is_aborted() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        messages.append(await receive())

    exchange = Exchange(app, request_head(**POST))
    exchange.open()
    await turns()
    exchange.stream.receive_content(b"unread")
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()
    assert messages == [{"type": "http.disconnect"}] * 2


@asynctest
async def test_receive_gives_disconnect_when_the_response_is_aborted() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        messages.append(await receive())

    exchange = Exchange(app)
    exchange.open()
    exchange.receive()
    await turns()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()
    assert [m["type"] for m in messages] == ["http.request", "http.disconnect"]


@asynctest
async def test_receive_gives_disconnect_once_the_response_is_complete() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        waiting = asyncio.ensure_future(receive())
        await respond(send)
        messages.append(await waiting)
        messages.append(await receive())

    exchange = Exchange(app, request_head(**POST))
    exchange.open()
    await exchange.finish()
    assert messages == [{"type": "http.disconnect"}] * 2


@asynctest
async def test_client_that_leaves_does_not_cancel_the_application() -> None:
    done = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        await turns()
        done.append(True)

    exchange = Exchange(app)
    exchange.open()
    exchange.receive()
    await turns()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()
    assert done == [True]


# -- opening --------------------------------------------------------------------------------------


@asynctest
async def test_root_path_loses_its_last_slash() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await respond(send)

    await answer(app, request_head(target=b"/x"), settings=Settings(root_path="/api/"))
    assert (scopes[0]["root_path"], scopes[0]["path"]) == ("/api", "/api/x")


@asynctest
async def test_requests_get_the_state_of_the_lifespan() -> None:
    states = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = "pool"
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        states.append(scope.get("state"))
        await respond(send)

    exchange = Exchange(app)
    await exchange.application.startup()
    exchange.open()
    await exchange.finish()
    await exchange.application.shutdown()
    assert states == [{"pool": "pool"}]


@asynctest
async def test_requests_have_contexts_of_their_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set(scope["path"])
        await respond(send)

    await answer(app, request_head(target=b"/a"))
    await answer(app, request_head(target=b"/b"))
    assert seen == ["unset", "unset"]
    assert variable.get() == "unset"
