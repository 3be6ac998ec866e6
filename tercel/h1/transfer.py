"""Content that the kernel sends directly: past the transport, through the socket below it.

Knows neither messages nor files, only when the socket is free and when it is writable.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from tercel.shared.errors import StreamAborted
from tercel.shared.flow import WriteGate
from tercel.shared.stream import Transfer

SUPPORTED = hasattr(os, "sendfile")


async def past_transport(
    transfer: Transfer,
    size: int,
    *,
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    gate: WriteGate,
    drain: Callable[[], Awaitable[None]],
) -> AsyncIterator[int]:
    """Call `transfer` until it has sent `size` bytes or has no more; yields each number.

    `gate` is the one that `drain` waits at. No other code may write meanwhile. Raises as `drain`
    does, and StreamAborted when the socket fails.
    """
    if transport.is_closing():
        raise StreamAborted("the connection is closing")
    # The loop watches the transport's descriptor already, and does not allow a second watch.
    descriptor = os.dup(transport.get_extra_info("socket").fileno())
    low, high = transport.get_write_buffer_limits()
    try:
        # The transport's data is sent first: the gate opens when its buffer is empty.
        transport.set_write_buffer_limits(high=0)
        while size > 0:
            await drain()
            sent = await transfer(descriptor)
            if sent < 0:
                return
            if not sent:
                await _writable(descriptor, loop, gate, drain)
                continue
            size -= sent
            yield sent
    except (ConnectionError, TimeoutError) as error:
        raise StreamAborted("the client closed the connection") from error
    finally:
        os.close(descriptor)
        if not transport.is_closing():
            transport.set_write_buffer_limits(high=high, low=low)


async def _writable(
    descriptor: int,
    loop: asyncio.AbstractEventLoop,
    gate: WriteGate,
    drain: Callable[[], Awaitable[None]],
) -> None:
    gate.pause()
    loop.add_writer(descriptor, gate.resume)
    try:
        await drain()
    finally:
        loop.remove_writer(descriptor)
