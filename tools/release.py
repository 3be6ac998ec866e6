"""What a release has to be before it is published: the right tag, and a wheel with all its files.

    python tools/release.py tag v0.1.0
    python tools/release.py wheel dist/tercel-0.1.0-py3-none-any.whl

Imports nothing of the package, which need not be installed.
"""

import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tag_mistakes(tag: str, root: Path = ROOT) -> list[str]:
    """Why `tag` is not one for what is in `root`."""
    version = re.search(r'^__version__ = "(.+)"$', (root / "tercel/version.py").read_text(), re.M)
    assert version is not None
    mistakes = []
    if tag != f"v{version[1]}":
        mistakes.append(f"the tag is {tag}, tercel/version.py has {version[1]}")
    heading = rf"^## \[{re.escape(tag.removeprefix('v'))}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(), re.M):
        mistakes.append(f"CHANGELOG.md has no section [{tag.removeprefix('v')}] with a date")
    return mistakes


def wheel_mistakes(path: Path, root: Path = ROOT) -> list[str]:
    """What a wheel lacks of the package in `root`, and what does not belong there."""
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(root).as_posix()
        for path in (root / "tercel").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    mistakes = [f"{name} is missing" for name in sorted(package - names)]
    return mistakes + [f"{name} does not belong there" for name in sorted(names - package)]


def main(arguments: list[str]) -> int:
    """Print what is wrong; 1 if anything is."""
    match arguments:
        case ["tag", tag]:
            mistakes = tag_mistakes(tag)
        case ["wheel", path]:
            mistakes = wheel_mistakes(Path(path))
        case _:
            mistakes = ["usage: release.py tag TAG | release.py wheel FILE"]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
