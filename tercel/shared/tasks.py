"""Background tasks that cannot get lost: kept, named, their errors logged, all cancelled together.

The only module that creates tasks.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("tercel.tasks")


class TaskSet:
    """The tasks of one owner."""

    __slots__ = ("_loop", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `coroutine` as a task. An exception that leaves it is logged once."""
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

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
