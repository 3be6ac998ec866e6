"""Files with traffic or keys, which only the server's own user can read."""

import os
import stat
from typing import TextIO

_MODE = 0o600


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for `open` that creates files with mode 0600 from the start."""
    return os.open(path, flags, _MODE)


def append_private(path: str | os.PathLike[str]) -> TextIO:
    """Open the text file at `path` for appending. An existing file keeps its mode."""
    return open(path, "a", encoding="ascii", opener=open_private)


def create_private(path: str | os.PathLike[str]) -> TextIO:
    """Create a text file at `path`. Raises FileExistsError if a file or link is there."""
    return open(path, "x", encoding="utf-8", opener=open_private)


def is_private(file: TextIO) -> bool:
    """Whether no other user can read `file`, or it does not store what is written to it."""
    mode = os.fstat(file.fileno()).st_mode
    return not (stat.S_ISREG(mode) and mode & 0o077)
