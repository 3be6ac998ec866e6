"""Long exchanges, cut at random from fixed seeds: nothing is lost, doubled or reordered."""

import asyncio
import random
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import Pair


def random_message(chance: random.Random) -> str | bytes:
    size = chance.choice([0, 1, 100, 125, 126, 1000, 65_535, 65_536, 70_000])
    if chance.random() < 0.5:
        return chance.randbytes(size)
    return "".join(chance.choices("ab\u00e9\u20ac\U0001f600", k=size // 4))


def client_sends_in_fragments(pair: Pair, message: str | bytes, chance: random.Random) -> None:
    data = message.encode() if isinstance(message, str) else message
    first = pair.client.send_text if isinstance(message, str) else pair.client.send_binary
    cuts = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(0, 5)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    first(parts[0], len(parts) == 1)
    for number, part in enumerate(parts[1:], 2):
        pair.client.send_continuation(part, number == len(parts))
        if chance.random() < 0.3:
            pair.client.send_ping(b"between")


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("seed", range(5))
@clocktest
async def test_every_message_is_echoed_once_and_in_order(seed: int, compression: bool) -> None:
    chance = random.Random(seed)
    pair = Pair(compression=compression, max_queue=chance.choice([1, 4, None]))
    messages = [random_message(chance) for _ in range(60)]
    for message in messages:
        client_sends_in_fragments(pair, message, chance)
    data = b"".join(pair.client.data_to_send())
    echoed: list[Any] = []
    received: list[str | bytes] = []

    async def echo() -> None:
        while True:
            if chance.random() < 0.2:
                await asyncio.sleep(1)
            parts = [part async for part in pair.server.recv_streaming()]
            kind: Any = parts[0][:0]
            echoed.append(kind.join(parts))
            await pair.server.send(parts if chance.random() < 0.3 else kind.join(parts))

    task = asyncio.ensure_future(echo())
    while data:
        size = chance.choice([1, 10, 1000, 65_536, 262_144])
        pair.stream.deliver(data[:size])
        data = data[size:]
        await turns(chance.randint(0, 3))
        if chance.random() < 0.3:
            received += pair.client_messages()
    while len(received) < len(messages):
        received += pair.client_messages()
        await asyncio.sleep(1)
    assert received == messages
    assert echoed == messages
    pair.client_closes()
    with pytest.raises(ConnectionClosedOK):
        await task


@pytest.mark.parametrize("end", ["close", "eof", "lose", "server"])
@pytest.mark.parametrize("seed", range(3))
@clocktest
async def test_a_slow_reader_loses_nothing_that_arrived_whatever_the_end(
    seed: int, end: str
) -> None:
    chance = random.Random(seed)
    pair = Pair(max_queue=4, ping_interval=None)
    messages = [random_message(chance) for _ in range(40)]
    for message in messages:
        client_sends_in_fragments(pair, message, chance)
    received: list[Any] = []

    async def read() -> None:
        while True:
            await asyncio.sleep(chance.choice([0, 0, 1]))
            received.append(await pair.server.recv())

    task = asyncio.ensure_future(read())
    # All of it arrives in one piece, so that the end finds most of it unparsed.
    pair.flush()
    if end == "close":
        pair.client_closes()
    elif end == "eof":
        pair.stream.deliver_eof()
    elif end == "lose":
        pair.stream.lose()
    else:
        asyncio.get_running_loop().call_later(100, pair.server.end_connection)
    with pytest.raises(ConnectionClosed):
        await task
    assert received == messages


def test_the_random_messages_are_of_all_kinds() -> None:
    chance = random.Random(0)
    messages = [random_message(chance) for _ in range(60)]
    assert {type(message) for message in messages} == {str, bytes}
    assert max(map(len, messages)) == 70_000
