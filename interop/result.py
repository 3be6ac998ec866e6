"""What becomes of a test case."""

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
    """Kilobits of content per second, if that was measured."""
    attempts: int = 1
    """How often it was tried until it passed, or was given up."""
    logs: str = ""
    """The directory with what is left of it, relative to the results."""
