"""Waiting for events and above watermarks."""

import asyncio

import pytest

from tercel.shared.errors import StreamAborted
from tercel.shared.flow import Wakeup, WriteGate
from tests.support.asynchronous import asynctest, turns

MOMENT = 0.001


# -- Wakeup ----------------------------------------------------------------------------------------


@asynctest
async def test_set_wakes_everyone_who_waits() -> None:
    wakeup = Wakeup()
    waiting = [asyncio.ensure_future(wakeup.wait()) for _ in range(3)]
    await turns()
    wakeup.set()
    assert await asyncio.gather(*waiting) == [True, True, True]


@asynctest
async def test_set_is_not_kept_for_those_who_come_later() -> None:
    wakeup = Wakeup()
    wakeup.set()
    waiting = asyncio.ensure_future(wakeup.wait())
    await turns()
    assert not waiting.done()
    wakeup.set()
    assert await waiting


@asynctest
async def test_wait_gives_up_after_its_timeout() -> None:
    wakeup = Wakeup()
    assert await wakeup.wait(MOMENT) is False
    assert wakeup._waiters == []


@asynctest
async def test_wait_that_is_woken_stops_its_timer() -> None:
    wakeup = Wakeup()
    waiting = asyncio.ensure_future(wakeup.wait(10))
    await turns()
    wakeup.set()
    assert await waiting is True


@asynctest
async def test_cancelled_wait_is_forgotten() -> None:
    wakeup = Wakeup()
    waiting = asyncio.ensure_future(wakeup.wait())
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert wakeup._waiters == []


@asynctest
async def test_wait_that_was_cancelled_in_the_turn_of_its_set_stays_cancelled() -> None:
    wakeup = Wakeup()
    waiting = asyncio.ensure_future(wakeup.wait())
    await turns()
    waiting.cancel()
    wakeup.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# -- WriteGate -------------------------------------------------------------------------------------


def gate() -> WriteGate:
    return WriteGate(high=10, low=4)


@asynctest
async def test_open_gate_does_not_suspend() -> None:
    waiting = gate().wait()
    with pytest.raises(StopIteration) as caught:
        waiting.send(None)
    assert caught.value.value is True


@asynctest
async def test_gate_closes_above_high_and_opens_at_low() -> None:
    tested = gate()
    seen = []
    for size in (10, 11, 10, 5, 4, 10, 11):
        tested.update(size)
        seen.append(tested.paused)
    assert seen == [False, True, True, True, False, False, True]


@asynctest
async def test_writer_waits_until_little_enough_is_unsent() -> None:
    tested = gate()
    tested.update(11)
    waiting = asyncio.ensure_future(tested.wait())
    await turns()
    tested.update(5)
    await turns()
    assert not waiting.done()
    tested.update(4)
    assert await waiting is True


@asynctest
async def test_writer_waits_on_when_another_filled_the_buffer_first() -> None:
    tested = gate()
    tested.pause()
    waiting = asyncio.ensure_future(tested.wait())
    await turns()
    tested.resume()
    tested.pause()
    await turns()
    assert not waiting.done()
    tested.resume()
    assert await waiting is True


@asynctest
async def test_writer_learns_that_nothing_was_taken_in_time() -> None:
    tested = gate()
    tested.pause()
    assert await tested.wait(MOMENT) is False


@asynctest
async def test_closed_gate_raises_for_those_who_wait_and_those_who_come() -> None:
    tested = gate()
    tested.pause()
    waiting = asyncio.ensure_future(tested.wait())
    await turns()
    tested.close(StreamAborted("first"))
    tested.close(StreamAborted("second"))
    with pytest.raises(StreamAborted, match="first"):
        await waiting
    with pytest.raises(StreamAborted, match="first"):
        await tested.wait()
    tested.resume()
    with pytest.raises(StreamAborted, match="first"):
        await tested.wait()
