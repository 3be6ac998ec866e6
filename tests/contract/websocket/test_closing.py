"""How a WebSocket ends: by either side, in peace or not, and when the server stops."""

import asyncio
import logging
from typing import Any

import pytest

from tests.contract.apps import Message, Receive, Scope, Send
from tests.contract.websocket.apps import (
    Record,
    accepted,
    bye,
    echo,
    hear,
    say,
    websockets_only,
)
from tests.contract.websocket.client import BROKEN_FRAME, End
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@asynctest
async def test_the_clients_code_and_reason_reach_the_application(served: Served) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect()
        await conversation.send("last words")
        assert await conversation.close(3456, "b\u00fcro closed") == End(3456, "b\u00fcro closed")
        assert conversation.ended_in_peace
        assert await record.disconnected == {
            "type": "websocket.disconnect",
            "code": 3456,
            "reason": "b\u00fcro closed",
        }
        assert [message["text"] for message in record.messages] == ["last words"]


@asynctest
async def test_a_close_frame_without_a_code_is_1005(served: Served) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect()
        await conversation.raw(b"\x88\x80\x00\x00\x00\x00")
        assert (await record.disconnected)["code"] == 1005


@asynctest
async def test_the_applications_code_and_reason_reach_the_client(served: Served) -> None:
    told: asyncio.Future[Message] = future()

    async def talk(receive: Receive, send: Send) -> None:
        await say(send, "last words")
        await bye(send, 4000, "enough")
        told.set_result(await receive())

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        assert await conversation.recv() == "last words"
        assert await conversation.end() == End(4000, "enough")
        assert conversation.ended_in_peace
        assert await told == {"type": "websocket.disconnect", "code": 4000, "reason": "enough"}


@asynctest
async def test_an_application_that_returns_closes_with_1000(served: Served) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await say(send, "last words")

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        assert await conversation.recv() == "last words"
        assert await conversation.end() == End(1000)
        assert conversation.ended_in_peace


@asynctest
async def test_a_client_that_vanishes_is_a_disconnect_with_1006(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect()
        await conversation.ping(b"open")
        conversation.vanish()
        assert await record.disconnected == {
            "type": "websocket.disconnect",
            "code": 1006,
            "reason": "",
        }
    assert errors(caplog) == []


@asynctest
async def test_sending_after_the_end_raises_os_error(served: Served) -> None:
    failed: asyncio.Future[BaseException] = future()

    async def talk(receive: Receive, send: Send) -> None:
        assert await hear(receive) is None
        try:
            await say(send, "too late")
        except OSError as error:
            failed.set_result(error)
            raise

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        assert await conversation.close() == End(1000)
        assert isinstance(await failed, OSError)


@asynctest
async def test_who_waits_to_send_is_let_go_when_the_client_vanishes(served: Served) -> None:
    failed: asyncio.Future[BaseException] = future()
    sent = [0]

    async def talk(receive: Receive, send: Send) -> None:
        try:
            while True:
                await say(send, b"x" * 65_536)
                sent[0] += 1
        except OSError as error:
            failed.set_result(error)

    async with served(accepted(talk), window=65_536) as client:
        conversation = await client.connect()
        conversation.pause()
        await client.still(lambda: sent[0])
        assert not failed.done()
        conversation.vanish()
        assert isinstance(await failed, OSError)


@asynctest
async def test_what_was_sent_before_the_clients_close_is_all_received(served: Served) -> None:
    may_read = asyncio.Event()
    heard: asyncio.Future[list[str | bytes]] = future()

    async def talk(receive: Receive, send: Send) -> None:
        await may_read.wait()
        messages = []
        while (data := await hear(receive)) is not None:
            messages.append(data)
        heard.set_result(messages)

    messages = [f"message {number}" for number in range(1000)]
    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        for message in messages:
            await conversation.send(message)
        closing = asyncio.ensure_future(conversation.close(1000))
        await client.still(lambda: conversation.accepted)
        may_read.set()
        assert await heard == messages
        assert await closing == End(1000)


@asynctest
async def test_what_was_sent_before_the_applications_close_is_all_received(
    served: Served,
) -> None:
    messages = [f"{number}".encode() * 10_000 for number in range(100)]

    async def talk(receive: Receive, send: Send) -> None:
        for message in messages:
            await say(send, message)

    async with served(accepted(talk), window=65_536) as client:
        conversation = await client.connect()
        conversation.pause()
        await client.still(lambda: 0)
        conversation.resume()
        for message in messages:
            assert await conversation.recv() == message
        assert await conversation.end() == End(1000)
        assert conversation.ended_in_peace


@asynctest
async def test_a_client_that_does_not_answer_the_close_is_cut_off(served: Served) -> None:
    returned = asyncio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await bye(send, 1000)
        returned.set()

    async with served(accepted(talk), ws_close_timeout=0.05) as client:
        conversation = await client.connect()
        conversation.deaf()
        await conversation.end()
        await returned.wait()


@asynctest
async def test_a_client_that_answers_no_ping_is_closed(served: Served) -> None:
    record = Record()
    settings = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05, "ws_close_timeout": 0.05}
    async with served(record.app, **settings) as client:
        conversation = await client.connect()
        conversation.deaf()
        assert (await record.disconnected)["code"] == 1006
        await conversation.end()


