"""Writes the tables of options between their markers: python tools/readme.py

One is in README.md, the other, of other servers' options, in docs/coming-from-other-servers.md.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from tercel.other_servers import FOREIGN, Foreign
from tercel.shared.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OTHERS = ROOT / "docs" / "coming-from-other-servers.md"
MARKS = {
    README: ("<!-- options: written by tools/readme.py -->\n", "<!-- end of options -->\n"),
    OTHERS: ("<!-- table: written by tools/readme.py -->\n", "<!-- end of table -->\n"),
}


def options_table() -> str:
    """Markdown: one table for each group of Settings."""
    lines: list[str] = []
    group = ""
    for field in fields(Settings):
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"**{group}**", "", "| option | default | |", "|---|---|---|"]
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            flag += f" / --no-{field.name.replace('_', '-')}"
        unit = field.metadata["metavar"] or "|".join(field.metadata["choices"])
        name = f"`{flag} {unit}`" if unit else f"`{flag}`"
        help_text = field.metadata["help"].replace("|", "\\|")
        lines.append(
            f"| {name.replace('|', chr(92) + '|')} | {_default(field.default)} | {help_text} |"
        )
    return "\n".join(lines[1:]) + "\n\n"


def others_table() -> str:
    """Markdown: what becomes of each option of another server."""
    lines = [
        "| option | of | here |",
        "|---|---|---|",
        "| `--host HOST`, `--port PORT` | Uvicorn, Granian, Sanic | `--bind HOST:PORT` |",
        "| `--uds PATH` | Uvicorn, Granian | `--unix PATH`, without the default of `--bind` |",
    ]
    for entry in FOREIGN:
        names = ", ".join(f"`{name}`" for name in entry.options)
        lines.append(f"| {names} | {entry.servers} | {_here(entry)} |")
    return "\n".join(lines) + "\n"


def with_tables(path: Path) -> str:
    """The text of the file with the table between its markers brought up to date."""
    begin, end = MARKS[path]
    before, rest = path.read_text().split(begin)
    table = options_table() if path is README else others_table()
    return before + begin + table + end + rest.split(end)[1]


def _here(entry: Foreign) -> str:
    if entry.setting:
        value = "" if entry.value is None else f" {entry.value!r}"
        return f"`--{entry.setting.replace('_', '-')}{value}`"
    accepted = [value for value in entry.accepted if value]
    if "" in entry.accepted:
        return "taken; it is so anyway"
    taken = f"{', '.join(f'`{value}`' for value in accepted)}: taken. Else: " if accepted else ""
    return taken + entry.advice.replace("|", "\\|")


def _default(value: Any) -> str:
    if value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    for path in MARKS:
        path.write_text(with_tables(path))
