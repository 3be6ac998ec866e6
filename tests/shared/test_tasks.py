"""Tasks that cannot get lost."""

import asyncio

import pytest

from tercel.shared.tasks import TaskSet
from tests.support.asynchronous import asynctest, turns

MOMENT = 0.001


def task_set() -> TaskSet:
    return TaskSet(asyncio.get_running_loop())


@asynctest
async def test_task_is_kept_until_it_ends() -> None:
    tasks = task_set()
    event = asyncio.Event()
    task = tasks.spawn(event.wait(), name="waiter")
    assert (len(tasks), task.get_name()) == (1, "waiter")
    event.set()
    assert await tasks.wait() is True
    assert (len(tasks), task.done()) == (0, True)


@asynctest
async def test_error_of_a_task_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("broken")

    tasks = task_set()
    tasks.spawn(fail(), name="failing")
    await tasks.wait()
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("tercel.tasks", "task failing failed")
    ]
    assert isinstance(caplog.records[0].exc_info, tuple)


@asynctest
async def test_wait_for_nothing_returns_at_once() -> None:
    assert await task_set().wait(10) is True


@pytest.mark.parametrize("timeout", [0, MOMENT])
@asynctest
async def test_wait_gives_up_after_its_timeout(timeout: float) -> None:
    tasks = task_set()
    tasks.spawn(asyncio.Event().wait(), name="waiter")
    assert await tasks.wait(timeout) is False
    await tasks.cancel_all()


@pytest.mark.parametrize("timeout", [None, 10])
@asynctest
async def test_wait_waits_for_tasks_that_tasks_start(timeout: float | None) -> None:
    tasks = task_set()
    ended = []

    async def child() -> None:
        await turns()
        ended.append(True)

    async def parent() -> None:
        tasks.spawn(child(), name="child")

    tasks.spawn(parent(), name="parent")
    assert await tasks.wait(timeout) is True
    assert ended == [True]


@asynctest
async def test_cancel_all_returns_when_each_has_cleaned_up() -> None:
    tasks = task_set()
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            cleaned.append(True)

    for number in range(3):
        tasks.spawn(work(), name=str(number))
    await turns()
    await tasks.cancel_all()
    assert (cleaned, len(tasks)) == ([True] * 3, 0)


@asynctest
async def test_cancel_all_reaches_tasks_started_by_those_that_end() -> None:
    tasks = task_set()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.spawn(asyncio.Event().wait(), name="late")

    tasks.spawn(work(), name="work")
    await turns()
    await tasks.cancel_all()
    assert len(tasks) == 0


@asynctest
async def test_cancel_all_cancels_each_task_once() -> None:
    tasks = task_set()
    cancellations = []

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancellations.append(True)
            await turns()

    tasks.spawn(stubborn(), name="first")
    tasks.spawn(stubborn(), name="second")
    await turns()
    await tasks.cancel_all()
    assert cancellations == [True, True]


@asynctest
async def test_cancelled_task_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = task_set()
    tasks.spawn(asyncio.Event().wait(), name="waiter")
    await tasks.cancel_all()
    assert caplog.records == []
