"""docs/frameworks.md: the results, between marks that its other text stands around."""

import datetime
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tools.frameworks.results import COLUMNS, REFERENCE, TERCEL, Row

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
_BEGIN, _END = "<!-- results: written by make frameworks -->\n", "<!-- end of results -->\n"


def write(frameworks: list[Row], middleware: list[Row]) -> None:
    """Put the results into the page."""
    before, rest = PAGE.read_text("utf-8").split(_BEGIN)
    lines = [
        f"{datetime.date.today().isoformat()}: tercel {version('tercel')}, "
        f"Uvicorn {version('uvicorn')}, Python {platform.python_version()}.",
        "",
        *_framework_table(frameworks),
        "",
        "### Middleware",
        "",
        *_middleware_table(middleware),
    ]
    text = "\n".join(lines) + "\n"
    PAGE.write_text(before + _BEGIN + text + _END + rest.split(_END)[1], "utf-8")


def _framework_table(rows: list[Row]) -> Iterator[str]:
    notes: list[str] = []
    yield f"| framework | feature | {' | '.join(COLUMNS)} |"
    yield "|---|---|" + "---|" * len(COLUMNS)
    subject = ""
    for row in rows:
        name = "" if row.subject == subject else f"**{row.subject}** ({row.versions})"
        subject = row.subject
        cells = (_cell(row, (column,), notes) for column in COLUMNS)
        yield f"| {name} | {row.feature} | {' | '.join(cells)} |"
    yield from _numbered(notes)


def _middleware_table(rows: list[Row]) -> Iterator[str]:
    notes: list[str] = []
    features = list(dict.fromkeys(row.feature for row in rows))
    yield f"| middleware | {' | '.join(features)} |"
    yield "|---|" + "---|" * len(features)
    for subject in dict.fromkeys(row.subject for row in rows):
        of_it = [row for row in rows if row.subject == subject]
        cells = (_cell(row, TERCEL, notes) for row in of_it)
        yield f"| {subject} ({of_it[0].versions}) | {' | '.join(cells)} |"
    yield from _numbered(notes)


def _cell(row: Row, columns: tuple[str, ...], notes: list[str]) -> str:
    """Green if the row is in all `columns`; else the number of a note that says why it is not."""
    failed = [column for column in columns if column in row.failures]
    if not failed:
        return "green"
    column = failed[0]
    why = row.failures[column]
    note = row.reason(column) if column != REFERENCE else f"On the reference: {why}"
    if not note:
        return f"**fails**: {why}"
    if note not in notes:
        notes.append(note)
    return f"explained ({notes.index(note) + 1})"


def _numbered(notes: list[str]) -> Iterator[str]:
    yield ""
    yield from (f"{number}. {note}" for number, note in enumerate(notes, 1))
