"""Fails when the branch coverage of a file, or of all together, is below the gate.

    python tools/coverage_gate.py build/coverage.json

Reads what `coverage json` writes. Imports nothing of the package.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tercel/quic/http3", "tercel/quic/transport")

LEAST_TOTAL_PERCENT = 98.0
LEAST_FILE_PERCENT = 95.0


def mistakes(report: dict[str, Any], root: Path = ROOT) -> list[str]:
    """What is below the gate, and which file of PACKAGES no test imported."""
    if not report["meta"]["branch_coverage"]:
        return ["branches were not measured"]
    files = {Path(name).as_posix(): entry for name, entry in report["files"].items()}
    expected = [
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in sorted((root / package).glob("*.py"))
    ]
    found = [f"{name}: not measured" for name in expected if name not in files]
    measured = [(name, files[name]["summary"]) for name in expected if name in files]
    for name, summary in measured:
        found += _shortfall(name, LEAST_FILE_PERCENT, [summary])
    return found + _shortfall("total", LEAST_TOTAL_PERCENT, [summary for _, summary in measured])


def percent(summaries: list[dict[str, Any]]) -> float:
    """Covered lines and branches of all there are, as `coverage report` counts them."""
    total = sum(entry["num_statements"] + entry["num_branches"] for entry in summaries)
    covered = sum(entry["covered_lines"] + entry["covered_branches"] for entry in summaries)
    return 100 * covered / total if total else 100.0


def _shortfall(name: str, least: float, summaries: list[dict[str, Any]]) -> list[str]:
    reached = percent(summaries)
    if reached >= least:
        return []
    return [f"{name}: {reached:.2f} %, which is {least - reached:.2f} below the gate of {least} %"]


def main(arguments: list[str]) -> int:
    """Print what is below the gate; 1 if anything is."""
    if len(arguments) != 1:
        print("usage: coverage_gate.py FILE", file=sys.stderr)
        return 2
    report = json.loads(Path(arguments[0]).read_text())
    found = mistakes(report)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        reached = percent([entry["summary"] for entry in report["files"].values()])
        print(f"branch coverage of {', '.join(PACKAGES)}: {reached:.2f} %")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
