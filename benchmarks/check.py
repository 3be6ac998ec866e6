"""Whether tercel lost ground between two results.

By time nothing can be said: the machine is another, or busy with something else. So each scenario
is judged by the ratio to a reference peer that was measured in the same run, in both results.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from scenarios import REFERENCES

# Medians of few rounds on a shared machine vary by up to this much with nothing changed.
_TOLERANCE = 1.2


def read(path: Path) -> dict[str, Any] | None:
    """Earlier results; None when there are none."""
    if not path.exists():
        return None
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def lost(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """A line for each scenario in which tercel costs more than it did, beside the reference.

    A chief scenario that tercel did not get through is lost as well.
    """
    before = {_key(row): _ratios(row) for row in old["scenarios"]}
    lines = []
    for row in new["scenarios"]:
        ratios, earlier = _ratios(row), before.get(_key(row))
        own = row["servers"].get("tercel")
        if row.get("chief") and own and own["failed"]:
            lines.append(f"LOST: {_named(row)}: tercel failed: {own['failed']}")
            continue
        if not ratios or not earlier:
            continue
        now, then = statistics.median(ratios), statistics.median(earlier)
        # Both: the median is worse by more than noise, and so is the best round.
        if now > then * _TOLERANCE and min(ratios) > then:
            reference = REFERENCES[row["http"]]
            lines.append(f"LOST: {_named(row)}: tercel / {reference} {then:.2f} -> {now:.2f}")
    return lines


def not_judged(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """A line for each chief scenario that the last results say nothing about, or these do not."""
    before = {_key(row): _ratios(row) for row in old["scenarios"]}
    return [
        f"Not judged: {_named(row)}: no figures of tercel and {REFERENCES[row['http']]} in both"
        for row in new["scenarios"]
        if row.get("chief") and not (_ratios(row) and before.get(_key(row)))
    ]


def _named(row: dict[str, Any]) -> str:
    return f"{row['title']} (HTTP {row['http']})"


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["title"], row["http"]


def _ratios(row: dict[str, Any]) -> list[float]:
    """tercel's CPU over the reference's, round by round."""
    own = row["servers"].get("tercel")
    reference = row["servers"].get(REFERENCES[row["http"]])
    if not own or not reference:
        return []
    pairs = zip(own["cpu_us"], reference["cpu_us"], strict=False)
    return [a / b for a, b in pairs]
