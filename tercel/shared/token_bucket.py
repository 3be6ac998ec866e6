"""The token bucket that every rate is limited with. Knows no clock of its own."""


class TokenBucket:
    """Admits `rate` per second in the long run, and up to `burst` at once.

    Only what is admitted takes tokens: however much is refused, `rate` per second still get in.
    Without `burst` one second's may come at once. A bucket begins full.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, *, burst: float | None = None) -> None:
        self._rate = rate
        self._burst = self._left = float(rate if burst is None else burst)
        self._at = 0.0

    def admit(self, now: float, amount: float = 1) -> bool:
        """Take `amount` tokens; False, and none is taken, where there are not as many.

        `now` is in seconds, of any clock that does not go below zero or back.
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
        """The tokens that were left when something was last admitted or given."""
        return self._left

    def give(self, amount: float) -> None:
        """Put `amount` tokens in, as far as there is room for them."""
        self._left = min(self._left + amount, self._burst)
