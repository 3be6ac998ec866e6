"""Background tasks that are kept, named, logged on errors, and cancelled together.

The only module that creates tasks.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from tercel.shared.logs import logger

log = logger("tercel.tasks")

_Task = asyncio.Task
_current_task = asyncio.current_task


class TaskSet:
    """The tasks of one owner.

    Each runs in a copy of the context in which the set was made: no task sees the context variables
    that another sets, whatever code starts it. A callback of the loop may run in the context of the
    task that scheduled it, which is that of an earlier request on the connection.
    """

    __slots__ = ("_context", "_loop", "_starter", "_tasks", "cancelled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()
        self._starter = _Starter(loop)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.cancelled = False
        """Whether `cancel_all` was called, which is what a CancelledError may come from."""

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `coroutine` as a task. An unhandled exception is logged once."""
        task = self._loop.create_task(coroutine, name=name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> None:
        """As `spawn`, but runs `coroutine` now, until it first waits.

        A request whose application never waits is answered before this returns: without another
        loop iteration, and without a task to keep. Saves 2 us for a small request.
        """
        try:
            task = self._starter.start(coroutine, name, self._context.copy())
        except (SystemExit, KeyboardInterrupt) as error:
            # They end the loop, from wherever it is; not the caller's connection.
            self._loop.call_soon(_raise, error)
            return
        if task is None:
            self.spawn(coroutine, name=name)
        elif not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._done)
        elif task.cancelled() or task.exception() is not None:
            self._done(task)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until all tasks have ended, `timeout` seconds at most; True when none is left."""
        deadline = None if timeout is None else self._loop.time() + timeout
        left = timeout
        # Tasks may start others while they are waited for.
        while self._tasks and (left is None or left > 0):
            await asyncio.wait(self._tasks, timeout=left)
            if deadline is not None:
                left = deadline - self._loop.time()
        return not self._tasks

    async def cancel_all(self) -> None:
        """Cancel every task and wait until each has ended."""
        self.cancelled = True
        cancelled: set[asyncio.Task[Any]] = set()
        while self._tasks:
            # Each once: those, too, that were started while others ended.
            for task in self._tasks - cancelled:
                task.cancel()
            cancelled |= self._tasks
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)


class _Starter:
    """Makes tasks that have already run until they first wait."""

    __slots__ = ("_attributes", "_loop", "_steps")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # A loop without attributes of its own has no room for the `call_soon` below.
        self._attributes: dict[str, Any] = getattr(loop, "__dict__", {"call_soon": None})
        self._steps: list[Callable[[], None]] = []

    def start(
        self, coroutine: Coroutine[Any, Any, Any], name: str, context: Context
    ) -> asyncio.Task[Any] | None:
        """Run `coroutine` in a new task until it waits; None if that is not possible here."""
        loop = self._loop
        if _current_task(loop) is not None or loop.get_task_factory() is not None:
            # One runs, and must go on being current; or somebody else decides what a task is.
            return None
        if sys.version_info >= (3, 12):
            return asyncio.Task(coroutine, loop=loop, name=name, context=context, eager_start=True)
        # A new task gives its first step to the loop's `call_soon`, to be run in the task's
        # context. Caught there and run at once, it is the step that the loop would have run: the
        # task is a whole one from the beginning, and current while it runs.
        attributes = self._attributes
        if "call_soon" in attributes:
            return None
        attributes["call_soon"] = self._catch
        try:
            task = _Task(coroutine, loop=loop, name=name, context=context)
        finally:
            del attributes["call_soon"]
        context.run(self._steps.pop())
        return task

    def _catch(self, step: Callable[[], None], context: Context) -> None:
        self._steps.append(step)


def _raise(error: BaseException) -> None:
    raise error
