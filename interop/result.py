"""What becomes of test cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a test case ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    """One of the two does not have it."""
    MISSING = "missing"
    """A program that it needs is not here."""

    @property
    def mark(self) -> str:
        """One character for it."""
        match self:
            case Outcome.PASSED:
                return "✓"
            case Outcome.FAILED:
                return "✗"
            case Outcome.UNSUPPORTED:
                return "\N{EN DASH}"
            case Outcome.MISSING:
                return "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell of the matrix."""

    server: str
    client: str
    case: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    """From the client's start to its end."""
    kilobits: float = 0.0
    """Kilobits of content per second, if that was measured: the median of all repetitions."""
    spread: tuple[float, float] = (0.0, 0.0)
    """The least and the most of them."""
    attempts: int = 1
    """How often it was tried until it passed, or was given up."""
    logs: str = ""
    """The directory with what is left of it, relative to the results."""

    @property
    def rate(self) -> str:
        """What was measured, for people: megabits per second."""
        median, least, most = (value / 1000 for value in (self.kilobits, *self.spread))
        return f"{median:.2f} ({least:.2f} to {most:.2f}) Mbit/s"

    @property
    def key(self) -> tuple[str, str, str]:
        """Which cell it is."""
        return self.server, self.client, self.case


@dataclass(frozen=True, slots=True)
class Run:
    """All results of one run, and what it was made with."""

    results: Sequence[Result]
    versions: dict[str, str]
    """Versions of what took part, by name."""
    date: str

    def pairs(self, *, server: str | None = None, client: str | None = None) -> list[str]:
        """The names at the other end of `server` or `client`, in order."""
        return list(
            dict.fromkeys(
                result.client if server else result.server
                for result in self.results
                if (server is None or result.server == server)
                and (client is None or result.client == client)
            )
        )

    def find(self, server: str, client: str, case: str) -> Result | None:
        """The result of one cell."""
        for result in self.results:
            if result.key == (server, client, case):
                return result
        return None

    def not_passed(self) -> list[Result]:
        """Those that want a reason."""
        return [result for result in self.results if result.outcome is not Outcome.PASSED]

    def count(self, outcome: Outcome) -> int:
        """How many ended like this."""
        return sum(result.outcome is outcome for result in self.results)
