"""From MODULE:ATTRIBUTE to an application, and every way to get it wrong."""

import asyncio
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.apps.asgi import AsgiApplication
from tercel.shared.apps.loader import Interface, interface_of, load_application, wrap
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet

SOURCE = """
class Box:
    class Inner:
        async def app(scope, receive, send): ...

async def app(scope, receive, send): ...
async def secondary(scope, receive, send): ...
async def async_factory(): return app
def create_app(): return app
def create_configured(config=None): return app
def create_nothing(): return None
def create_broken(): raise KeyError("setting")
def wsgi(environ, start_response): ...
number = 42
"""


@pytest.fixture(autouse=True)
def _restored_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "site_main.py").write_text(SOURCE)
    (tmp_path / "site_application.py").write_text("application = print")
    (tmp_path / "site_other.py").write_text("other = print")
    (tmp_path / "site_needs.py").write_text("import site_missing_dependency")
    (tmp_path / "site_from.py").write_text("from site_main import missing_name")
    (tmp_path / "site_syntax.py").write_text("def broken(:\n")
    (tmp_path / "site_raises.py").write_text("\nraise RuntimeError('two\\nlines')")
    (tmp_path / "site_bare.py").write_text("raise RuntimeError")
    package = tmp_path / "site_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "asgi.py").write_text(SOURCE)
    return str(tmp_path)


def error_of(spec: str, app_dir: str, *, factory: bool = False) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_application(spec, app_dir=app_dir, factory=factory)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- what loads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["site_main:app", "site_package.asgi:app", "site_main:Box.Inner.app"]
)
def test_module_and_attribute_name_an_application(directory: str, spec: str) -> None:
    app = load_application(spec, app_dir=directory)
    assert app.__module__ == spec.partition(":")[0]
    assert app.__name__ == "app"


@pytest.mark.parametrize("name", ["create_app", "create_configured"])
def test_factory_is_called(directory: str, name: str) -> None:
    app = load_application(f"site_main:{name}", app_dir=directory, factory=True)
    assert app is sys.modules["site_main"].app


def test_app_dir_is_searched_first_and_once(directory: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(directory)
    load_application("site_main:app")
    load_application("site_main:app", app_dir=".")
    assert sys.path[0] == directory
    assert sys.path.count(directory) == 1


# -- what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("", "names no module"),
        (":app", "names no module"),
        ("site_main", "try site_main:app"),
        ("site_main:", "try site_main:app"),
        ("site_application", "try site_application:application"),
        ("site_other", "site_other:ATTRIBUTE"),
        ("site_main.py", "--app-dir . site_main:app"),
        ("src/site_main.py", "--app-dir src site_main:app"),
        ("src/site_main.py:app", "--app-dir src site_main:app"),
        ("site_absent", "no module 'site_absent' in {directory}"),
        ("site_absent:app", "no module 'site_absent' in {directory}"),
        ("site_package.absent:app", "no module 'site_package.absent' in {directory}"),
        ("site_absent.asgi:app", "no module 'site_absent' in {directory}"),
        ("site_needs:app", "it imports 'site_missing_dependency', which is missing"),
        ("site_from:app", "ImportError: cannot import name 'missing_name'"),
        ("site_syntax:app", "SyntaxError: "),
        ("site_raises:app", "RuntimeError: two lines ({directory}/site_raises.py, line 2)"),
        ("site_bare:app", "RuntimeError ({directory}/site_bare.py, line 1)"),
        ("site_main:ap", "'site_main' has no attribute 'ap'; did you mean app?"),
        ("site_main:secondry", "did you mean secondary?"),
        ("site_main:zzz", "did you mean app?"),
        ("site_main:Box.Iner.app", "'site_main.Box' has no attribute 'Iner'; did you mean Inner?"),
        ("site_main:number", "site_main:number is no application but a builtins.int"),
        ("site_main:create_app", "add --factory"),
        ("site_main:create_configured", "add --factory"),
    ],
)
def test_wrong_name_says_what_to_do(directory: str, spec: str, told: str) -> None:
    assert told.format(directory=directory) in error_of(spec, directory)


