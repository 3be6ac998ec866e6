"""Writes the table of options into README.md, between its two markers: python tools/readme.py"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from tercel.shared.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- options: written by tools/readme.py -->\n"
END = "<!-- end of options -->\n"


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


def with_table(text: str) -> str:
    """`text` with the table between its markers brought up to date."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + options_table() + END + rest.split(END)[1]


def _default(value: Any) -> str:
    if value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
