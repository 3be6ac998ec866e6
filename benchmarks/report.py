"""Results as JSON, as Markdown tables and as charts.

What a server does not do is "not supported" in the tables; what went wrong while it was measured
is "failed", and in the JSON file is why.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aims
import charts

VERSIONS = {"3": "HTTP/3", "1-plain": "HTTP/1.1", "1": "HTTP/1.1 with TLS"}
_NOTHING = "not supported"
_FAILED = "failed"


def write(results: dict[str, Any], directory: Path, name: str, *, charted: bool = False) -> None:
    """Write `name`.json, `name`.md and, if `charted`, the charts into `directory`."""
    directory.mkdir(exist_ok=True, parents=True)
    (directory / f"{name}.json").write_text(json.dumps(_rounded(results), indent=1) + "\n")
    (directory / f"{name}.md").write_text(markdown(results))
    if charted:
        charts.write(results, directory, name)


def full_title(title: str, http: str) -> str:
    """A scenario's title with its HTTP version."""
    return f"{VERSIONS[http]}: {title}"


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    machine, versions = results["machine"], results["versions"]
    parts = [
        f"Taken {results['taken']} on {machine['cores']} cores of {machine['cpu']}, "
        f"Linux {machine['kernel']}; {results['rounds']} rounds of {results['seconds']} s; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".\n\nCPU microseconds of all processes of a server, median (least to most); in brackets "
        "how many times tercel's. Aims are such ratios of medians.\n"
    ]
    for http, version in VERSIONS.items():
        rows = [row for row in results["scenarios"] if row["http"] == http]
        if rows:
            parts.append(f"\n## {version}\n\n{_cpu_table(rows)}")
            parts.append(f"\n{_other_table(rows)}")
    if results["memory"]:
        parts.append(f"\n## Memory\n\n{_memory_table(results['memory'])}")
    return "".join(parts)


def _cpu_table(rows: list[dict[str, Any]]) -> str:
    names = _names(rows, "servers")
    lines = [["CPU us per", *names, "aims"]]
    for row in rows:
        own = row["servers"].get("tercel")
        base = statistics.median(own["cpu_us"]) if own and own["cpu_us"] else None
        lines.append([f"{row['title']}: {row['unit']}"])
        for name in names:
            lines[-1].append(_cpu_cell(row["servers"], name, base))
        lines[-1].append(aims.of_scenario(row, rows))
    return _table(lines)


def _cpu_cell(servers: dict[str, Any], name: str, base: float | None) -> str:
    if name not in servers:
        return ""
    if servers[name] is None:
        return _NOTHING
    values = servers[name]["cpu_us"]
    if not values:
        return _FAILED
    median = statistics.median(values)
    cell = f"{_number(median)} ({_number(min(values))} to {_number(max(values))})"
    return cell if base is None or name == "tercel" else f"{cell} **[{median / base:.2f}]**"


def _other_table(rows: list[dict[str, Any]]) -> str:
    """Requests per second, latency, memory and system calls, of every server in one cell."""
    names = _names(rows, "servers")
    lines = [["per second; p50 / p99 ms; MiB; system calls", *names]]
    for row in rows:
        lines.append([row["title"]])
        lines[-1] += [_other_cell(row["servers"].get(name)) for name in names]
    return _table(lines)


def _other_cell(figures: dict[str, Any] | None) -> str:
    if figures is None or not figures["cpu_us"]:
        return ""

    def median(key: str, shown: Callable[[float], str]) -> str:
        return shown(statistics.median(figures[key])) if figures[key] else "-"

    latency = f"{median('p50_ms', _number)} / {median('p99_ms', _number)}"
    parts = [median("per_second", _number), latency, median("resident_mib", "{:.0f}".format)]
    return "; ".join([*parts, median("syscalls", "{:.2f}".format)])


def _memory_table(rows: list[dict[str, Any]]) -> str:
    names = _names(rows, "kib")
    lines = [["KiB per", *names, "aim"]]
    for row in rows:
        lines.append([f"{full_title(row['title'], row['http'])}: {row['unit']}"])
        for name in names:
            values = row["kib"].get(name, "")
            lines[-1].append(
                _NOTHING if values is None else values and f"{statistics.median(values):,.1f}"
            )
        lines[-1].append(aims.of_memory(row))
    return _table(lines)


def _names(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Every server in `rows`, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row[key]))


def _table(lines: list[list[str]]) -> str:
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    """The same with three digits after the point: what comes behind is noise."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
