"""Limits on handshakes in progress, in total and per address. Knows no packets."""

from tercel.shared.sites import SiteCounts


class HalfOpenPlaces:
    """Places for connections whose handshake has not completed, `most` at one time.

    A place is counted for a host only if its address was validated (RFC 9000 8.1): other addresses
    may be forged, and would use up the share of their owners.
    """

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most
        self._validated = SiteCounts()

    def has_room(self, host: str | None) -> bool:
        """Whether there is room for `host`, or, if None, for an address that is not validated.

        A site may have as many places as are free: half of all if it is alone, a third if there is
        another like it, so that there is always room for those with fewer.
        """
        free = self._most - self.taken
        return free > 0 and (host is None or self._validated.count(host) <= free)

    def take(self, host: str | None) -> bool:
        """Take a place; False, and nothing has changed, if there is no room."""
        if not self.has_room(host):
            return False
        self.taken += 1
        if host is not None:
            self._validated.add(host)
        return True

    def leave(self, host: str | None) -> None:
        """Release a place: its handshake is complete or was given up."""
        self.taken -= 1
        if host is not None:
            self._validated.remove(host)
