"""Messages: all kinds and sizes, whole, in order, and each once."""

import asyncio
import hashlib
import random

import pytest

from tests.contract.apps import Receive, Send
from tests.contract.websocket.apps import Record, accepted, echo, hear, say
from tests.contract.websocket.client import Data, End
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

MIB = 1_048_576
COMPRESSION = pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])


@COMPRESSION
@asynctest
async def test_every_kind_and_size_of_message_is_echoed(served: Served, compression: bool) -> None:
    messages: list[Data] = ["", b"", "text", b"bytes", "\u00e9\u20ac\U0001f600", b"\x00\xff"]
    for size in (125, 126, 65_535, 65_536, 200_000):
        messages += ["x" * size, random.Random(size).randbytes(size)]
    async with served(echo) as client:
        conversation = await client.connect(compression=compression)
        for message in messages:
            assert await conversation.echo(message) == message


@COMPRESSION
@asynctest
async def test_a_message_in_fragments_is_one_message(served: Served, compression: bool) -> None:
    async with served(echo) as client:
        conversation = await client.connect(compression=compression)
        await conversation.send_parts(["one ", "", "\u20ac", " three"])
        assert await conversation.recv() == "one \u20ac three"
        await conversation.send_parts([b"\x00" * 70_000, b"", b"\xff" * 10])
        assert await conversation.recv() == b"\x00" * 70_000 + b"\xff" * 10


@asynctest
async def test_compression_is_used_when_both_sides_want_it(served: Served) -> None:
    async with served(echo) as client:
        extensions = (await client.connect(compression=True)).fields["sec-websocket-extensions"]
        assert extensions.startswith("permessage-deflate")
        assert "sec-websocket-extensions" not in (await client.connect()).fields


@asynctest
async def test_compression_can_be_switched_off(served: Served) -> None:
    async with served(echo, ws_compression=False) as client:
        conversation = await client.connect(compression=True)
        assert "sec-websocket-extensions" not in conversation.fields
        assert await conversation.echo("hello") == "hello"


@asynctest
async def test_a_message_of_just_the_largest_size_is_received(served: Served) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        data = await hear(receive)
        assert isinstance(data, bytes)
        await say(send, hashlib.sha256(data).hexdigest())

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        message = random.Random(1).randbytes(16 * MIB)
        assert await conversation.echo(message) == hashlib.sha256(message).hexdigest()


@COMPRESSION
@asynctest
async def test_a_larger_message_fails_the_connection_with_1009(
    served: Served, compression: bool
) -> None:
    record = Record()
    async with served(record.app, ws_max_message_bytes=100_000) as client:
        conversation = await client.connect(compression=compression)
        await conversation.send(b"\x00" * 100_000)
        # Compressed it is a hundred bytes: the limit is on what they become.
        await conversation.send(b"\x00" * 100_001)
        assert (await conversation.end()).code == 1009
        assert (await record.disconnected)["code"] == 1006
        assert [message["bytes"] for message in record.messages] == [b"\x00" * 100_000]


@asynctest
async def test_fragments_that_are_too_large_together_fail_with_1009(served: Served) -> None:
    record = Record()
    async with served(record.app, ws_max_message_bytes=1000) as client:
        conversation = await client.connect()
        await conversation.send_parts([b"x" * 600, b"x" * 600])
        assert (await conversation.end()).code == 1009
        assert (await record.disconnected)["code"] == 1006
        assert record.messages == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\xc1\x80\x00\x00\x00\x00", 1002),
        (b"\x80\x80\x00\x00\x00\x00", 1002),
        (b"\x09\x80\x00\x00\x00\x00", 1002),
        (b"\x81\x82\x00\x00\x00\x00\xc3\x28", 1007),
        (b"\x88\x82\x00\x00\x00\x00\x03\xed", 1002),
        (b"\x88\x81\x00\x00\x00\x00\x03", 1002),
    ],
    ids=["no mask", "opcode 3", "reserved bit", "continuation of nothing", "fragmented ping",
         "not UTF-8", "close 1005", "close of one byte"],
)  # fmt: skip
@asynctest
async def test_what_breaks_the_rules_fails_the_connection(
    served: Served, data: bytes, code: int
) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect()
        await conversation.send("before")
        await conversation.raw(data)
        assert (await conversation.end()).code == code
        assert (await record.disconnected)["type"] == "websocket.disconnect"
        assert [message["text"] for message in record.messages] == ["before"]


@asynctest
async def test_a_ping_is_answered_though_the_application_does_not_listen(served: Served) -> None:
    release = asyncio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await release.wait()

    async with served(accepted(talk)) as client:
        conversation = await client.connect()
        await conversation.ping(b"are you there?")
        await conversation.ping(b"")
        release.set()
        assert await conversation.end() == End(1000)


@pytest.mark.parametrize(("count", "size"), [(10_000, 10), (200, 65_536)])
@asynctest
async def test_many_messages_in_flight_come_back_in_order(
    served: Served, count: int, size: int
) -> None:
    def message(number: int) -> bytes:
        return number.to_bytes(4, "big") * (size // 4)

    async with served(echo) as client:
        conversation = await client.connect()

        async def send() -> None:
            for number in range(count):
                await conversation.send(message(number))

        sender = asyncio.ensure_future(send())
        for number in range(count):
            assert await conversation.recv() == message(number)
        await sender
        assert await conversation.close() == End(1000)


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
@asynctest
async def test_random_bytes_never_upset_the_server(
    served: Served, compression: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(echo) as client:
        for seed in range(10):
            chance = random.Random(seed)
            conversation = await client.connect(compression=compression)
            for _ in range(chance.randint(1, 5)):
                # A plausible beginning gets further than noise does.
                head = bytes((chance.randrange(256), 0x80 | chance.randrange(128)))
                await conversation.raw(head + chance.randbytes(chance.randint(0, 300)))
            await conversation.raw(b"\xff" * 70_000)
            await conversation.end()
        assert await (await client.connect()).echo("alive") == "alive"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
