"""What an application's own code raises before it serves: in which module, and its traceback.

Frames of this server and of the import system tell nobody what to mend, so they are left out.
"""

import importlib
import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tercel.shared.errors import ApplicationFailed, ServerError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_INSTALLED = tuple(
    path + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_INSTALLED_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def failure(what: str, error: BaseException) -> ApplicationFailed:
    """The error that says that `what` failed, in which module, and why."""
    place = _place(error)
    where = f" in {place}" if place else ""
    return ApplicationFailed(f"{what}{where}: {told(error)}", report(error))


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Let ApplicationFailed say that `what` failed, for whatever the application raises."""
    try:
        yield
    except ServerError:
        raise
    except Exception as error:
        raise failure(what, error) from error


def told(error: BaseException) -> str:
    """The error in one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def report(error: BaseException) -> str:
    """The traceback of `error` from the application's first frame on."""
    shown = traceback.TracebackException.from_exception(error)
    _shorten(shown)
    return "".join(shown.format())


def raised_in_application(error: BaseException) -> bool:
    """Whether any code but this server's and the import system's had a part in `error`."""
    return any(not _is_machinery(name) for _, name, _ in _frames(error.__traceback__))


def _place(error: BaseException) -> str:
    """The module, file and line that are to blame: the innermost of the application's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in _frames(error.__traceback__) if not _is_machinery(frame[1])]
    own = [frame for frame in frames if _is_own(frame[1])] or frames
    if not own:
        return ""
    module, filename, line = own[-1]
    return f"{module} ({filename}, line {line})"


def _frames(entry: TracebackType | None) -> Iterator[tuple[str, str, int]]:
    """Module, file and line of each frame, the innermost last."""
    while entry is not None:
        frame = entry.tb_frame
        yield frame.f_globals.get("__name__", "?"), frame.f_code.co_filename, entry.tb_lineno
        entry = entry.tb_next


def _shorten(shown: traceback.TracebackException) -> None:
    """Leave out the machinery, and what called the application's first frame."""
    stack = [frame for frame in shown.stack if not _is_machinery(frame.filename)]
    first = next((n for n, frame in enumerate(stack) if _is_own(frame.filename)), 0)
    shown.stack = traceback.StackSummary.from_list(stack[first:])
    for linked in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if linked is not None:
            _shorten(linked)


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen importlib")) or filename == importlib.__file__


def _is_own(filename: str) -> bool:
    """Whether the file is the application's, and of no library."""
    return not (
        _is_machinery(filename)
        or filename.startswith(("<frozen", *_INSTALLED))
        or any(part in filename for part in _INSTALLED_PARTS)
    )
