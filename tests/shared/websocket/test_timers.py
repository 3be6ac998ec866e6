import asyncio

import pytest
from websockets.frames import Opcode

from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import HIGH_WATER, Pair


def now() -> float:
    return asyncio.get_running_loop().time()


def pings(pair: Pair) -> int:
    """How many pings the client gets; it answers them."""
    return sum(frame.opcode is Opcode.PING for frame in pair.client_receives())


@clocktest
async def test_a_ping_follows_each_interval_without_a_task() -> None:
    tasks = len(asyncio.all_tasks())
    pair = Pair(ping_interval=20, ping_timeout=5)
    counts = []
    for _ in range(4):
        await asyncio.sleep(20)
        await turns()
        counts.append(pings(pair))
        await turns()
    assert counts == [1, 1, 1, 1]
    assert len(asyncio.all_tasks()) == tasks
    assert len(pair.server.pings) == 0


@clocktest
async def test_a_missing_pong_fails_the_connection() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5, close_timeout=7)
    await asyncio.sleep(24)
    assert not pair.stream.eof_written
    pair.stream.take()
    await asyncio.sleep(1)
    await turns()
    assert pair.stream.eof_written
    assert b"keepalive ping timeout" in pair.stream.take()
    assert await pair.server.wait_for_connection_lost()
    assert pair.stream.aborted
    assert now() == 32


@pytest.mark.parametrize("interval", [None, 0])
@clocktest
async def test_without_an_interval_there_are_no_pings(interval: float | None) -> None:
    pair = Pair(ping_interval=interval)
    await asyncio.sleep(1000)
    assert pair.stream.unsent == 0
    await pair.server.keepalive_ping()
    assert now() == 1000


@pytest.mark.parametrize("timeout", [None, 0])
@clocktest
async def test_without_a_time_limit_a_pong_may_come_at_any_time(timeout: float | None) -> None:
    pair = Pair(ping_interval=20, ping_timeout=timeout)
    await asyncio.sleep(1000)
    assert pings(pair) == 1
    await asyncio.sleep(21)
    assert pings(pair) == 1
    assert not pair.stream.eof_written


@clocktest
async def test_a_pong_behind_messages_that_nobody_reads_is_not_missing() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5, max_queue=1)
    pair.client_sends("unread")
    await asyncio.sleep(20)
    await turns()
    assert pings(pair) == 1
    await asyncio.sleep(1000)
    assert not pair.stream.eof_written
    assert await pair.server.recv() == "unread"
    await turns()
    assert len(pair.server.pings) == 0


@clocktest
async def test_a_peer_that_still_takes_what_came_before_the_ping_is_not_failed() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5)
    await pair.server.send(bytes(HIGH_WATER))
    await asyncio.sleep(20)
    while pair.stream.unsent:
        pair.client.receive_data(pair.stream.take(5_000))
        await asyncio.sleep(4)
        assert not pair.stream.eof_written
    pings(pair)
    await turns()
    assert len(pair.server.pings) == 0


@clocktest
async def test_keepalive_ends_with_the_connection() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5)
    keepalive = asyncio.ensure_future(pair.server.keepalive_ping())
    await asyncio.sleep(21)
    assert not keepalive.done()
    pair.stream.lose()
    await keepalive
    await asyncio.sleep(100)
    assert len(pair.stream.writes) == 1


@clocktest
async def test_keepalive_that_is_cancelled_stops_and_may_begin_again() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5)
    keepalive = asyncio.ensure_future(pair.server.keepalive_ping())
    await turns()
    keepalive.cancel()
    await asyncio.sleep(100)
    assert pair.stream.unsent == 0
    keepalive = asyncio.ensure_future(pair.server.keepalive_ping())
    await asyncio.sleep(20)
    await turns()
    assert pings(pair) == 1
    pair.server.end_connection()
    await keepalive


@clocktest
async def test_a_pong_that_comes_when_keepalive_has_stopped_starts_nothing() -> None:
    pair = Pair(ping_interval=20, ping_timeout=5)
    await asyncio.sleep(20)
    await turns()
    pings(pair)  # The pong has arrived, but nobody has heard of it yet.
    pair.server.end_connection()
    await asyncio.sleep(9)
    assert len(pair.stream.writes) == 2
