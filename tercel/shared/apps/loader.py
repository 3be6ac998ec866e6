"""Loads the application named by MODULE:ATTRIBUTE: import, look up, choose the adapter.

Every mistake is a ConfigurationError whose one line says what to do. An exception of the
application's own code becomes an ApplicationFailed with its traceback. Knows no connections.
"""

import difflib
import dis
import functools
import importlib
import inspect
import os
import sys
from enum import Enum, auto
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from tercel.shared.apps.asgi import AsgiApplication
from tercel.shared.apps.failures import failure, raised_in_application, reported
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.stream import Application
from tercel.shared.tasks import TaskSet

# The usual names of applications; suggested when only the module is named.
_USUAL_NAMES = ("app", "application")


class Interface(Enum):
    """The kind of interface of an object, judged by its type and signature."""

    ASGI = auto()
    ASGI2 = auto()
    SYNCHRONOUS = auto()
    WSGI = auto()
    SANIC = auto()
    FACTORY = auto()
    CLASS = auto()
    NONE = auto()


_REFUSALS = {
    Interface.ASGI2: "{name} takes one argument, like an ASGI 2 application; wrap it: "
    "asgiref.compatibility.guarantee_single_callable(app)",
    Interface.SYNCHRONOUS: "{name} is a synchronous function; an ASGI application is a coroutine "
    "function: write async def, and await what it receives and sends",
    Interface.WSGI: "{name} is a WSGI application; wrap it: asgiref.wsgi.WsgiToAsgi(app), "
    "or a2wsgi.WSGIMiddleware(app)",
    Interface.FACTORY: "{name} can be called without arguments, so it is no ASGI application; "
    "if it returns one, pass what it returns",
    Interface.CLASS: "{name} is a class; name an instance of it",
    Interface.NONE: "{name} is no ASGI application",
}


def resolve_application(app: Any, settings: Settings) -> Any:
    """`app` itself, or the object that it names as MODULE:ATTRIBUTE.

    With the setting `factory` it is called, and the application is the value that it returns.

    Raises as `load_application` does.
    """
    if isinstance(app, str):
        return load_application(app, app_dir=settings.app_dir, factory=settings.factory)
    return _made(app, described(app)) if settings.factory else app


def load_application(spec: str, *, app_dir: str = ".", factory: bool = False) -> Any:
    """The application named by `spec`, MODULE:ATTRIBUTE; ATTRIBUTE may have dots.

    MODULE is imported from `app_dir` first. With `factory` the attribute is called without
    arguments and returns the application. Raises ConfigurationError, and ApplicationFailed when
    the application's code fails meanwhile.
    """
    _search_first(app_dir)
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigurationError(_advice(spec, app_dir))
    if module_name.endswith(".py") or "/" in module_name:
        path = Path(module_name)
        raise ConfigurationError(
            f"{module_name!r} is a file; name the module: "
            f"--app-dir {path.parent} {path.stem}:{attribute}"
        )
    app = _attribute(_module(module_name, app_dir), attribute)
    if factory:
        return _made(app, spec)
    interface = interface_of(app)
    if interface is Interface.FACTORY:
        raise ConfigurationError(
            f"{spec} can be called without arguments, so it is no ASGI application; "
            "if it returns one, add --factory"
        )
    if interface is Interface.NONE:
        raise ConfigurationError(
            f"{spec} is no application but {described(app)}; name an ASGI application"
        )
    return app


def wrap(app: Any, *, settings: Settings, tasks: TaskSet, background: TaskSet) -> Application:
    """The adapter for `app`; an `app` that is an adapter already is returned as it is.

    Only requests run in `tasks`; all other tasks of the application run in `background`.
    Raises ConfigurationError when the interface of `app` is not supported.
    """
    if isinstance(app, Application):
        return app
    interface = interface_of(app)
    if interface is Interface.SANIC:
        # Imported only here: other applications do not need Sanic installed.
        from tercel.shared.apps.sanic.application import SanicApplication

        return SanicApplication(app, settings=settings, tasks=tasks, background=background)
    if interface is not Interface.ASGI:
        raise ConfigurationError(_REFUSALS[interface].format(name=described(app)))
    return AsgiApplication(app, settings=settings, tasks=tasks)


def interface_of(app: Any) -> Interface:
    """Determine the interface of `app` from its type and signature. Calls nothing."""
    for base in type(app).__mro__:
        if base.__name__ == "Sanic" and base.__module__.partition(".")[0] == "sanic":
            return Interface.SANIC
    if not callable(app):
        return Interface.NONE
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        # Written in C, without a signature: the first request will show whether it is.
        return Interface.ASGI
    if next(iter(signature.parameters), "") == "environ":
        return Interface.WSGI
    is_class = inspect.isclass(app)
    if _takes(signature, 3):
        if is_class:
            # A class whose instances can be awaited is called like a coroutine function.
            return Interface.ASGI if hasattr(app, "__await__") else Interface.CLASS
        return Interface.SYNCHRONOUS if _is_synchronous(app) else Interface.ASGI
    if _takes(signature, 0):
        return Interface.FACTORY
    if is_class:
        return Interface.ASGI2 if _takes(signature, 1) else Interface.CLASS
    if inspect.iscoroutinefunction(app):
        return Interface.NONE
    if _takes(signature, 2):
        return Interface.WSGI
    return Interface.ASGI2 if _takes(signature, 1) else Interface.NONE


