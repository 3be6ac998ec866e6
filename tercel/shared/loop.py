"""Chooses the event loop. The only module that knows uvloop."""

import asyncio
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tercel.shared.errors import ConfigurationError
from tercel.shared.logs import logger

log = logger("tercel.server")

Result = TypeVar("Result")
# How often a loop may be stopped while what runs on it ends; uvloop counts the first one twice.
_STOPS = 8

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def try_use_uvloop() -> None:
    """Make uvloop the loop of every later `asyncio.run`; no effect if it is not installed."""
    uvloop = _uvloop()
    if uvloop is not None:
        _set_policy(uvloop.EventLoopPolicy)


def try_windows_loop() -> None:
    """Make the selector loop Windows' default; no effect on other systems.

    The proactor loop, which is Windows' own default, cannot watch a UDP socket with `add_reader`.
    """
    if sys.platform == "win32":
        _set_policy(asyncio.WindowsSelectorEventLoopPolicy)


def run(main: Coroutine[Any, Any, Result], kind: str = "auto") -> Result | None:
    """Run `main` on a new loop of `kind`: auto, asyncio or uvloop, as `complete` does.

    Raises ConfigurationError when uvloop was asked for and is not installed.
    """
    try:
        factory = loop_factory(kind)
    except ConfigurationError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return complete(main, runner.run)


def complete(
    main: Coroutine[Any, Any, Result], run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> Result | None:
    """Run `main` by `run`, a method of a runner or a loop.

    A `stop` of the loop meanwhile cancels `main`, which has the time that it needs to end; the
    result is None then. So does a task that raises SystemExit, which is logged with its traceback
    and raised when `main` has ended.
    """
    tasks: list[asyncio.Task[Any]] = []

    async def known() -> Result:
        current = asyncio.current_task()
        assert current is not None  # noqa: S101  # coroutines run in tasks
        tasks.append(current)
        return await main

    async def ended() -> None:
        await asyncio.wait(tasks)

    exit: SystemExit | None = None
    try:
        result: Result = run(known())
    except (RuntimeError, SystemExit) as error:
        if not tasks or tasks[0].done():
            raise
        if isinstance(error, SystemExit):
            exit = error
            log.error("a task ends the process: stopping", exc_info=error)
        tasks[0].cancel()
    else:
        return result
    for _ in range(_STOPS):
        try:
            run(ended())
        except (RuntimeError, SystemExit):
            continue  # stopped once more
        break
    if exit is not None:
        raise exit
    return None


def forget_stop(loop: asyncio.AbstractEventLoop) -> None:
    """Clear a pending `stop` of `loop`, so that its next run is complete.

    No effect while a loop runs here. `stop` of a loop that does not run, as after an interrupted
    `run_forever`, makes its next run end after one iteration. Such a run may leave another stop
    behind.
    """
    if loop.is_running() or loop.is_closed() or _a_loop_runs():
        return
    loop.stop()
    loop.run_forever()  # for that one iteration


def loop_factory(kind: str) -> LoopFactory:
    """The factory of loops of `kind`: auto, asyncio or uvloop; auto is uvloop if installed."""
    uvloop = None if kind == "asyncio" else _uvloop()
    if uvloop is not None:
        factory: LoopFactory = uvloop.new_event_loop
        return factory
    if kind == "uvloop":
        raise ConfigurationError(
            "--loop uvloop: uvloop is not installed; pip install uvloop, or use --loop asyncio"
        )
    # Windows' own default is the proactor loop, which has no add_reader for UDP sockets.
    return asyncio.SelectorEventLoop if sys.platform == "win32" else asyncio.new_event_loop


def _a_loop_runs() -> bool:
    """Whether this thread is inside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _uvloop() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop


def _set_policy(policy: Callable[[], Any]) -> None:
    # Python 3.14 deprecates policies in favour of loop factories, which `run` uses. Whoever calls
    # for a policy by name wants exactly that, so the warning would only tell him what he knows.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy())
