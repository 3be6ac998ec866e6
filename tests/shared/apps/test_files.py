"""Stretches of files, and their descriptors."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.apps import files
from tercel.shared.apps.files import FilePart
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, turns
from tests.support.descriptors import open_descriptors


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class Held:
    """A system call that waits in its thread until it is let go."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.result: Any = None

    def __call__(self, *args: Any) -> Any:
        self.entered.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        self.result = self._call(*args)
        return self.result

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE_SECONDS)


async def closed(descriptor: int) -> None:
    """Wait until `descriptor` is closed."""
    while is_open(descriptor):
        await asyncio.sleep(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


@asynctest
async def test_file_is_read_and_closed(path: Path) -> None:
    part = await FilePart.of_path(str(path), limit=None)
    assert await part.read() == b"0123456789"
    assert await part.read() == b""
    part.close()
    assert not is_open(part._descriptor)


@pytest.mark.parametrize("kind", ["directory", "fifo", "missing"])
@asynctest
async def test_what_is_no_file_raises_and_leaves_nothing_open(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    before = open_descriptors()
    with pytest.raises(OSError):
        await FilePart.of_path(str(path), limit=None)
    assert open_descriptors() == before


@asynctest
async def test_part_of_an_open_file_leaves_it_open(path: Path) -> None:
    with path.open("rb") as file:
        part = FilePart.of_file(file, offset=8, count=None)
        assert await part.read() == b"89"
        part.close()
        assert file.read(1) == b"0"


@asynctest
async def test_descriptor_stays_open_until_the_thread_has_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(os.pread)
    with path.open("rb") as file:
        part = FilePart.of_file(file, offset=0, count=None)
    monkeypatch.setattr(os, "pread", held)
    reading = asyncio.ensure_future(part.read())
    await held.reached()
    reading.cancel()
    await turns()
    part.close()
    assert reading.cancelled()
    assert is_open(part._descriptor)
    held.go_on.set()
    await closed(part._descriptor)
    assert held.result == b"0123456789"


@asynctest
async def test_file_that_opens_after_cancellation_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(files._open)
    monkeypatch.setattr(files, "_open", held)
    opening = asyncio.ensure_future(FilePart.of_path(str(path), limit=None))
    await held.reached()
    opening.cancel()
    await turns()
    held.go_on.set()
    while held.result is None:
        await asyncio.sleep(0)
    await closed(held.result[0])


@asynctest
async def test_file_that_fails_to_open_after_cancellation_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(files._open)
    monkeypatch.setattr(files, "_open", held)
    opening = asyncio.ensure_future(FilePart.of_path(str(tmp_path / "missing"), limit=None))
    await held.reached()
    opening.cancel()
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    # The loop's executor is joined when the test ends; an error nobody took would fail it then.
