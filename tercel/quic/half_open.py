"""Handshakes under way, how many there may be, and an address's share of them. Knows no packets."""

from tercel.shared.sites import SiteCounts


class HalfOpenPlaces:
    """Places for connections whose handshake has not completed, `most` at one time.

    A host takes one under its name only when its address was validated (RFC 9000 8.1): others may
    be forged, and would take the share of whoever is there.
    """

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most
        self._validated = SiteCounts()

    def has_room(self, host: str | None) -> bool:
        """Whether one more may begin: for `host`, or, if None, for an address not validated.

        A site may have as many as are free: half of all if it is alone, a third if there is
        another like it, so that there is always room for those with less.
        """
        free = self._most - self.taken
        return free > 0 and (host is None or self._validated.count(host) <= free)

    def take(self, host: str | None) -> bool:
        """Begin one more; False, and nothing has changed, where there is no room for it."""
        if not self.has_room(host):
            return False
        self.taken += 1
        if host is not None:
            self._validated.add(host)
        return True

    def leave(self, host: str | None) -> None:
        """One that `take` began is over, or complete."""
        self.taken -= 1
        if host is not None:
            self._validated.remove(host)
