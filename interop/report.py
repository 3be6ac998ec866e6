"""The report's files: one HTML page, a Markdown twin, and JSON.

Knows where results lie and what is left of a run; how a page looks is said in `page`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from interop.cases import CASES
from interop.page import html
from interop.peers import CLIENTS, SERVERS, title
from interop.result import Outcome, Result, Run


def write_report(run: Run, directory: Path) -> None:
    """Write `index.html`, `results.md` and `results.json`.

    The page has links to logs where they are; `publish` writes it without.
    """
    directory.mkdir(parents=True, exist_ok=True)
    run = _with_logs_that_are_there(run, directory)
    links = {result.key: _links(directory, result.logs) for result in run.results if result.logs}
    (directory / "index.html").write_text(html(run, links), "utf-8")
    (directory / "results.md").write_text(markdown(run), "utf-8")
    values = asdict(run)
    (directory / "results.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def publish(directory: Path) -> None:
    """Write the report that is in `directory` again in the form that is kept: without logs."""
    run = read_run(directory)
    if run is None:
        raise FileNotFoundError(f"there are no results in {directory}")
    results = [replace(result, logs="") for result in run.results]
    write_report(Run(results, run.versions, run.date), directory)


def read_run(directory: Path) -> Run | None:
    """What `write_report` wrote there before; None if there is nothing."""
    try:
        values = json.loads((directory / "results.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    results = [
        Result(**value | {"outcome": Outcome(value["outcome"]), "spread": tuple(value["spread"])})
        for value in values["results"]
    ]
    return Run(results, values["versions"], values["date"])


def merged(old: Run | None, new: Run) -> Run:
    """`new`, and what of `old` was not run again."""
    if old is None:
        return new
    cells = {(r.server, r.client, r.case): r for r in (*old.results, *new.results)}
    servers, clients = [peer.name for peer in SERVERS], [peer.name for peer in CLIENTS]
    cases = [case.name for case in CASES]
    results = sorted(
        (
            r
            for r in cells.values()
            if r.server in servers and r.client in clients and r.case in cases
        ),
        key=lambda r: (servers.index(r.server), clients.index(r.client), cases.index(r.case)),
    )
    return Run(results, old.versions | new.versions, new.date)


def _with_logs_that_are_there(run: Run, directory: Path) -> Run:
    """What a run before has left may have been removed."""
    results = [
        result if (directory / result.logs).is_dir() else replace(result, logs="")
        for result in run.results
    ]
    return Run(results, run.versions, run.date)


def _links(directory: Path, logs: str) -> list[tuple[str, str]]:
    """What is left of one test case: names, and paths relative to `directory`."""
    candidates = [
        (f"{role} {name}", f"{logs}/{role}/logs/{path}")
        for role in ("client", "server")
        for name, path in (("log", "output.txt"), ("qlog", "qlog"), ("keys", "keys.log"))
    ]
    candidates += [("captures", f"{logs}/captures"), ("trouble", f"{logs}/trouble.txt")]
    links = []
    for name, path in candidates:
        place = directory / path
        if place.is_dir():
            files = sorted(place.iterdir())
            if len(files) == 1:
                links.append((name, f"{path}/{files[0].name}"))
            elif files:
                links.append((name, f"{path}/"))
        elif place.exists() and place.stat().st_size:
            links.append((name, path))
    return links


def markdown(run: Run) -> str:
    """The same as tables in Markdown."""
    counts = ", ".join(f"{run.count(outcome)} {outcome}" for outcome in Outcome)
    lines = ["# QUIC interoperability", "", f"{run.date}: {counts}.", ""]
    for heading, role, names in (
        ("tercel as the server", "client", run.pairs(server="tercel")),
        ("tercel as the client", "server", run.pairs(client="tercel")),
    ):
        if names:
            lines += [f"## {heading}", "", *_markdown_matrix(run, role, names), ""]
    reasons = run.not_passed()
    if reasons:
        lines += ["## What is not green", "", "| server | client | case | result | reason |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {title(r.server)} | {title(r.client)} | {r.case} | {r.outcome} | {r.reason} |"
            for r in reasons
        ]
        lines.append("")
    lines += ["## Versions", ""]
    lines += [f"- {name}: {text}" for name, text in run.versions.items()]
    return "\n".join(lines) + "\n"


def _markdown_matrix(run: Run, role: str, names: Sequence[str]) -> list[str]:
    lines = ["| case | " + " | ".join(title(name) for name in names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for case in CASES:
        cells = []
        for name in names:
            pair = ("tercel", name) if role == "client" else (name, "tercel")
            result = run.find(*pair, case.name)
            mark = "" if result is None else result.outcome.mark
            if result is not None and result.kilobits:
                mark = result.rate
            cells.append(mark)
        if any(cells):
            lines.append(f"| {case.letter} {case.name} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
