"""How large the datagrams on a path may be: a search by probes (RFC 8899, RFC 9000 14.3).

Makes the decisions; knows nothing about packets or sockets. Sizes are bytes of UDP payload, times
are seconds by any monotonic clock.
"""

BASE_DATAGRAM_BYTES = 1200
"""The datagram size that every path of QUIC carries (RFC 9000 14)."""

# RFC 8899 5.1.2
MAX_PROBES = 3
# RFC 8899 5.1.1: PMTU_RAISE_TIMER
RAISE_SECONDS = 600.0

# The search ends when no more than this could be gained.
_LEAST_GAIN_BYTES = 16


class PathMtu:
    """The state of the search on one path. `most` is the largest datagram that is tried.

    The largest is tried first: nearly every path carries what its ends do.
    """

    def __init__(self, most: int) -> None:
        self.size = BASE_DATAGRAM_BYTES
        """The current maximum size of datagrams on the path."""
        self._most = most
        self._too_large = most + 1
        self._lost_probes = 0
        self._lost_in_turn = 0
        self._waiting = False
        self._raise_at: float | None = None

    def probe(self, now: float) -> int | None:
        """The size of a probe to send now, which then counts as sent; None for no probe."""
        if self._waiting:
            return None
        size = self._candidate()
        if size is None:
            if self.size >= self._most:
                return None
            if self._raise_at is None:
                self._raise_at = now + RAISE_SECONDS
            if now < self._raise_at:
                return None
            # RFC 8899 5.2: the path may carry more by now.
            self._search()
            size = self._most
        self._waiting = True
        return size

    def probe_acknowledged(self, size: int) -> None:
        """A probe of `size` was acknowledged."""
        self._waiting = False
        self._lost_probes = 0
        self.size = max(self.size, size)

    def probe_lost(self, size: int) -> None:
        """A probe of `size` was lost: after the third, the size is too large."""
        self._waiting = False
        self._lost_probes += 1
        if self._lost_probes >= MAX_PROBES:
            self._lost_probes = 0
            self._too_large = min(self._too_large, size)

    def acknowledged(self) -> None:
        """A datagram of `size`, not a probe, was acknowledged."""
        self._lost_in_turn = 0

    def lost(self) -> bool:
        """A datagram of `size` was lost; True if the path falls back to its base size for it.

        RFC 8899 4.3: a black hole shows by losses of large datagrams, one after another.
        """
        self._lost_in_turn += 1
        if self._lost_in_turn < MAX_PROBES:
            return False
        self.fall_back()
        return True

    def fall_back(self) -> None:
        """Use the size that every path carries, and search again."""
        self.size = BASE_DATAGRAM_BYTES
        self._lost_in_turn = 0
        self._search()

    def _search(self) -> None:
        self._too_large = self._most + 1
        self._lost_probes = 0
        self._raise_at = None

    def _candidate(self) -> int | None:
        """The size to try next: the maximum first, then by bisection."""
        if self._too_large > self._most:
            return self._most if self._most > self.size else None
        if self._too_large - self.size <= _LEAST_GAIN_BYTES:
            return None
        return (self.size + self._too_large) // 2
