"""Limits that all listeners of a server share, and their reports.

Each time that a limit is met is counted, but logged at most once per interval: a flood must not
become a flood of log lines. Knows no protocol.
"""

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Sized
from functools import partial

from tercel.shared.buffered import BufferLedger
from tercel.shared.logs import logger
from tercel.shared.machine import memory_bytes
from tercel.shared.settings import Settings
from tercel.shared.sites import SiteCounts
from tercel.shared.token_bucket import TokenBucket

log = logger("tercel.limits")

REPORT_INTERVAL_SECONDS = 10.0
# Let go of when memory runs out, so that what fails then can be ended and said. Zeros that nobody
# has looked at: address space, but no memory of the machine.
MEMORY_RESERVE_BYTES = 8 << 20
# How long no new connection is opened then; what makes memory short may well be over by the end.
_SHORT_SECONDS = 1.0
# What may be buffered of the memory that there is, unless it is set: the rest is for connections
# that hold nothing, some 50 KB each, and for the application.
_BUFFERED_PART = 4


class Limits:
    """Counts open connections and application calls, for all HTTP versions.

    `calls` has the application calls that have not returned; `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        calls: Sized = (),
    ) -> None:
        self._settings = settings or Settings()
        self._clock = clock
        self._calls = calls
        self._reports: dict[str, TokenBucket] = {}
        self._reported: Counter[str] = Counter()
        self._by_site = SiteCounts()
        self._reserve = bytes(MEMORY_RESERVE_BYTES)
        self._short_since = self._looked_at = 0.0
        self.connections = 0
        """Connections that are open, or in their handshake with a validated address."""
        self.met: Counter[str] = Counter()
        """How often each limit was met."""
        self.buffers = BufferLedger(
            self._settings.max_buffered_bytes or memory_bytes() // _BUFFERED_PART,
            clock=clock,
            met=partial(self.meet, "max_buffered_bytes"),
        )
        """Bytes buffered for clients."""

    @property
    def calls(self) -> int:
        """Requests that the application handles, until it has returned.

        Includes requests that were answered, or that their clients have given up.
        """
        return len(self._calls)

    def admits_connection(self, host: str | None) -> bool:
        """Whether one more connection may be open, from `host` or a unix socket."""
        settings = self._settings
        if not self._reserve and self._is_short_of_memory():
            self.meet("memory")
            return False
        if settings.max_connections and self.connections >= settings.max_connections:
            self.meet("max_connections")
            return False
        most = settings.max_connections_per_ip
        if most and host is not None and self._by_site.count(host) >= most:
            self.meet("max_connections_per_ip")
            return False
        return True

    def open_connection(self, host: str | None) -> bool:
        """Count one more connection from `host` or a unix socket; False if it may not be open.

        To be called with `host` once its address is validated: by TCP, or as in RFC 9000 8.1.
        Otherwise forged addresses would keep their owners out.
        """
        if not self.admits_connection(host):
            return False
        if host is not None and self._settings.max_connections_per_ip:
            self._by_site.add(host)
        self.connections += 1
        return True

    def close_connection(self, host: str | None) -> None:
        """A counted connection has ended."""
        self.connections -= 1
        if host is not None and self._settings.max_connections_per_ip:
            self._by_site.remove(host)

    def may_call(self) -> bool:
        """Whether the application may be called for one more request."""
        most = self._settings.max_concurrency
        if most and self.calls >= most:
            self.meet("max_concurrency")
            return False
        return True

    def memory_ran_out(self) -> None:
        """A MemoryError occurred outside the application.

        Releases a memory reserve for running work. No new connection is opened for a second.
        """
        self._reserve = b""
        self._short_since = self._clock()
        self.meet("memory")

    def meet(self, limit: str) -> None:
        """Count that `limit` was met, and log it unless that was done recently."""
        self.met[limit] += 1
        reports = self._reports.get(limit)
        if reports is None:
            reports = self._reports[limit] = TokenBucket(1 / REPORT_INTERVAL_SECONDS, burst=1)
        if not reports.admit(self._clock()):
            return
        log.warning(
            "limit met: %s (%d times since it was last said; %d connections, %d requests)",
            limit,
            self.met[limit] - self._reported[limit],
            self.connections,
            self.calls,
        )
        self._reported[limit] = self.met[limit]

    def _is_short_of_memory(self) -> bool:
        now = self._clock()
        if now - self._short_since < _SHORT_SECONDS:
            return True
        if now - self._looked_at >= _SHORT_SECONDS:
            self._looked_at = now
            # Connections that went may be garbage that nobody has looked for yet.
            gc.collect()
            # Free memory may be in pieces: a reserve that cannot be had turns nobody away. It is
            # not taken from those it was let go for, so there has to be as much beside it.
            with contextlib.suppress(MemoryError):
                bytes(2 * MEMORY_RESERVE_BYTES)
                self._reserve = bytes(MEMORY_RESERVE_BYTES)
        return False
