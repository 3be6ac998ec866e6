"""How many rounds there is time for, when a run has a limit of its own.

The chief scenarios get all their rounds. What time is left is shared among the others as they come:
one round each at least, however late it is.
"""

from collections.abc import Callable, Iterator

Clock = Callable[[], float]


class Budget:
    """`rounds` for each scenario, while there is time. `seconds` is None for as long as it takes.

    `chief` and `others` are how many scenarios of either kind there will be.
    """

    def __init__(self, rounds: int, seconds: float | None, *, chief: int, others: int) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self._chief = chief
        self._others = others
        self._spent_on_chief = 0.0
        self._chief_done = 0

    def rounds(self, now: Clock, *, chief: bool) -> Iterator[int]:
        """The numbers of the rounds of the next scenario; `now` gives seconds since the start."""
        started = now()
        share = self._share(started, chief=chief)
        for number in range(self._rounds):
            took = (now() - started) / number if number else 0.0
            # Not begun when it would end after the share is spent.
            if number and share is not None and now() - started + took > share:
                break
            yield number
        if chief:
            self._chief -= 1
            self._chief_done += 1
            self._spent_on_chief += now() - started
        else:
            self._others -= 1

    def _share(self, started: float, *, chief: bool) -> float | None:
        if self._seconds is None or chief:
            return None
        each = self._spent_on_chief / self._chief_done if self._chief_done else 0.0
        left = self._seconds - started - each * self._chief
        return max(0.0, left / max(1, self._others))