@asynctest
async def test_a_client_that_answers_pings_is_kept(served: Served) -> None:
    record = Record()
    settings = {"ws_ping_interval": 0.01, "ws_ping_timeout": 50.0}
    async with served(record.app, **settings) as client:
        conversation = await client.connect()
        while conversation.pings < 10:
            await conversation.ping(b"mine")
        assert not record.disconnected.done()
        assert await conversation.close() == End(1000)


@asynctest
async def test_a_stopping_server_closes_with_1001_and_waits_for_the_application(
    served: Served,
) -> None:
    release = asyncio.Event()
    told: asyncio.Future[Message] = future()

    async def talk(receive: Receive, send: Send) -> None:
        await say(send, "open")
        told.set_result(await receive())
        await release.wait()

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        assert await conversation.recv() == "open"
        stopping = client.server.close()
        assert (await conversation.end()).code == 1001
        assert conversation.ended_in_peace
        assert (await told)["code"] == 1001
        assert not stopping.done()
        release.set()
        await stopping


@asynctest
async def test_a_websocket_that_is_accepted_while_the_server_stops_is_closed_with_1001(
    served: Served,
) -> None:
    asked, release = asyncio.Event(), asyncio.Event()
    told: asyncio.Future[Message] = future()

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        await release.wait()
        await send({"type": "websocket.accept"})
        told.set_result(await receive())

    async with served(app) as client:
        opening = asyncio.ensure_future(client.connect())
        await asked.wait()
        stopping = client.server.close()
        release.set()
        conversation = await opening
        assert (await conversation.end()).code == 1001
        assert conversation.ended_in_peace
        assert (await told)["code"] == 1001
        await stopping


@asynctest
async def test_messages_on_their_way_when_the_server_stops_are_received(served: Served) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect()
        for number in range(100):
            await conversation.send(str(number))
        # Nothing has been read by the server when it begins to stop.
        stopping = client.server.close()
        assert (await conversation.end()).code == 1001
        await record.disconnected
        assert [message["text"] for message in record.messages] == [str(n) for n in range(100)]
        await stopping


@asynctest
async def test_an_application_that_ignores_the_end_is_cancelled_after_the_grace_period(
    served: Served,
) -> None:
    cancelled = asyncio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await say(send, "open")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with served(accepted(talk), graceful_timeout=0.05) as client:
        conversation = await client.connect()
        await conversation.recv()
        await client.server.close()
        assert cancelled.is_set()
        await conversation.end()


@asynctest
async def test_other_websockets_go_on_when_one_ends(served: Served) -> None:
    async with served(echo) as client:
        conversations = [await client.connect() for _ in range(10)]
        for number, conversation in enumerate(conversations):
            if number % 3 == 0:
                conversation.vanish()
            elif number % 3 == 1:
                await conversation.raw(BROKEN_FRAME)
        for conversation in conversations[2::3]:
            assert await conversation.echo("still here") == "still here"
