"""The report as one HTML page that needs nothing else.

Makes text from results and knows nothing of how they came about, or of files.
"""

from collections.abc import Mapping, Sequence
from html import escape

from interop.cases import CASES, KIB, MIB, Case
from interop.peers import title
from interop.result import Outcome, Result, Run
from interop.simulator.scenario import Scenario
from interop.style import STYLE

_LINK_KILOBITS = 10_000

# Names and addresses of what is left of a cell.
Links = Mapping[tuple[str, str, str], Sequence[tuple[str, str]]]


def html(run: Run, links: Links) -> str:
    """The whole page."""
    sections = [
        _html_matrix(run, "tercel as the server", "client", run.pairs(server="tercel")),
        _html_matrix(run, "tercel as the client", "server", run.pairs(client="tercel")),
        _html_http3(run),
        _html_goodput(run),
        _html_reasons(run),
        _html_runs(run, links),
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


def _html_matrix(run: Run, heading: str, role: str, names: Sequence[str]) -> str:
    """Rows of peers in `role`, columns of cases; peers that have only HTTP/3 come elsewhere."""
    cases = [case for case in CASES if not case.measured]
    rows = []
    for name in names:
        pair = ("tercel", name) if role == "client" else (name, "tercel")
        cells = [run.find(*pair, case.name) for case in cases]
        if sum(cell is not None for cell in cells) < 2:
            continue
        shown = "".join(_html_cell(case, cell) for case, cell in zip(cases, cells, strict=True))
        rows.append(f'<tr><th scope="row">{escape(title(name))}</th>{shown}</tr>')
    if not rows:
        return ""
    head = "".join(
        f'<th scope="col"><abbr title="{escape(case.name)}">{escape(case.letter)}</abbr></th>'
        for case in cases
    )
    return (
        f'<section><h2>{escape(heading)}</h2>\n<div class="scroll"><table class="matrix">\n'
        f"<thead><tr><th>{role}</th>{head}</tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _html_cell(case: Case, result: Result | None) -> str:
    if result is None:
        return '<td class="none"></td>'
    mark = result.outcome.mark
    note = f"{case.name}: {result.outcome}"
    if result.reason:
        note += f" ({result.reason})"
    elif result.seconds:
        note += f" in {result.seconds:.1f} s"
    text = f'<span aria-hidden="true">{mark}</span><span class="read">{result.outcome}</span>'
    text = f'<a href="#{_anchor(result)}">{text}</a>'
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
            f'<tr><th scope="row">{escape(title(name))}</th><td>{escape(version)}</td>'
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
        name = f"{title(result.server)} → {title(result.client)}"
        parts.append(f'<text class="name" x="{left - 12}" y="{y + 16}">{escape(name)}</text>')
        parts.append(
            f'<rect class="{case.name}" x="{left}" y="{y}" width="{length:.1f}" height="22" rx="3">'
            f"<title>{escape(case.name)}: {result.rate}</title></rect>"
        )
        value = f"{result.kilobits / 1000:.2f}"
        parts.append(f'<text class="value" x="{left + length + 6:.1f}" y="{y + 16}">{value}</text>')
    return (
        "<section><h2>Goodput</h2>\n<p>Mbit/s of content, server → client, on a link of 10 Mbit/s, "
        "medians of all repetitions: "
        '<span class="key goodput"></span> alone (10 MiB), <span class="key crosstraffic"></span> '
        "beside one TCP connection with cubic (25 MiB).</p>\n"
        f'<svg viewBox="0 0 {left + width + 60} {height}" role="img" '
        f'aria-label="Goodput in Mbit/s">{"".join(parts)}</svg></section>'
    )


def _html_reasons(run: Run) -> str:
    rows = "".join(
        f"<tr><td>{escape(title(r.server))}</td><td>{escape(title(r.client))}</td>"
        f'<td>{escape(r.case)}</td><td class="{r.outcome}">{r.outcome}</td>'
        f'<td class="detail">{escape(r.reason)}</td></tr>'
        for r in run.not_passed()
    )
    if not rows:
        return ""
    return (
        '<section><h2>What is not green</h2>\n<div class="scroll"><table class="list">\n<thead><tr>'
        "<th>server</th><th>client</th><th>case</th><th>result</th><th>reason</th></tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _html_runs(run: Run, links: Links) -> str:
    """Every cell in words, with what is left of it, pair by pair."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for result in run.results:
        found = links.get(result.key, ())
        left = " ".join(f'<a href="{escape(path)}">{escape(name)}</a>' for name, path in found)
        detail = f"{result.seconds:.1f} s" if result.seconds else ""
        if result.kilobits:
            detail += f", {result.rate}"
        pairs.setdefault((result.server, result.client), []).append(
            f'<tr id="{_anchor(result)}"><td>{escape(result.case)}</td>'
            f'<td class="{result.outcome}">{result.outcome}</td><td>{detail}</td>'
            f'<td class="detail">{escape(result.reason)}</td><td class="links">{left}</td></tr>'
        )
    if not pairs:
        return ""
    parts = [
        f"<details><summary>{escape(title(server))} → {escape(title(client))}</summary>\n"
        '<div class="scroll"><table class="list"><thead><tr><th>case</th><th>result</th>'
        "<th>took</th><th>reason</th><th>logs</th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
        for (server, client), rows in pairs.items()
    ]
    note = "" if links else " Logs, qlogs and captures are where it ran; they are not kept here."
    return f"<section><h2>Every run</h2>\n<p>Server → client.{note}</p>\n{''.join(parts)}</section>"


def _html_cases() -> str:
    items = "".join(
        f"<dt>{escape(case.letter)}</dt><dd>{escape(case.name)}: {escape(_claims(case))}</dd>"
        for case in CASES
    )
    return (
        "<section><h2>What each case shows</h2>\n<p>All but V: every file came, and as it was. All "
        "but V and V2: the server's Initial packets have version 1; there are as many handshakes "
        f"as connections. And:</p>\n<dl>{items}</dl></section>"
    )


def _html_versions(run: Run) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in run.versions.items()
    )
    return f"<section><h2>Versions</h2>\n<dl>{items}</dl></section>"


def _anchor(result: Result) -> str:
    return escape("-".join(result.key))


def _claims(case: Case) -> str:
    """What comes over which network, and what else is checked, in the checks' own words."""
    number, size = len(case.files), sum(case.files)
    amount = f"{size / MIB:g} MiB" if size >= MIB else f"{size / KIB:.3g} KiB"
    texts = [f"{number} files of {amount} in all" if number > 1 else f"a file of {amount}"]
    texts += _troubles(case)
    for check in case.checks:
        text = (check.__doc__ or "").partition("\n")[0].rstrip(".")
        texts.append(text[:1].lower() + text[1:])
    return "; ".join(texts) + "."


def _troubles(case: Case) -> list[str]:
    """What is the matter with the network."""
    scenario, usual = case.scenario, Scenario()
    texts = []
    if scenario.delay != usual.delay:
        texts.append(f"{scenario.delay * 1000:g} ms each way")
    for name, share in (("lost", scenario.loss), ("changed", scenario.corruption)):
        if share:
            texts.append(f"{share:.0%} of all datagrams are {name}, each way")
    if scenario.drops_to_server:
        first, last = scenario.drops_to_server[0], scenario.drops_to_server[-1]
        texts.append(f"datagrams {first} to {last} of the client are lost")
    if scenario.blackhole:
        after, duration = scenario.blackhole
        texts.append(f"after {after:g} s nothing passes for {duration:g} s")
    if scenario.rebind:
        after, every = scenario.rebind
        what = "address and port" if scenario.rebind_address else "port"
        texts.append(
            f"the NAT gives the client another {what} after {after:g} s and every {every:g} s"
        )
    if case.cross_traffic:
        texts.append("one TCP connection has the same link")
    return texts
