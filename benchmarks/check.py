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
    """A line for each scenario in which tercel costs more than it did, beside the reference."""
    before = {_key(row): _ratios(row) for row in old["scenarios"]}
    lines = []
    for row in new["scenarios"]:
        ratios, earlier = _ratios(row), before.get(_key(row))
        if not ratios or not earlier:
            continue
        now, then = statistics.median(ratios), statistics.median(earlier)
        # Both: the median is worse by more than noise, and so is the best round.
        if now > then * _TOLERANCE and min(ratios) > then:
            title, _ = _key(row)
            reference = REFERENCES[row["http"]]
            lines.append(
                f"LOST: {title} (HTTP {row['http']}): tercel / {reference} {then:.2f} -> {now:.2f}"
            )
    return lines


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
