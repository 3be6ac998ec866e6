"""Another release of aioquic works, or is refused before a socket opens, in one line.

The other releases are copies of the one that is installed, with another version and one name
changed.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import aioquic
import pytest

from tercel.shared.requirements import TESTED_AIOQUIC

OTHER = "1.7.99"
PROGRAM = """
import asyncio, tercel
async def app(scope, receive, send): pass
async def main():
    try:
        async with tercel.serve("127.0.0.1", 0, app, version=3, run_async=True):
            print("serves")
    except tercel.ServerError as error:
        print("refused:", error)
asyncio.run(main())
"""

RENAMED = {
    "an attribute of a connection": ("quic/connection.py", "_streams_queue"),
    "an attribute of a range set": ("quic/rangeset.py", "__ranges"),
    "an attribute of a stream": ("quic/stream.py", "_buffer_start"),
    "an attribute of the recovery": ("quic/recovery.py", "_rtt_smoothed"),
    "a method of the recovery": ("quic/recovery.py", "_detect_loss"),
    "a name that is imported": ("quic/connection.py", "Limit"),
}


@pytest.fixture
def other_aioquic(tmp_path: Path) -> Path:
    """A directory with a copy of aioquic that has another version."""
    source = Path(aioquic.__file__).parent
    shutil.copytree(source, tmp_path / "aioquic", ignore=shutil.ignore_patterns("__pycache__"))
    details = tmp_path / f"aioquic-{OTHER}.dist-info"
    details.mkdir()
    (details / "METADATA").write_text(f"Metadata-Version: 2.1\nName: aioquic\nVersion: {OTHER}\n")
    return tmp_path


def serve_with(directory: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(directory), root))},
    )


def test_the_installed_aioquic_is_a_tested_one() -> None:
    assert importlib.metadata.version("aioquic") in TESTED_AIOQUIC


def test_another_aioquic_that_fits_is_served_with(other_aioquic: Path) -> None:
    done = serve_with(other_aioquic)
    assert (done.stdout, done.stderr) == ("serves\n", "")


@pytest.mark.parametrize(("file", "name"), RENAMED.values(), ids=RENAMED.keys())
def test_another_aioquic_that_does_not_fit_is_refused(
    other_aioquic: Path, file: str, name: str
) -> None:
    path = other_aioquic / "aioquic" / file
    text, count = re.subn(rf"\b{name}\b", name + "_renamed", path.read_text("utf-8"))
    assert count
    path.write_text(text, "utf-8")
    done = serve_with(other_aioquic)
    assert done.stdout.startswith(f"refused: cannot serve HTTP/3 with aioquic {OTHER} (")
    assert f"pip install aioquic=={TESTED_AIOQUIC[0]}" in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
