"""A loop that is blocked is told of, with where, once; one that is idle or busy is not."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import pytest

from tercel.shared.loop import run
from tercel.shared.watchdog import LoopWatchdog
from tests.support.asynchronous import PATIENCE_SECONDS

LIMIT = 0.05

either_loop = pytest.mark.parametrize("kind", ["asyncio", "uvloop"])


def functions(frames: Sequence[FrameType]) -> str:
    return " ".join(frame.f_code.co_name for frame in frames)


@contextmanager
def watching(limit: float = LIMIT) -> Iterator[LoopWatchdog]:
    watchdog = LoopWatchdog(asyncio.get_running_loop(), limit=limit, place=functions)
    watchdog.begin()
    try:
        yield watchdog
    finally:
        watchdog.end()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(LIMIT / 10)


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tercel watchdog"]


def holds_up() -> None:
    time.sleep(3 * LIMIT)


@either_loop
def test_a_blocked_loop_is_told_once_with_where_and_once_when_it_runs_again(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with watching():
            await asyncio.sleep(LIMIT)
            for episode in range(2):
                holds_up()
                await until(lambda: len(caplog.records) == 2 * (episode + 1))  # noqa: B023

    run(main(), kind)
    assert [record.msg for record in caplog.records] == 2 * [
        "the event loop has been blocked for %.1f s, in %s",
        "the event loop runs again, after %.1f s",
    ]
    for blocked, again in zip(caplog.records[::2], caplog.records[1::2], strict=True):
        assert (blocked.levelno, blocked.name) == (logging.WARNING, "tercel.loop")
        assert isinstance(blocked.args, tuple)
        assert isinstance(again.args, tuple)
        seconds, place = blocked.args
        # The frames of the callback alone, not those of what runs the loop.
        assert str(place).endswith("main holds_up")
        assert "run_forever" not in str(place)
        assert LIMIT <= seconds <= again.args[0]  # type: ignore[operator]


@either_loop
def test_the_end_of_a_block_is_told_even_when_the_watching_ends_with_it(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with watching(limit=4 * LIMIT):
            await asyncio.sleep(4 * LIMIT)
            time.sleep(13 * LIMIT)
            await asyncio.sleep(LIMIT / 4)  # much shorter than the time between two checks

    run(main(), kind)
    assert [message.split(",")[0] for message in caplog.messages][1:] == [
        "the event loop runs again"
    ]


@either_loop
def test_a_callback_that_blocks_is_found_as_well(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with watching():
            asyncio.get_running_loop().call_later(LIMIT, holds_up)
            await until(lambda: len(caplog.records) == 2)

    run(main(), kind)
    assert caplog.messages[0].endswith("holds_up")


@either_loop
def test_a_loop_that_is_idle_or_busy_is_not_told_of(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        # Much longer than any step of it takes, as long as the machine lets it run at all.
        with watching(limit=0.5):
            await asyncio.sleep(1.0)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                await asyncio.sleep(0)

    run(main(), kind)
    assert caplog.records == []


def test_no_limit_is_no_thread() -> None:
    async def main() -> None:
        await until(lambda: not watchdogs())  # those of other tests
        with watching(limit=0):
            assert watchdogs() == []

    run(main())


@either_loop
def test_the_thread_ends_with_the_watching_and_with_the_loop(kind: str) -> None:
    async def main() -> None:
        await until(lambda: not watchdogs())
        with watching():
            assert len(watchdogs()) == 1
        await until(lambda: not watchdogs())
        LoopWatchdog(asyncio.get_running_loop(), limit=LIMIT, place=functions).begin()

    run(main(), kind)
    for thread in watchdogs():
        thread.join(PATIENCE_SECONDS)
    assert watchdogs() == []