def test_attribute_that_resembles_nothing_is_told_without_a_suggestion(directory: str) -> None:
    assert error_of("site_other:zzz", directory) == "'site_other' has no attribute 'zzz'"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("number", "is no function but a builtins.int; leave out --factory"),
        ("app", "cannot be called without arguments; if it is the application itself, leave out"),
        ("wsgi", "cannot be called without arguments"),
        ("async_factory", "is async; --factory needs a plain function"),
        ("create_nothing", "returned a builtins.NoneType; it must return an ASGI application"),
        ("create_broken", "failed: KeyError: 'setting'"),
    ],
)
def test_wrong_factory_says_what_to_do(directory: str, name: str, told: str) -> None:
    assert told in error_of(f"site_main:{name}", directory, factory=True)


def test_missing_app_dir_is_told(tmp_path: Path) -> None:
    assert "is no directory" in error_of("site_main:app", str(tmp_path / "absent"))


# -- interfaces ------------------------------------------------------------------------------------


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...
async def catch_all(*args: Any) -> None: ...
async def coroutine_of_two(scope: Any, receive: Any) -> None: ...
def wsgi(environ: Any, start_response: Any) -> Any: ...
def wsgi_renamed(env: Any, start: Any) -> Any: ...
def wsgi_with_extra(environ: Any, start_response: Any, extra: Any = None) -> Any: ...
def four(a: Any, b: Any, c: Any, d: Any) -> Any: ...
def no_arguments() -> Any: ...
def asgi2(scope: Any) -> Any: ...


class AsgiInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Endpoint:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...
    def __await__(self) -> Any: ...


class Middleware:
    def __init__(self, app: Any, option: Any, other: Any) -> None: ...


class TwoArguments:
    def __init__(self, app: Any, option: Any) -> None: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...


class WsgiInstance:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class FakeSanic:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


FakeSanic.__name__ = "Sanic"
FakeSanic.__module__ = "sanic.app"


class SubclassOfSanic(FakeSanic): ...


class Unsigned:
    """A callable that has no signature, like many written in C."""

    __signature__ = "none"

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (asgi, Interface.ASGI),
        (catch_all, Interface.ASGI),
        (AsgiInstance(), Interface.ASGI),
        (AsgiInstance().__call__, Interface.ASGI),
        (Endpoint, Interface.ASGI),
        (functools.partial(four, 1), Interface.ASGI),
        (Unsigned(), Interface.ASGI),
        (wsgi, Interface.WSGI),
        (wsgi_renamed, Interface.WSGI),
        (wsgi_with_extra, Interface.WSGI),
        (WsgiInstance(), Interface.WSGI),
        (asgi2, Interface.ASGI2),
        (Asgi2, Interface.ASGI2),
        (Middleware, Interface.CLASS),
        (TwoArguments, Interface.CLASS),
        (AsgiInstance, Interface.FACTORY),
        (no_arguments, Interface.FACTORY),
        (FakeSanic(), Interface.SANIC),
        (SubclassOfSanic(), Interface.SANIC),
        (coroutine_of_two, Interface.NONE),
        (four, Interface.NONE),
        (42, Interface.NONE),
        (None, Interface.NONE),
    ],
)
def test_interface_is_told_from_type_and_signature(app: Any, expected: Interface) -> None:
    assert interface_of(app) is expected


def wrapped(app: Any) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return wrap(app, settings=Settings(), tasks=TaskSet(loop), background=TaskSet(loop))
    finally:
        loop.close()


def test_asgi_application_is_wrapped() -> None:
    assert isinstance(wrapped(asgi), AsgiApplication)


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (wsgi, r"\.wsgi is a WSGI application; wrap it: asgiref.*WsgiToAsgi.*a2wsgi"),
        (asgi2, "guarantee_single_callable"),
        (Middleware, r"\.Middleware is a class; name an instance of it"),
        (42, "a builtins.int is no ASGI application"),
        (no_arguments, r"\.no_arguments can be called without arguments"),
    ],
)
def test_other_interface_is_refused_with_advice(app: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        wrapped(app)


def test_real_frameworks_are_recognised() -> None:
    starlette = pytest.importorskip("starlette.applications")
    assert interface_of(starlette.Starlette()) is Interface.ASGI
    fastapi = pytest.importorskip("fastapi")
    assert interface_of(fastapi.FastAPI()) is Interface.ASGI
    wsgi_handler = pytest.importorskip("django.core.handlers.wsgi")
    assert (
        interface_of(wsgi_handler.WSGIHandler.__new__(wsgi_handler.WSGIHandler)) is Interface.WSGI
    )
    asgi_handler = pytest.importorskip("django.core.handlers.asgi")
    assert (
        interface_of(asgi_handler.ASGIHandler.__new__(asgi_handler.ASGIHandler)) is Interface.ASGI
    )
