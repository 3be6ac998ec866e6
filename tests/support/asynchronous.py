"""Asynchronous tests without a plugin."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tercel.shared.loop import run as run_loop

PATIENCE_SECONDS = 50.0
"""How long a test waits for one thing that is certain to come. It ends what hangs; how fast or how
loaded a machine is must not decide over a test. Less than the server's own limits of a minute."""
TEST_SECONDS = 200.0
"""How long a whole test may take, for the same reason."""


def asynctest(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run `test` on a new event loop, for TEST_SECONDS at most."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TEST_SECONDS))

    return run


async def turns(count: int = 5) -> None:
    """Let the loop turn `count` times: what is ready runs, what waits goes on waiting."""
    for _ in range(count):
        await asyncio.sleep(0)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run `test` on asyncio's own loop and on uvloop, for TEST_SECONDS at most each."""

    @pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
    def run(*args: Any, loop_kind: str, **kwargs: Any) -> None:
        run_loop(asyncio.wait_for(test(*args, **kwargs), TEST_SECONDS), loop_kind)

    signature = inspect.signature(test)
    kind = inspect.Parameter("loop_kind", inspect.Parameter.KEYWORD_ONLY)
    functools.update_wrapper(run, test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), kind]
    )
    return run
