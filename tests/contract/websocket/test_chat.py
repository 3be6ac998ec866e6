"""The demo application's WebSockets: the echo, and the chat's bounds."""

import asyncio
import json
from typing import Any

import pytest

from tercel.shared.apps import demo
from tercel.shared.apps.demo import chat
from tests.contract.websocket.client import Conversation
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> chat.Room:
    """A room of the test's own, where nobody has to pause between lines."""
    room = chat.Room()
    monkeypatch.setattr(chat, "_room", room)
    monkeypatch.setattr(chat, "_PAUSE_SECONDS", 0)
    return room


async def told(conversation: Conversation) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await conversation.recv())
    assert event.pop("at") > 0
    return event


@asynctest
async def test_the_echo_echoes(served: Served) -> None:
    async with served(demo.app) as client:
        conversation = await client.connect("/ws/echo")
        assert await conversation.echo("text") == "text"
        assert await conversation.echo(b"bytes") == b"bytes"


@asynctest
async def test_there_is_no_websocket_elsewhere(served: Served) -> None:
    async with served(demo.app) as client:
        for target in ("/", "/health", "/chat/"):
            assert (await client.refusal(target)).status == 404
        assert (await client.http.get("/health")).status == 200


@asynctest
async def test_members_hear_each_other_and_who_comes_and_goes(served: Served) -> None:
    async with served(demo.app) as client:
        ann = await client.connect("/chat?name=Ann")
        assert await told(ann) == {"event": "joined", "name": "Ann", "members": 1}
        bob = await client.connect("/chat?name=%20Bob%0a%20the%20%20Builder%20")
        joined = {"event": "joined", "name": "Bob the Builder", "members": 2}
        assert await told(ann) == await told(bob) == joined
        await ann.send("  hello  ")
        line = {"event": "line", "from": "Ann", "text": "hello"}
        for member in (ann, bob):
            assert await told(member) == {**line, "http_version": client.http_version}
        await ann.close()
        assert await told(bob) == {"event": "left", "name": "Ann", "members": 1}


@asynctest
async def test_who_comes_later_is_told_the_last_lines(served: Served) -> None:
    count = chat.HISTORY_LINES + 10
    async with served(demo.app) as client:
        ann = await client.connect("/chat?name=Ann")
        await told(ann)
        for number in range(count):
            await ann.send(str(number))
            await told(ann)
        bob = await client.connect("/chat?name=Bob")
        lines = [(await told(bob))["text"] for _ in range(chat.HISTORY_LINES)]
        assert lines == [str(number) for number in range(10, count)]


@asynctest
async def test_names_and_lines_are_bounded(served: Served) -> None:
    async with served(demo.app) as client:
        ann = await client.connect(f"/chat?name={'A' * 1000}")
        assert (await told(ann))["name"] == "A" * chat.MAX_NAME_CHARACTERS
        await ann.send("x" * (chat.MAX_LINE_CHARACTERS + 1))
        assert (await told(ann))["event"] == "error"
        await ann.send("")
        await ann.send("x" * chat.MAX_LINE_CHARACTERS)
        assert len((await told(ann))["text"]) == chat.MAX_LINE_CHARACTERS
        nameless = await client.connect("/chat")
        await told(nameless)
        assert (await told(nameless))["name"] == "guest"
        await nameless.send(b"binary")
        assert (await nameless.end()).code == 1003


@asynctest
async def test_the_room_takes_so_many_and_no_more(
    served: Served, room: chat.Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "MAX_MEMBERS", 2)
    async with served(demo.app) as client:
        members = [await client.connect("/chat") for _ in range(2)]
        assert (await (await client.connect("/chat")).end()).code == 1013
        await members[0].close()
        while room.full:  # the application hears of the end after its client
            await asyncio.sleep(0)
        assert (await told(await client.connect("/chat")))["members"] == 2


@asynctest
async def test_a_page_of_another_site_may_not_listen(served: Served) -> None:
    async with served(demo.app) as client:
        refused = await client.refusal("/chat", fields=[(b"origin", b"https://elsewhere.test")])
        assert refused.status == 403


@asynctest
async def test_a_member_who_does_not_read_is_dropped_and_not_waited_for(
    served: Served, room: chat.Room
) -> None:
    settings = {"max_unsent_bytes": 1024, "ws_close_timeout": 0.2}
    async with served(demo.app, window=16_384, **settings) as client:
        slow = await client.connect("/chat?name=slow")
        await told(slow)
        # On HTTP/3 a client's windows are its connection's: the quick one has another.
        async with client.another() as other:
            quick = await other.connect("/chat?name=quick")
            await told(quick)
            slow.pause()
            line = "\U0001f600" * chat.MAX_LINE_CHARACTERS
            while (event := await say(quick, line)) != "left":
                assert event == "line"
            assert [member.name for member in room.members] == ["quick"]
            assert len(room.history) == chat.HISTORY_LINES
        slow.resume()
        assert (await slow.end()).code in (1013, 1006)


async def say(member: Conversation, line: str) -> str:
    """Say something; what is heard next."""
    await member.send(line)
    event: str = (await told(member))["event"]
    return event
