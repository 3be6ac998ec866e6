"""The report: one HTML page that needs nothing else, a Markdown twin, and JSON.

Makes text from results and knows nothing of how they came about.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from interop.cases import CASES, Case
from interop.peers import CLIENTS, SERVERS
from interop.result import Outcome, Result
from interop.style import STYLE

_LINK_KILOBITS = 10_000
_MARKS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.UNSUPPORTED: "\N{EN DASH}",
    Outcome.MISSING: "?",
}
_TITLES = {peer.name: peer.title for peer in (*SERVERS, *CLIENTS)}
_TITLES["tercel"] = "tercel"


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
            if (result.server, result.client, result.case) == (server, client, case):
                return result
        return None

    def count(self, outcome: Outcome) -> int:
        """How many ended like this."""
        return sum(result.outcome is outcome for result in self.results)


def write_report(run: Run, directory: Path) -> None:
    """Write `index.html`, `results.md` and `results.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.html").write_text(html(run), "utf-8")
    (directory / "results.md").write_text(markdown(run), "utf-8")
    values = asdict(run)
    (directory / "results.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def read_run(directory: Path) -> Run | None:
    """What `write_report` wrote there before; None if there is nothing."""
    try:
        values = json.loads((directory / "results.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    results = [
        Result(**value | {"outcome": Outcome(value["outcome"])}) for value in values["results"]
    ]
    return Run(results, values["versions"], values["date"])


def merged(old: Run | None, new: Run) -> Run:
    """`new`, and what of `old` was not run again."""
    if old is None:
        return new
    cells = {(r.server, r.client, r.case): r for r in (*old.results, *new.results)}
    order = [peer.name for peer in (*SERVERS, *CLIENTS)]
    cases = [case.name for case in CASES]
    results = sorted(
        cells.values(),
        key=lambda r: (order.index(r.server), order.index(r.client), cases.index(r.case)),
    )
    return Run(results, old.versions | new.versions, new.date)


# -- HTML -----------------------------------------------------------------------------------------


def html(run: Run) -> str:
    """The whole page."""
    sections = [
        _html_matrix(run, "tercel as the server", "client", run.pairs(server="tercel")),
        _html_matrix(run, "tercel as the client", "server", run.pairs(client="tercel")),
        _html_http3(run),
        _html_goodput(run),
        _html_reasons(run),
        _html_cases(),
        _html_versions(run),
    ]
    tiles = "".join(
        f'<div class="tile {outcome}"><b>{run.count(outcome)}</b> {outcome}</div>'
        for outcome in Outcome
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>tercel: QUIC interoperability</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<header><h1>QUIC interoperability</h1>\n"
        "<p>The test cases of the QUIC interop runner, between tercel and independent "
        "implementations, over a simulated link of 10 Mbit/s and 30 ms. A case has passed when "
        "the files are identical and the packets show what it claims.</p>\n"
        f'<div class="tiles">{tiles}</div></header>\n<main>\n'
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<footer>{escape(run.date)}</footer>\n</body>\n</html>\n"
    )


def _html_matrix(run: Run, title: str, role: str, names: Sequence[str]) -> str:
    """Rows of peers in `role`, columns of cases; peers that have only HTTP/3 come elsewhere."""
    cases = [case for case in CASES if not case.measured]
    rows = []
    for name in names:
        pair = ("tercel", name) if role == "client" else (name, "tercel")
        cells = [run.find(*pair, case.name) for case in cases]
        if sum(cell is not None for cell in cells) < 2:
            continue
        shown = "".join(_html_cell(case, cell) for case, cell in zip(cases, cells, strict=True))
        rows.append(f'<tr><th scope="row">{escape(_title(name))}</th>{shown}</tr>')
    if not rows:
        return ""
    head = "".join(
        f'<th scope="col"><abbr title="{escape(case.name)}">{escape(case.letter)}</abbr></th>'
        for case in cases
    )
    return (
        f'<section><h2>{escape(title)}</h2>\n<div class="scroll"><table class="matrix">\n'
        f"<thead><tr><th>{role}</th>{head}</tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _html_cell(case: Case, result: Result | None) -> str:
    if result is None:
        return '<td class="none"></td>'
    mark = _MARKS[result.outcome]
    note = f"{case.name}: {result.outcome}"
    if result.reason:
        note += f" ({result.reason})"
    elif result.seconds:
        note += f" in {result.seconds:.1f} s"
    text = f'<span aria-hidden="true">{mark}</span><span class="read">{result.outcome}</span>'
    if result.logs:
        text = f'<a href="{escape(result.logs)}/">{text}</a>'
    return f'<td class="{result.outcome}" title="{escape(note)}">{text}</td>'


def _html_http3(run: Run) -> str:
    case = next(case for case in CASES if case.name == "http3")
    rows = []
    for name in run.pairs(server="tercel"):
        result = run.find("tercel", name, case.name)
        if result is None:
            continue
        detail = result.reason or f"{result.seconds:.1f} s"
        version = run.versions.get(name, "")
        rows.append(
            f'<tr><th scope="row">{escape(_title(name))}</th><td>{escape(version)}</td>'
            f'{_html_cell(case, result)}<td class="detail">{escape(detail)}</td></tr>'
        )
    if not rows:
        return ""
    return (
        "<section><h2>HTTP/3 clients</h2>\n<p>Three files of 5, 10 and 500 KiB on one connection "
        'of a client to tercel.</p>\n<div class="scroll"><table class="list">\n<thead><tr>'
        "<th>client</th><th>version</th><th>result</th><th></th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _html_goodput(run: Run) -> str:
    bars = [
        (case, result)
        for case in CASES
        if case.measured
        for result in run.results
        if result.case == case.name and result.kilobits
    ]
    if not bars:
        return ""
    row_height, left, width = 30, 250, 420
    height = row_height * len(bars) + 34
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + share * width
        parts.append(f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="{height - 28}"/>')
        label = f"{share * _LINK_KILOBITS / 1000:g}"
        parts.append(f'<text class="axis" x="{x}" y="{height - 10}">{label}</text>')
    for number, (case, result) in enumerate(bars):
        y = row_height * number + 4
        length = result.kilobits / _LINK_KILOBITS * width
        name = f"{_title(result.server)} → {_title(result.client)}"
        parts.append(f'<text class="name" x="{left - 12}" y="{y + 16}">{escape(name)}</text>')
        parts.append(
            f'<rect class="{case.name}" x="{left}" y="{y}" width="{length:.1f}" height="22" rx="3">'
            f"<title>{escape(case.name)}: {result.kilobits:.0f} kbit/s</title></rect>"
        )
        value = f"{result.kilobits / 1000:.2f}"
        parts.append(f'<text class="value" x="{left + length + 6:.1f}" y="{y + 16}">{value}</text>')
    return (
        "<section><h2>Goodput</h2>\n<p>Mbit/s of content, server → client, on a link of 10 Mbit/s: "
        '<span class="key goodput"></span> alone (10 MiB), <span class="key crosstraffic"></span> '
        "beside one TCP connection with cubic (25 MiB).</p>\n"
        f'<svg viewBox="0 0 {left + width + 60} {height}" role="img" '
        f'aria-label="Goodput in Mbit/s">{"".join(parts)}</svg></section>'
    )


def _html_reasons(run: Run) -> str:
    rows = "".join(
        f"<tr><td>{escape(_title(r.server))}</td><td>{escape(_title(r.client))}</td>"
        f'<td>{escape(r.case)}</td><td class="{r.outcome}">{r.outcome}</td>'
        f'<td class="detail">{escape(r.reason)}</td></tr>'
        for r in _not_passed(run.results)
    )
    if not rows:
        return ""
    return (
        '<section><h2>What is not green</h2>\n<div class="scroll"><table class="list">\n<thead><tr>'
        "<th>server</th><th>client</th><th>case</th><th>result</th><th>reason</th></tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _html_cases() -> str:
    items = "".join(
        f"<dt>{escape(case.letter)}</dt><dd>{escape(case.name)}: {escape(_claims(case))}</dd>"
        for case in CASES
    )
    return f"<section><h2>What each case shows</h2>\n<dl>{items}</dl></section>"


def _html_versions(run: Run) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in run.versions.items()
    )
    return f"<section><h2>Versions</h2>\n<dl>{items}</dl></section>"


# -- Markdown -------------------------------------------------------------------------------------


def markdown(run: Run) -> str:
    """The same as tables in Markdown."""
    counts = ", ".join(f"{run.count(outcome)} {outcome}" for outcome in Outcome)
    lines = ["# QUIC interoperability", "", f"{run.date}: {counts}.", ""]
    for title, role, names in (
        ("tercel as the server", "client", run.pairs(server="tercel")),
        ("tercel as the client", "server", run.pairs(client="tercel")),
    ):
        if names:
            lines += [f"## {title}", "", *_markdown_matrix(run, role, names), ""]
    reasons = list(_not_passed(run.results))
    if reasons:
        lines += ["## What is not green", "", "| server | client | case | result | reason |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {_title(r.server)} | {_title(r.client)} | {r.case} | {r.outcome} | {r.reason} |"
            for r in reasons
        ]
        lines.append("")
    lines += ["## Versions", ""]
    lines += [f"- {name}: {text}" for name, text in run.versions.items()]
    return "\n".join(lines) + "\n"


def _markdown_matrix(run: Run, role: str, names: Sequence[str]) -> list[str]:
    lines = ["| case | " + " | ".join(_title(name) for name in names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for case in CASES:
        cells = []
        for name in names:
            pair = ("tercel", name) if role == "client" else (name, "tercel")
            result = run.find(*pair, case.name)
            mark = "" if result is None else _MARKS[result.outcome]
            if result is not None and result.kilobits:
                mark = f"{result.kilobits / 1000:.2f} Mbit/s"
            cells.append(mark)
        if any(cells):
            lines.append(f"| {case.letter} {case.name} | " + " | ".join(cells) + " |")
    return lines


def _not_passed(results: Iterable[Result]) -> Iterable[Result]:
    return (result for result in results if result.outcome is not Outcome.PASSED)


def _claims(case: Case) -> str:
    """What is checked, in the words of the checks themselves."""
    texts = []
    for check in case.all_checks:
        function = getattr(check, "func", check)
        text = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        texts.append(text[:1].lower() + text[1:])
    return "; ".join(texts) + "."


def _title(name: str) -> str:
    return _TITLES.get(name, name)
