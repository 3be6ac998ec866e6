"""Messages that their client does not complete, on every way to open a WebSocket."""

import asyncio
import zlib

from tests.contract.apps import Receive, Send
from tests.contract.websocket.apps import accepted, echo, hear
from tests.contract.websocket.client import End
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

SIZE = 1_000_000
# The windows that leave room for one message of SIZE, and streams with less than that.
ONE_MESSAGE = {
    "ws_max_message_bytes": SIZE,
    "connection_window_bytes": SIZE,
    "stream_window_bytes": 65_536,
}
HALF_A_MESSAGE = b"\x02\x84" + bytes(4) + b"half"


def compressed_fragment(size: int = SIZE) -> bytes:
    """The first frame of a message that inflates to `size` bytes (RFC 7692 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    payload = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return b"\x42\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


@asynctest
async def test_a_message_that_does_not_go_on_ends_with_1008(served: Served) -> None:
    async with served(echo, ws_message_timeout=0.2) as client:
        conversation = await client.connect()
        assert await conversation.echo("whole") == "whole"
        await conversation.raw(HALF_A_MESSAGE)
        end = await conversation.end()
        assert end == End(1008, "the message was not complete in its time")
        again = await client.connect()
        assert await again.echo("whole") == "whole"


@asynctest
async def test_a_websocket_without_half_a_message_may_be_silent_as_long_as_it_likes(
    served: Served,
) -> None:
    async with served(echo, ws_message_timeout=0.05) as client:
        conversation = await client.connect()
        await conversation.send_parts([b"in ", b"parts"])
        assert await conversation.recv() == b"in parts"
        await asyncio.sleep(0.2)
        assert await conversation.echo("whole") == "whole"


@asynctest
async def test_an_application_that_does_not_read_costs_its_client_no_time(served: Served) -> None:
    reading = asyncio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await reading.wait()
        while (data := await hear(receive)) is not None:
            await send({"type": "websocket.send", "text": str(len(data))})

    async with served(accepted(talk), ws_message_timeout=0.1, ws_ping_interval=0) as client:
        conversation = await client.connect()
        await conversation.send(bytes(100_000))
        await conversation.raw(HALF_A_MESSAGE)
        await asyncio.sleep(0.3)
        reading.set()
        await conversation.raw(b"\x80\x80" + bytes(4))
        assert [await conversation.recv(), await conversation.recv()] == ["100000", "4"]


@asynctest
async def test_unfinished_messages_of_one_connection_have_a_bound_together(
    served_h3: Served,
) -> None:
    async with served_h3(echo, **ONE_MESSAGE) as client:
        first = await client.connect(compression=True)
        second = await client.connect(compression=True)
        third = await client.connect(compression=True)
        for conversation in (first, second):
            await conversation.raw(compressed_fragment(SIZE - 100))
            await conversation.ping(b"taken")
        await third.raw(compressed_fragment())
        assert (await third.end()).code == 1009
        for conversation in (first, second):
            await conversation.raw(b"\x80\x80" + bytes(4))
            assert await conversation.recv() == bytes(SIZE - 100)


@asynctest
async def test_what_was_given_back_may_be_held_again(served_h3: Served) -> None:
    async with served_h3(echo, **ONE_MESSAGE) as client:
        for _ in range(5):
            conversation = await client.connect(compression=True)
            await conversation.raw(compressed_fragment(SIZE - 100))
            await conversation.ping(b"taken")
            conversation.vanish()
        last = await client.connect(compression=True)
        assert await last.echo(bytes(SIZE)) == bytes(SIZE)
