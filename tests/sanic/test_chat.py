"""The shop's WebSockets: the same on Sanic's own server and on tercel's."""

import json
import uuid

import pytest

from tests.contract.websocket.client import End
from tests.sanic.conftest import Connect
from tests.support.asynchronous import asynctest


@asynctest
async def test_message_reaches_everybody_in_the_room_and_nobody_else(shop: Connect) -> None:
    # Rooms of its own: who leaves another test's is in it for a moment longer.
    tea, coffee = f"tea-{uuid.uuid4().hex}", f"coffee-{uuid.uuid4().hex}"
    async with shop() as client:
        ann = await client.connect(f"/chat/rooms/{tea}")
        bob = await client.connect(f"/chat/rooms/{tea}")
        eve = await client.connect(f"/chat/rooms/{coffee}")
        assert await ann.recv() == f"welcome to {tea}, you are number 1"
        assert await bob.recv() == f"welcome to {tea}, you are number 2"
        assert await eve.recv() == f"welcome to {coffee}, you are number 1"
        await bob.send("hello")
        assert (await ann.recv(), await bob.recv()) == ("hello", "hello")
        await ann.send(b"\x00bytes")
        assert (await ann.recv(), await bob.recv()) == (b"\x00bytes", b"\x00bytes")
        for member in (ann, bob, eve):
            assert await member.close() == End(1000)


@pytest.mark.parametrize(
    ("offered", "chosen", "answer"),
    [(["plain"], "plain", "quiet"), (["plain", "shouting"], "shouting", "QUIET")],
)
@asynctest
async def test_subprotocol_is_agreed_on(
    shop: Connect, offered: list[str], chosen: str, answer: str
) -> None:
    async with shop() as client:
        conversation = await client.connect("/chat/echo", subprotocols=offered)
        assert conversation.subprotocol == chosen
        assert await conversation.recv() == f"{chosen} wss GET /chat/echo"
        assert await conversation.echo("quiet") == answer
        await conversation.close()


@pytest.mark.parametrize("offered", [[], ["strange"]])
@asynctest
async def test_websocket_without_a_common_subprotocol_is_refused(
    shop: Connect, offered: list[str]
) -> None:
    async with shop() as client:
        refused = await client.refusal("/chat/echo", subprotocols=offered)
    assert refused.status == 400


@asynctest
async def test_handler_closes_with_its_own_code_and_reason(shop: Connect) -> None:
    async with shop() as client:
        conversation = await client.connect("/chat/goodbye")
        assert await conversation.recv() == b"\x00\x01"
        assert await conversation.end() == End(4001, "enough")


@asynctest
async def test_large_messages_and_many_small_ones_arrive_in_order(shop: Connect) -> None:
    async with shop() as client:
        conversation = await client.connect("/chat/parrot")
        assert await conversation.echo("x" * 500_000) == "x" * 500_000
        for number in range(200):
            assert await conversation.echo(str(number)) == str(number)
        await conversation.close()


@asynctest
async def test_client_that_vanishes_leaves_its_room(shop: Connect) -> None:
    async with shop() as client:
        conversation = await client.connect("/chat/rooms/void")
        await conversation.recv()
        conversation.vanish()
        while json.loads(bytes((await client.http.get("/chat/rooms")).content))["void"]:
            pass


@asynctest
async def test_plain_request_for_a_websocket_is_refused(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/chat/echo")
    assert exchange.status in (400, 426)
    assert b"description" in exchange.content
