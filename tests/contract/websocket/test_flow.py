"""Back-pressure in both directions: bounded memory, nothing lost, nobody else held up."""

import asyncio

from tests.contract.apps import Receive, Send
from tests.contract.websocket.apps import accepted, echo, hear, say
from tests.contract.websocket.client import End
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

SIZE = 16_384
COUNT = 1000


def message(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


@asynctest
async def test_a_client_that_does_not_read_makes_send_wait(served: Served) -> None:
    sent = [0]

    async def talk(receive: Receive, send: Send) -> None:
        for number in range(COUNT):
            await say(send, message(number))
            sent[0] += SIZE

    async with served(accepted(talk), window=65_536, max_unsent_bytes=65_536) as client:
        conversation = await client.connect()
        conversation.pause()
        stalled_at = await client.still(lambda: sent[0])
        assert 0 < stalled_at <= client.most_on_the_way < COUNT * SIZE
        conversation.resume()
        for number in range(COUNT):
            assert await conversation.recv() == message(number)
        assert await conversation.end() == End(1000)


@asynctest
async def test_an_application_that_does_not_read_stops_the_client_and_nobody_else(
    served: Served,
) -> None:
    may_read = asyncio.Event()
    heard: asyncio.Future[list[str | bytes]] = asyncio.get_running_loop().create_future()

    async def talk(receive: Receive, send: Send) -> None:
        await may_read.wait()
        messages = []
        while (data := await hear(receive)) is not None:
            messages.append(data)
        heard.set_result(messages)

    async with served(accepted(talk), window=65_536, stream_window_bytes=65_536) as client:
        conversation = await client.connect()

        async def send() -> None:
            for number in range(COUNT):
                await conversation.send(message(number))

        sender = asyncio.ensure_future(send())
        stalled_at = await client.still(lambda: conversation.accepted)
        assert 0 < stalled_at <= client.most_on_the_way < COUNT * SIZE
        assert bytes((await client.http.get("/other")).content) == b"/other"
        may_read.set()
        await sender
        assert await conversation.close() == End(1000)
        assert await heard == [message(number) for number in range(COUNT)]


@asynctest
async def test_a_flood_of_pings_that_nobody_hears_answered_is_bounded(served: Served) -> None:
    async with served(echo, window=65_536, max_unsent_bytes=65_536) as client:
        conversation = await client.connect()
        conversation.pause()
        ping = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125
        flood = asyncio.ensure_future(_flood(conversation.raw, ping * 100, 200))
        await client.still(lambda: conversation.accepted)
        await flood
        conversation.resume()
        assert await conversation.echo("alive") == "alive"


async def _flood(raw, data: bytes, count: int) -> None:
    for _ in range(count):
        await raw(data)
        await asyncio.sleep(0)


@asynctest
async def test_an_idle_websocket_is_no_slow_request(served: Served) -> None:
    limits = ("header_timeout", "content_timeout", "keep_alive_timeout", "send_timeout")
    # Longer than a loaded machine stands still in the middle of the handshakes.
    settings = dict.fromkeys(limits, 3.0)
    async with served(echo, ws_ping_interval=0, **settings) as client:
        idle, busy = await client.connect(), await client.connect()
        loop = asyncio.get_running_loop()
        until = loop.time() + 4.0
        while loop.time() < until:
            await busy.ping(b"time passes")
        assert await idle.echo("still here") == "still here"
        assert await idle.close() == End(1000)
