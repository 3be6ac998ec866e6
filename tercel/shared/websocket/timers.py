"""Time limits of a WebSocket: keepalive (RFC 6455 5.5.2), and the closing handshake.

Uses timers, no tasks. Knows no frames.
"""

import asyncio
from collections.abc import Callable

from tercel.shared.bytestream import ByteStream

BACKLOG_BYTES = 256
"""Unsent bytes up to this, one or two control frames, are no reason for a late answer."""


class Progress:
    """Tells whether the peer accepts written data: if so, it is slow and not gone."""

    __slots__ = ("_before", "_stream")

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._before = stream.unsent

    def made(self) -> bool:
        """Whether fewer bytes are unsent than the last time."""
        before, self._before = self._before, self._stream.unsent
        return self._before < before and before > BACKLOG_BYTES


class CloseTimer:
    """Calls `overdue` when the peer neither accepted data nor closed for `timeout` seconds.

    When `overdue` returns False, the peer is not at fault and the time starts again.
    """

    __slots__ = ("_loop", "_overdue", "_progress", "_timeout", "_timer")

    def __init__(
        self,
        stream: ByteStream,
        *,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
        overdue: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._overdue = overdue
        self._progress = Progress(stream)
        self._timer = loop.call_later(timeout, self._check)

    def cancel(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._progress.made() or not self._overdue():
            self._timer = self._loop.call_later(self._timeout, self._check)


class Keepalive:
    """Sends a ping `interval` seconds after the last pong, and expects its pong in `timeout`.

    None or 0 for `interval` sends no pings; for `timeout` it waits for ever. `ping` sends one and
    returns the future of its pong. When the pong is late, `overdue` is called,
    unless `excused` says that the peer is not at fault.
    """

    __slots__ = ("_excused", "_interval", "_loop", "_overdue", "_ping", "_timeout", "_timer")

    def __init__(
        self,
        *,
        interval: float | None,
        timeout: float | None,
        ping: Callable[[], asyncio.Future[None]],
        excused: Callable[[], bool],
        overdue: Callable[[], None],
    ) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping = ping
        self._excused = excused
        self._overdue = overdue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with the first interval, unless it has begun already."""
        if self._interval and self._loop is None:
            self._loop = loop
            self._timer = loop.call_later(self._interval, self._due)

    def stop(self) -> None:
        """Send no more pings."""
        self._loop = None
        self._cancel()

    def _due(self) -> None:
        assert self._loop is not None  # noqa: S101  # stop() has cancelled the timer otherwise
        self._timer = None
        if self._timeout:
            self._timer = self._loop.call_later(self._timeout, self._late, self._timeout)
        self._ping().add_done_callback(self._answered)

    def _answered(self, pong: asyncio.Future[None]) -> None:
        if self._loop is None or pong.cancelled() or pong.exception() is not None:
            self.stop()
            return
        self._cancel()
        assert self._interval is not None  # noqa: S101  # start() has seen to it
        self._timer = self._loop.call_later(self._interval, self._due)

    def _late(self, timeout: float) -> None:
        assert self._loop is not None  # noqa: S101  # as above
        if self._excused():
            self._timer = self._loop.call_later(timeout, self._late, timeout)
        else:
            self.stop()
            self._overdue()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
