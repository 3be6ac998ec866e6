"""pytest plugin that runs the tests of a Sanic checkout on tercel's server.

`make sanic-tests CHECKOUT=path` loads it. Ends with what passed and what failed in each file.
"""

from collections import Counter, defaultdict

import pytest

from tercel import install_sanic

# Before any test module imports names of Sanic's server.
install_sanic()

_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count one outcome per test: its call, or a failure around it."""
    if report.when == "call" or report.outcome == "failed":
        _counts[report.nodeid.partition("::")[0]][report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the counts, a line for each file."""
    terminalreporter.section("per file")
    for path, counts in sorted(_counts.items()):
        terminalreporter.line(f"{path}: {counts['passed']} passed, {counts['failed']} failed")
