"""Connection IDs of connections in the draining period (RFC 9000 10.2)."""

from collections.abc import Iterable

# Some six for each connection. The oldest go first: a packet that is as late is answered as one of
# no known connection, which is allowed, if in vain.
_MOST_IDS = 4096


class DrainingConnectionIds:
    """Connection IDs of draining connections: packets for them get no answer."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def add(self, cids: Iterable[bytes], until: float, now: float) -> None:
        """Remember `cids` until the time `until`, and forget those that have expired."""
        for cid in cids:
            self._until[cid] = until
        while self._until:
            oldest, end = next(iter(self._until.items()))
            if end > now and len(self._until) <= _MOST_IDS:
                break
            del self._until[oldest]

    def __contains__(self, cid: bytes) -> bool:
        return cid in self._until
