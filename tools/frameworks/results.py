"""How the trials went."""

from collections.abc import Callable
from dataclasses import dataclass, field

REFERENCE = "reference"
# Column -> HTTP version. The reference is another server, in cleartext.
COLUMNS = {REFERENCE: "1.1", "HTTP/1.1": "1.1", "HTTP/3": "3"}
TERCEL = ("HTTP/1.1", "HTTP/3")


@dataclass(frozen=True)
class Row:
    """How one feature of a framework, or of a middleware, went."""

    subject: str
    versions: str
    """Of its packages."""
    feature: str
    failures: dict[str, str] = field(default_factory=dict)
    """Column -> why it failed there."""
    explanations: dict[str, str] = field(default_factory=dict)
    """Column -> why it is not green there, where that is known."""

    def reason(self, column: str) -> str:
        """Why a failure in a column of tercel's is as it has to be; empty for one that is not."""
        if column in self.explanations:
            return self.explanations[column]
        if REFERENCE in self.failures:
            return f"Fails on the reference, too: {self.failures[REFERENCE]}"
        return ""

    @property
    def unexplained(self) -> list[str]:
        """Columns of tercel's with a failure that nothing explains."""
        return [name for name in TERCEL if name in self.failures and not self.reason(name)]


def failure_of(trial: Callable[[], object]) -> str:
    """Why `trial` fails, in one line; empty where it does not."""
    try:
        trial()
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0][:160]
    return ""
