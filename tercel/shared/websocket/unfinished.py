"""Limits on incomplete messages: time and memory.

Knows no frames. RFC 6455 leaves it open how long a message may take, and compression lets 16 KB of
it take 16 MB of memory.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.extensions import Extension
from websockets.frames import Frame

from tercel.shared.buffered import COUNTED_FROM_BYTES, Account
from tercel.shared.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """The limits on messages that are incomplete, or not read by the application."""

    timeout: float = 60.0
    """Longest pause in the middle of a message, in seconds; 0 is no limit."""
    least_rate: int = 16
    """Bytes per second on average, after a grace of `timeout`; 0 is no limit."""
    held_bytes: int = sys.maxsize
    """Bytes of messages, complete or not, of all WebSockets on one connection."""

    @classmethod
    def of(cls, settings: Settings) -> "MessageLimits":
        """The limits of `settings`: as much as of other content, and one message of any size."""
        return cls(
            timeout=settings.ws_message_timeout,
            least_rate=settings.min_content_rate,
            held_bytes=settings.connection_window_bytes + settings.ws_max_message_bytes,
        )


class HeldMessages:
    """The message bytes of one WebSocket in its connection's account."""

    __slots__ = ("_account", "_most", "counted")

    def __init__(self, account: Account, limits: MessageLimits) -> None:
        self._account = account
        self._most = limits.held_bytes
        self.counted = 0
        """Bytes that are counted in the account."""

    def count(self, size: int) -> None:
        """The WebSocket holds `size` bytes now. Small sizes are not counted."""
        if size < COUNTED_FROM_BYTES:
            size = 0
        if size != self.counted:
            change, self.counted = size - self.counted, size
            self._account.hold_messages(change)

    def room(self) -> int:
        """How many bytes more may be held on the connection."""
        return self._most - self._account.messages

    def __del__(self) -> None:
        # Unread messages are freed with the WebSocket.
        self.count(0)

    @property
    def given_up(self) -> bool:
        """Whether the held messages are to be dropped, as the memory is needed."""
        return self._account.given_up


class BoundedExtension(Extension):
    """Wraps `extension`: a frame may be inflated to no more bytes than `room()` at that moment."""

    def __init__(self, extension: Extension, room: Callable[[], int]) -> None:
        self.name = extension.name
        self.encode = extension.encode  # type: ignore[method-assign]
        self._extension = extension
        self._room = room

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Decode `frame` as the extension does."""
        # zlib takes 0 for no limit.
        room = max(self._room(), 1)
        return self._extension.decode(
            frame, max_size=room if max_size is None else min(max_size, room)
        )


class MessageTimer:
    """Calls `overdue` when the rest of a message does not arrive in time.

    `excused` says whether this side has paused receiving.
    """

    __slots__ = (
        "_before",
        "_excused",
        "_latest",
        "_limits",
        "_loop",
        "_overdue",
        "_since",
        "_timer",
        "_total",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: MessageLimits,
        *,
        excused: Callable[[], bool],
        overdue: Callable[[], Any],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._excused = excused
        self._overdue = overdue
        self._since: float | None = None
        self._latest = 0.0
        self._total = self._before = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether a message is incomplete."""
        return self._since is not None

    def received(self, total: int) -> None:
        """`total` bytes of messages were received so far, and one message is incomplete."""
        if not self._limits.timeout:
            return
        if self._since is None:
            self._since = self._latest = self._loop.time()
            self._before = total
            if self._timer is None:
                self._arm(self._limits.timeout)
        elif total > self._total:
            self._latest = self._loop.time()
        self._total = total

    def finished(self) -> None:
        """The message is complete. The timer keeps running for the next one."""
        self._since = None

    def stop(self) -> None:
        """Stop the timer."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        now = self._loop.time()
        if self._excused():
            # The rest may have waited on this side all the time, so the limits start again.
            self._since, self._latest, self._before = now, now, self._total
        left = self._deadline(self._since) - now
        if left > 0:
            self._arm(left)
        else:
            self._since = None
            self._overdue()

    def _deadline(self, since: float) -> float:
        limits = self._limits
        deadline = self._latest + limits.timeout
        if limits.least_rate:
            # As for content: received bytes extend the time.
            received = self._total - self._before
            deadline = min(deadline, since + limits.timeout + received / limits.least_rate)
        return deadline
