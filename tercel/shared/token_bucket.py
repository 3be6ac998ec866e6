"""The token bucket behind every rate limit. Has no clock of its own."""


class TokenBucket:
    """Admits `rate` per second in the long run, and up to `burst` at once.

    Only what is admitted takes tokens: however much is refused, `rate` per second are still
    admitted. By default, `burst` is the amount of one second. A bucket starts full.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, *, burst: float | None = None) -> None:
        self._rate = rate
        self._burst = self._left = float(rate if burst is None else burst)
        self._at = 0.0

    def admit(self, now: float, amount: float = 1) -> bool:
        """Take `amount` tokens; False, and none is taken, if there are not enough.

        `now` is in seconds, by any monotonic clock that is never negative.
        """
        left = self._left + (now - self._at) * self._rate
        if left > self._burst:
            left = self._burst
        self._at = now
        admitted = left >= amount
        self._left = left - amount if admitted else left
        return admitted

    @property
    def left(self) -> float:
        """The number of tokens after the last `admit` or `give`."""
        return self._left

    def give(self, amount: float) -> None:
        """Add `amount` tokens, up to the bucket's capacity."""
        self._left = min(self._left + amount, self._burst)
