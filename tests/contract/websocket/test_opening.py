"""The opening handshake: what the application is told, and what it may answer."""

import asyncio
import logging
from typing import Any

import pytest

from tests.contract.apps import Message, Receive, Scope, Send
from tests.contract.websocket.apps import accepted, bye, echo, hear, say, websockets_only
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

KEY = (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")
VERSION = (b"sec-websocket-version", b"13")


async def nothing(receive: Receive, send: Send) -> None:
    """Talk about nothing."""


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@asynctest
async def test_the_scope_says_what_is_asked_for(served: Served) -> None:
    scopes: list[Scope] = []

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept"})

    async with served(app) as client:
        conversation = await client.connect(
            "/a%20path?a=query", subprotocols=["one", "two"], fields=[(b"x-own", b"value")]
        )
        assert conversation.status == (200 if client.http_version == "3" else 101)
        (scope,) = scopes
        assert scope["type"] == "websocket"
        assert scope["http_version"] == client.http_version
        assert scope["scheme"] == ("wss" if client.secure else "ws")
        assert (scope["path"], scope["query_string"]) == ("/a path", b"a=query")
        assert scope["raw_path"] == b"/a%20path"
        assert scope["subprotocols"] == ["one", "two"]
        assert (b"x-own", b"value") in scope["headers"]
        assert [name for name, _ in scope["headers"]].count(b"host") == 1
        assert "websocket.http.response" in scope["extensions"]
        assert ("tls" in scope["extensions"]) == client.secure
        assert "method" not in scope
        assert scope["client"][0] == "127.0.0.1"


@asynctest
async def test_the_application_chooses_the_subprotocol_and_adds_fields(served: Served) -> None:
    app = accepted(
        nothing, subprotocol="two", headers=[(b"X-Own", b"1"), (b"set-cookie", b"name=value")]
    )
    async with served(app) as client:
        conversation = await client.connect(subprotocols=["one", "two"])
        assert conversation.subprotocol == "two"
        assert conversation.fields["x-own"] == "1"
        assert conversation.fields["set-cookie"] == "name=value"


@asynctest
async def test_without_a_choice_there_is_no_subprotocol(served: Served) -> None:
    async with served(echo) as client:
        conversation = await client.connect(subprotocols=["one"])
        assert conversation.subprotocol is None
        assert "sec-websocket-protocol" not in conversation.fields


@pytest.mark.parametrize(
    "accept",
    [
        {"subprotocol": "three"},
        {"headers": [(b"sec-websocket-accept", b"x")]},
        {"headers": [(b"sec-websocket-protocol", b"one")]},
        {"headers": [(b"x", b"split\r\nup")]},
    ],
    ids=["subprotocol that was not offered", "accept", "protocol", "line break"],
)
@asynctest
async def test_an_accept_against_the_rules_is_the_applications_fault(
    served: Served, accept: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with served(accepted(nothing, **accept)) as client:
        refused = await client.refusal(subprotocols=["one"])
        assert refused.status == 500
    assert len(errors(caplog)) == 1


@asynctest
async def test_closed_before_it_was_accepted_is_refused_with_403(served: Served) -> None:
    told: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await bye(send)
        told.set_result(await receive())

    async with served(app) as client:
        assert (await client.refusal()).status == 403
        assert await told == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@asynctest
async def test_it_may_be_answered_with_an_http_response(served: Served) -> None:
    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        start = {"status": 401, "headers": [(b"www-authenticate", b"Basic")]}
        await send({"type": "websocket.http.response.start", **start})
        body = {"type": "websocket.http.response.body"}
        await send({**body, "body": b"who ", "more_body": True})
        await send({**body, "body": b"are you?"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with served(app) as client:
        refused = await client.refusal()
        assert (refused.status, refused.content) == (401, b"who are you?")
        assert refused.fields["www-authenticate"] == "Basic"


@asynctest
async def test_a_denial_that_can_have_no_content_is_whole_with_its_start_message(
    served: Served,
) -> None:
    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 304, "headers": []})

    async with served(app) as client:
        refused = await client.refusal()
        assert (refused.status, refused.content) == (304, b"")


@asynctest
async def test_what_is_sent_before_the_answer_waits_for_it(served: Served) -> None:
    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await say(send, "welcome")
        while (data := await hear(receive)) is not None:
            await say(send, data)

    async with served(app) as client:
        conversation = await client.connect()
        await conversation.send("first")
        assert await conversation.recv() == "welcome"
        assert await conversation.recv() == "first"


@asynctest
async def test_the_origin_is_checked_when_origins_are_set(served: Served) -> None:
    async with served(echo, ws_origins=("https://good.test",)) as client:
        refused = await client.refusal(fields=[(b"origin", b"https://bad.test")])
        assert refused.status == 403
        assert (await client.refusal()).status == 403
        conversation = await client.connect(fields=[(b"origin", b"https://good.test")])
        assert await conversation.echo("hello") == "hello"


@asynctest
async def test_every_origin_is_taken_when_none_is_set(served: Served) -> None:
    async with served(echo) as client:
        conversation = await client.connect(fields=[(b"origin", b"https://any.test")])
        assert await conversation.echo("hello") == "hello"


@pytest.mark.parametrize("version", [[], [b"8"], [b"13", b"13"], [b"thirteen"]])
@asynctest
async def test_another_version_of_the_protocol_is_answered_with_426(
    served: Served, version: list[bytes]
) -> None:
    async with served(echo) as client:
        method = "CONNECT" if client.http_version == "3" else "GET"
        versions = [(b"sec-websocket-version", value) for value in version]
        exchange = await client.ask(method, [KEY, *versions])
        assert exchange.status == 426
        assert exchange.header[b"sec-websocket-version"] == b"13"
        assert (b"upgrade" in exchange.header) == (client.http_version == "1.1")


@pytest.mark.parametrize(
    "fields",
    [[(b"sec-websocket-protocol", b"not, a/token, ,")], [(b"sec-websocket-extensions", b";;;")]],
    ids=["subprotocols", "extensions"],
)
@asynctest
async def test_a_malformed_offer_is_answered_with_400(served: Served, fields: Any) -> None:
    async with served(echo) as client:
        method = "CONNECT" if client.http_version == "3" else "GET"
        exchange = await client.ask(method, [KEY, VERSION, *fields])
        assert exchange.status == 400


@asynctest
async def test_a_plain_request_for_the_same_path_is_plain_http(served: Served) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/same")
        response = await client.http.get("/same")
        assert (response.status, bytes(response.content)) == (200, b"/same")
        assert await conversation.echo("still open") == "still open"


@asynctest
async def test_a_client_that_goes_before_the_answer_is_a_disconnect(served: Served) -> None:
    asked = asyncio.Event()
    told: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        told.set_result(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})

    async with served(app) as client:
        opening = asyncio.ensure_future(client.connect())
        await asked.wait()
        opening.cancel()
        await asyncio.wait([opening])
        await client.close()
        assert await told == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@asynctest
async def test_a_root_path_in_the_target_is_left_there_and_all_else_is_404(served: Served) -> None:
    paths: list[str] = []

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await receive()
        await send({"type": "websocket.accept"})

    async with served(app, root_path="/api", root_path_in_target=True) as client:
        await client.connect("/api/ws")
        assert (await client.refusal("/ws")).status == 404
    assert paths == ["/api/ws"]


@asynctest
async def test_the_opening_response_has_the_fields_that_the_server_adds(served: Served) -> None:
    async with served(accepted(nothing), header=("x-added: 1",)) as client:
        conversation = await client.connect("/")
        header = conversation.fields
        assert (header["server"], header["x-added"]) == ("tercel", "1")
        assert "date" in header
