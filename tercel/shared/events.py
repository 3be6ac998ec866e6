"""Callbacks that a user registers for the start and the stop of a server.

Knows nothing about servers: it calls what it is given, in order.
"""

import asyncio
from collections.abc import Callable, Iterable
from inspect import Parameter, isawaitable, signature
from typing import Any

Event = Callable[..., Any]


def trigger_events(
    events: Iterable[Event] | None,
    loop: asyncio.AbstractEventLoop,
    app: Any = None,
    **kwargs: Any,
) -> None:
    """Call each of `events` in order, and run awaitable results to completion on `loop`.

    `loop` must not be running; inside a running one, await `run_events`.
    """
    if events:
        loop.run_until_complete(run_events(events, loop, app, **kwargs))


async def run_events(
    events: Iterable[Event] | None,
    loop: asyncio.AbstractEventLoop,
    app: Any = None,
    **kwargs: Any,
) -> None:
    """Call each of `events` in order, and await each awaitable result before the next.

    A callback gets `app`, both `app` and `loop` if it needs two arguments or takes any number, and
    nothing if it takes nothing. Without an `app` it gets `loop` if it needs it. `kwargs` go to
    each. An exception of a callback ends the sequence.
    """
    for event in events or ():
        result = event(*_arguments(event, loop, app, kwargs), **kwargs)
        if isawaitable(result):
            await result


def _arguments(
    event: Event, loop: asyncio.AbstractEventLoop, app: Any, kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    # Binding to the signature, not calling and catching TypeError: a TypeError that the callback
    # itself raises is its own, and it must not run twice.
    full = (loop,) if app is None else (app, loop)
    try:
        expected = signature(event)
    except ValueError:  # some callables written in C have none
        return full
    if any(item.kind is Parameter.VAR_POSITIONAL for item in expected.parameters.values()):
        return full
    # An argument with a default is likely to be the callback's own: it keeps it.
    choices = [(), full] if app is None else [(app,), full, ()]
    for arguments in choices:
        try:
            expected.bind(*arguments, **kwargs)
        except TypeError:
            continue
        return arguments
    return full
