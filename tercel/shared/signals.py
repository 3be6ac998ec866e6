"""SIGINT, SIGTERM and SIGHUP for a server in the foreground. Knows nothing about servers."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from tercel.shared.errors import ConfigurationError

HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([HANG_UP] if HANG_UP is not None else []))


class Signal:
    """A flag that a server and its connections share: whether the server is to stop."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False


def in_main_thread() -> bool:
    """Whether this is the thread in which Python receives signals."""
    return threading.current_thread() is threading.main_thread()


def require_main_thread() -> None:
    """Raise ConfigurationError in any thread that does not receive signals."""
    if not in_main_thread():
        raise ConfigurationError(
            "signals are only received in the main thread: serve there, or pass "
            "register_sys_signals=False"
        )


class StopSignals:
    """Context manager: each SIGINT, SIGTERM and SIGHUP calls `stop` inside `loop`.

    SIGHUP is handled only if it has the default action: nohup(1) has it ignored, and a program may
    have a handler of its own. With `ignore_interrupt`, SIGINT does nothing: Ctrl-C reaches every
    process of the terminal's group, and a worker is stopped by its parent. Raises as
    `require_main_thread` does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[signal.Signals], None],
        *,
        ignore_interrupt: bool = False,
    ) -> None:
        self._loop = loop
        self._stop = stop
        self._ignore_interrupt = ignore_interrupt
        self._previous: dict[signal.Signals, Any] = {}
        self._in_loop: list[signal.Signals] = []

    def __enter__(self) -> Self:
        require_main_thread()
        for number in STOP_SIGNALS:
            self._handle(number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in self._in_loop:
            self._loop.remove_signal_handler(number)
        self._in_loop.clear()
        for number, handler in self._previous.items():
            # None is a handler that was not set from Python and cannot be set again from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: signal.Signals) -> None:
        previous = signal.getsignal(number)
        if number is HANG_UP and previous is not signal.SIG_DFL:
            return
        self._previous[number] = previous
        if self._ignore_interrupt and number is signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
        else:
            self._add(number)

    def _add(self, number: signal.Signals) -> None:
        try:
            self._loop.add_signal_handler(number, self._stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, self._from_thread)
        else:
            self._in_loop.append(number)

    def _from_thread(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop, signal.Signals(number))
