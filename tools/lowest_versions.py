"""Prints pip constraints: the lowest version of each dependency that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lowest_versions() -> list[str]:
    """`NAME==VERSION` for each dependency."""
    requirements = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    return [
        re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", requirement) for requirement in requirements
    ]


if __name__ == "__main__":
    print("\n".join(lowest_versions()))
