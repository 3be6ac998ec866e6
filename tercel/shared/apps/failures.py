"""Reports of exceptions from an application's code before it serves: the module and the traceback.

Frames of this server and of the import system do not show what to fix, so they are left out.
"""

import importlib
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

from tercel.shared.errors import ApplicationFailed, ServerError

Frame = TypeVar("Frame")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_PATHS = {name: path + os.sep for name, path in sysconfig.get_paths().items()}
_LIBRARIES = (_PATHS["purelib"], _PATHS["platlib"])
_LIBRARY_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = (_PATHS["stdlib"], _PATHS["platstdlib"])


def failure(what: str, error: BaseException, *, package: str = "") -> ApplicationFailed:
    """An ApplicationFailed that says that `what` failed, in which module, and why.

    `package` is the application's package, where known: it may be installed like a library.
    """
    own = _own_files(error, package)
    place = _place(error, own)
    where = f" in {place}" if place else ""
    return ApplicationFailed(f"{what}{where}: {told(error)}", _report(error, own))


@contextmanager
def reported(what: str, *, package: str = "") -> Iterator[None]:
    """Convert exceptions of the application to ApplicationFailed, saying that `what` failed."""
    try:
        yield
    except ServerError:
        raise
    except Exception as error:
        raise failure(what, error, package=package) from error


def told(error: BaseException) -> str:
    """The error in one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def report(error: BaseException) -> str:
    """The traceback of `error` from the application's first frame on."""
    return _report(error, _own_files(error))


def raised_in_application(error: BaseException) -> bool:
    """Whether the traceback of `error` has frames outside this server and the import system."""
    return any(not _is_machinery(name) for _, name, _ in _frames(error.__traceback__))


def running_place(frames: Sequence[FrameType]) -> str:
    """Module, file, line and function of the frame in `frames` that is to blame.

    `frames` are the frames of a thread, at least one, the innermost last.
    """
    others = [frame for frame in frames if not _is_machinery(frame.f_code.co_filename)]
    frame = _to_blame(others or frames, lambda frame: frame.f_code.co_filename, _is_own)
    module, code = frame.f_globals.get("__name__", "?"), frame.f_code
    return f"{module} ({code.co_filename}, line {frame.f_lineno}, in {code.co_qualname})"


def _own_files(error: BaseException, package: str = "") -> set[str]:
    """The application's own files in the traceback of `error`, all of `package` included."""
    return {
        filename
        for module, filename, _ in _frames(error.__traceback__)
        if _is_own(filename) or (package and module.partition(".")[0] == package)
    }


def _place(error: BaseException, own: set[str]) -> str:
    """Module, file and line of the frame to blame: the innermost of the application's own.

    Without one it is the innermost frame of a library, and only then of Python.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in _frames(error.__traceback__) if not _is_machinery(frame[1])]
    if not frames:
        return ""
    module, filename, line = _to_blame(frames, lambda frame: frame[1], own.__contains__)
    return f"{module} ({filename}, line {line})"


def _to_blame(
    frames: Sequence[Frame],
    filename: Callable[[Frame], str],
    is_own: Callable[[str], bool],
) -> Frame:
    """The innermost of the application's own `frames`; else of a library, else of Python."""
    for blamed in (is_own, lambda name: not _is_standard(name)):
        for frame in reversed(frames):
            if blamed(filename(frame)):
                return frame
    return frames[-1]


def _report(error: BaseException, own: set[str]) -> str:
    shown = traceback.TracebackException.from_exception(error)
    _shorten(shown, own)
    return "".join(shown.format())


def _frames(entry: TracebackType | None) -> Iterator[tuple[str, str, int]]:
    """Module, file and line of each frame, the innermost last."""
    while entry is not None:
        frame = entry.tb_frame
        yield frame.f_globals.get("__name__", "?"), frame.f_code.co_filename, entry.tb_lineno
        entry = entry.tb_next


def _shorten(shown: traceback.TracebackException, own: set[str]) -> None:
    """Leave out the machinery, and the frames before the application's first one."""
    stack = [frame for frame in shown.stack if not _is_machinery(frame.filename)]
    first = next(
        (n for n, frame in enumerate(stack) if frame.filename in own or _is_own(frame.filename)), 0
    )
    shown.stack = traceback.StackSummary.from_list(stack[first:])
    for linked in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if linked is not None:
            _shorten(linked, own)


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen importlib")) or filename == importlib.__file__


def _is_own(filename: str) -> bool:
    """Whether the file belongs to the application and not to a library."""
    return not (_is_machinery(filename) or _is_installed(filename) or _is_standard(filename))


def _is_installed(filename: str) -> bool:
    return filename.startswith(_LIBRARIES) or any(part in filename for part in _LIBRARY_PARTS)


def _is_standard(filename: str) -> bool:
    # Installed packages lie below the standard library, outside a virtual environment.
    return filename.startswith(("<frozen", *_STANDARD)) and not _is_installed(filename)
