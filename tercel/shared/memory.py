"""Handles a MemoryError that reaches the event loop itself.

Such errors come from transports and callbacks, often repeatedly, and the traceback of each would
need memory, too. Knows no protocol.
"""

import asyncio
from typing import Any

from tercel.shared.limits import Limits
from tercel.shared.logs import logger

log = logger("tercel.limits")


class MemoryWatch:
    """Counts a loop's MemoryErrors as a limit that was met; passes on all other errors."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._before: Any = None
        self._begun = False

    def begin(self) -> None:
        """Install this as the loop's exception handler."""
        self._before = self._loop.get_exception_handler()
        self._begun = True
        self._loop.set_exception_handler(self._failed)

    def end(self) -> None:
        """Restore the previous exception handler, unless another was set since."""
        if self._begun and self._loop.get_exception_handler() == self._failed:
            self._loop.set_exception_handler(self._before)
        self._begun = False

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, MemoryError):
            self._limits.memory_ran_out()
            log.debug("%s", context.get("message"), exc_info=error)
        elif self._before is None:
            loop.default_exception_handler(context)
        else:
            self._before(loop, context)
