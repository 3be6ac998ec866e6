"""Tasks that cannot get lost."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
import uvloop

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


# -- tasks that run at once ----------------------------------------------------------------------

loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
Work = Callable[[list[Any]], Coroutine[Any, Any, None]]
marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="outer")


def seen_by(work: Work, how: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Any:
    """What `work` notes down when a callback of the loop starts it by the method `how`."""
    seen: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = TaskSet(loop)
        begun = loop.create_future()

        def callback() -> None:
            getattr(tasks, how)(work(seen), name="work")
            begun.set_result(None)

        loop.call_soon(callback)
        await begun
        assert await tasks.wait(10), "the work goes on"
        seen.append(len(tasks))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    return seen


async def never_waits(seen: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    seen += [task.get_name(), task.done(), task in asyncio.all_tasks(), type(task)]


async def waits(seen: list[Any]) -> None:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    seen.append(asyncio.current_task() is before)
    await asyncio.sleep(MOMENT)
    seen.append(asyncio.current_task() is before)


async def times_out(seen: list[Any]) -> None:
    try:
        async with asyncio.timeout(MOMENT):
            await asyncio.Event().wait()
    except TimeoutError:
        task = asyncio.current_task()
        seen.append(("timeout", task.cancelling() if task else None))
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
    seen.append("in time")


async def uses_anyio(seen: list[Any]) -> None:
    with anyio.move_on_after(MOMENT) as scope:
        await anyio.sleep_forever()
    seen.append(scope.cancelled_caught)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, MOMENT)
        group.start_soon(anyio.sleep, 0)
    seen.append("group")
    seen.append(await anyio.to_thread.run_sync(lambda: 5))


async def gathers(seen: list[Any]) -> None:
    async def child(number: int) -> int:
        await asyncio.sleep(0)
        return number

    seen.append(await asyncio.gather(child(1), child(2)))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(child(3))
    seen.append(task.result())
    seen.append(await asyncio.wait_for(child(4), 10))


async def cancels_itself(seen: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        seen.append(("cancelled", task.cancelling()))
        raise


async def has_callbacks(seen: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda done: seen.append(done is task))


async def sets_a_variable(seen: list[Any]) -> None:
    seen.append(marker.get())
    marker.set("inner")
    await asyncio.sleep(0)
    seen.append(marker.get())


async def calls_soon(seen: list[Any]) -> None:
    asyncio.get_running_loop().call_soon(seen.append, "called")
    seen.append("before")
    await asyncio.sleep(MOMENT)


every_work = pytest.mark.parametrize(
    "work",
    [
        never_waits,
        waits,
        times_out,
        uses_anyio,
        gathers,
        cancels_itself,
        has_callbacks,
        sets_a_variable,
        calls_soon,
    ],
)


@every_work
@loops
def test_a_started_task_sees_what_a_spawned_one_sees(work: Work, loop_factory: Any) -> None:
    assert seen_by(work, "start", loop_factory) == seen_by(work, "spawn", loop_factory)


def in_callback(
    act: Callable[[TaskSet], None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    then: Callable[[TaskSet], Awaitable[None]] | None = None,
) -> None:
    """Call `act` in a callback of a loop, then await `then`."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = TaskSet(loop)
        loop.call_soon(act, tasks)
        await turns()
        if then is not None:
            await then(tasks)
        await tasks.cancel_all()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@loops
def test_what_never_waits_is_over_when_start_returns(loop_factory: Any) -> None:
    seen: list[Any] = []

    def act(tasks: TaskSet) -> None:
        tasks.start(never_waits(seen), name="work")
        seen.append(len(tasks))

    in_callback(act, loop_factory)
    assert seen == ["work", False, True, asyncio.Task, 0]


@loops
def test_what_waits_is_kept_until_it_ends(loop_factory: Any) -> None:
    event = asyncio.Event()
    seen: list[Any] = []

    def act(tasks: TaskSet) -> None:
        tasks.start(event.wait(), name="waiter")
        seen.append(len(tasks))

    async def then(tasks: TaskSet) -> None:
        event.set()
        seen.append(await tasks.wait(10))

    in_callback(act, loop_factory, then)
    assert seen == [1, True]


@loops
def test_the_context_of_a_started_task_is_its_own(loop_factory: Any) -> None:
    seen: list[Any] = []

    def act(tasks: TaskSet) -> None:
        tasks.start(sets_a_variable(seen), name="work")
        seen.append(marker.get())

    in_callback(act, loop_factory)
    assert seen == ["outer", "outer", "inner"]


@loops
def test_error_of_a_started_task_is_logged_once(
    loop_factory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise KeyError("broken")

    in_callback(lambda tasks: tasks.start(fail(), name="failing"), loop_factory)
    assert [r.getMessage() for r in caplog.records] == ["task failing failed"]


@loops
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop_ends_it_from_a_started_task_too(
    error: type[BaseException], loop_factory: Any
) -> None:
    after: list[str] = []

    async def leave() -> None:
        raise error

    def act(tasks: TaskSet) -> None:
        tasks.start(leave(), name="leaving")
        after.append("the callback goes on")

    with pytest.raises(error):
        in_callback(act, loop_factory)
    assert after == ["the callback goes on"]


@asynctest
async def test_from_within_a_task_start_is_spawn() -> None:
    tasks = task_set()
    seen: list[Any] = []
    tasks.start(never_waits(seen), name="work")
    assert (seen, len(tasks)) == ([], 1)
    await tasks.wait()
    assert seen[0] == "work"


def test_a_task_factory_is_respected() -> None:
    made: list[str] = []

    def factory(loop: Any, coroutine: Any, **kwargs: Any) -> Any:
        made.append("task")
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    def act(tasks: TaskSet) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        tasks.start(never_waits([]), name="work")
        made.append("started")

    in_callback(act)
    assert made[:2] == ["task", "started"]