def described(app: Any) -> str:
    """A short name of any object, for people to read."""
    name = getattr(app, "__qualname__", None)
    if isinstance(name, str):
        return f"{app.__module__}.{name}"
    return f"a {type(app).__module__}.{type(app).__qualname__}"


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _search_first(app_dir: str) -> None:
    directory = os.path.abspath(app_dir)
    if not os.path.isdir(directory):
        raise ConfigurationError(f"--app-dir {app_dir} is no directory")
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)


def _advice(spec: str, app_dir: str) -> str:
    """What to write instead of a spec that is not MODULE:ATTRIBUTE."""
    name = spec.strip(":")
    if not name or spec.startswith(":"):
        return f"{spec!r} names no module; name the application as MODULE:ATTRIBUTE, main:app say"
    if name.endswith(".py") or "/" in name:
        path = Path(name)
        return (
            f"{name!r} is a file; name the application in it as MODULE:ATTRIBUTE: "
            f"--app-dir {path.parent} {path.stem}:app"
        )
    module = _module(name, app_dir)
    for usual in _USUAL_NAMES:
        if hasattr(module, usual):
            return f"{spec!r} names no attribute of the module; try {name}:{usual}"
    return f"{spec!r} names no attribute; name the application as {name}:ATTRIBUTE"


def _module(name: str, app_dir: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if raised_in_application(error):
            failed = failure(f"importing {name!r} failed", error, package=_top(name))
            advice = f"install {error.name!r} where tercel is installed, if it is a package"
            raise type(failed)(f"{failed}; {advice}", failed.report) from error
        # No code of the application ran, so the operator mistyped the name.
        raise ConfigurationError(
            f"no module {error.name!r} in {os.path.abspath(app_dir)} or among the installed "
            "packages; --app-dir names the directory that it lies in"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # SystemExit, too: a module that ends the program cannot be served.
        raise failure(f"importing {name!r} failed", error, package=_top(name)) from error


def _attribute(module: ModuleType, dotted: str) -> Any:
    found: Any = module
    path = module.__name__
    for part in dotted.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise ConfigurationError(
                f"{path!r} has no attribute {part!r}{_suggestion(found, part)}"
            ) from error
        except Exception as error:
            what = f"looking up {part!r} in {path!r} failed"
            raise failure(what, error, package=_top(module.__name__)) from error
        path = f"{path}.{part}"
    return found


def _top(module: str) -> str:
    return module.partition(".")[0]


def _suggestion(owner: Any, wanted: str) -> str:
    names = [name for name in dir(owner) if not name.startswith("_")]
    close = difflib.get_close_matches(wanted, names) or [
        name for name in _USUAL_NAMES if name in names
    ]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _made(factory: Any, spec: str) -> Any:
    """The application that `factory` returns."""
    if not callable(factory):
        raise ConfigurationError(
            f"{spec} is no function but {described(factory)}; leave out --factory"
        )
    if interface_of(factory) is not Interface.FACTORY:
        raise ConfigurationError(
            f"{spec} cannot be called without arguments; "
            "if it is the application itself, leave out --factory"
        )
    with reported(f"the factory {spec} failed", package=_top(factory.__module__ or "")):
        app = factory()
    if inspect.iscoroutine(app):
        app.close()
        raise ConfigurationError(f"the factory {spec} is async; --factory needs a plain function")
    if interface_of(app) is Interface.NONE:
        raise ConfigurationError(
            f"the factory {spec} returned {described(app)}; it must return an ASGI application"
        )
    return app


# -- synchronous functions ------------------------------------------------------------------------


def _is_synchronous(app: Any) -> bool:
    """Whether a call of `app` certainly returns a value that cannot be awaited.

    A plain function may return the awaitable that another function returned. Only a function that
    returns nothing, or is a generator, certainly returns none.
    """
    while isinstance(app, functools.partial):
        app = app.func
    if inspect.iscoroutinefunction(app):
        return False
    if not isinstance(app, (FunctionType, MethodType)):
        app = getattr(type(app), "__call__", None)  # noqa: B004  it was called callable before
    function = app.__func__ if isinstance(app, MethodType) else app
    if not isinstance(function, FunctionType) or inspect.iscoroutinefunction(function):
        return False
    code = function.__code__
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE):
        return False
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return True
    return _returns_none_only(code)


def _returns_none_only(code: CodeType) -> bool:
    before = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
        if instruction.opname == "RETURN_VALUE" and (
            instruction.is_jump_target
            or before is None
            or before.opname != "LOAD_CONST"
            or before.argval is not None
        ):
            return False
        before = instruction
    return True
