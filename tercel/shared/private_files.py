"""Files that tell of traffic or hold keys: nobody but the server's own user reads them."""

import os
import stat
from typing import TextIO

_MODE = 0o600


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for `open`: what it creates has mode 0600 from the first moment."""
    return os.open(path, flags, _MODE)


def append_private(path: str | os.PathLike[str]) -> TextIO:
    """The text file at `path`, to be appended to. One that is there keeps its mode."""
    return open(path, "a", encoding="ascii", opener=open_private)


def create_private(path: str | os.PathLike[str]) -> TextIO:
    """A new text file at `path`. Raises FileExistsError for one that is there, or a link."""
    return open(path, "x", encoding="utf-8", opener=open_private)


def is_private(file: TextIO) -> bool:
    """Whether nobody else may read `file`, or it is none that keeps what is written."""
    mode = os.fstat(file.fileno()).st_mode
    return not (stat.S_ISREG(mode) and mode & 0o077)
