"""From MODULE:ATTRIBUTE to an application, and every way to get it wrong."""

import asyncio
import functools
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.apps.asgi import AsgiApplication
from tercel.shared.apps.loader import Interface, interface_of, load_application, wrap
from tercel.shared.errors import ApplicationFailed, ConfigurationError
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
    ],
)
def test_wrong_factory_says_what_to_do(directory: str, name: str, told: str) -> None:
    assert told in error_of(f"site_main:{name}", directory, factory=True)


# -- applications that fail while they are loaded --------------------------------------------------


def failure_of(spec: str, app_dir: str, *, factory: bool = False) -> ApplicationFailed:
    with pytest.raises(ApplicationFailed) as caught:
        load_application(spec, app_dir=app_dir, factory=factory)
    assert "\n" not in str(caught.value)
    assert not re.search(r"tercel/shared|importlib", caught.value.report)
    return caught.value


@pytest.mark.parametrize(
    ("module", "source", "told"),
    [
        (
            "needs",
            "import site_missing_dependency",
            "failed in {module} ({file}, line 1): ModuleNotFoundError: No module named "
            "'site_missing_dependency'; install 'site_missing_dependency' where tercel is",
        ),
        (
            "from",
            "from site_main import missing_name",
            "failed in {module} ({file}, line 1): ImportError: cannot import name 'missing_name'",
        ),
        ("syntax", "def broken(:", "failed in {file}, line 1: SyntaxError: "),
        (
            "raises",
            "\nraise RuntimeError('two\\nlines')",
            "failed in {module} ({file}, line 2): RuntimeError: two lines",
        ),
        ("bare", "raise RuntimeError", "failed in {module} ({file}, line 1): RuntimeError"),
        (
            "library",
            "import os\nos.environ['SITE_ABSENT']",
            "failed in {module} ({file}, line 2): KeyError: 'SITE_ABSENT'",
        ),
        (
            "exits",
            "raise SystemExit('no configuration')",
            "failed in {module} ({file}, line 1): SystemExit: no configuration",
        ),
        (
            "circular",
            "import site_second\nname = 1",
            "failed in site_second ({second}, line 1): ImportError: cannot import name 'name' from "
            "partially initialized module",
        ),
    ],
)
def test_import_that_fails_says_in_which_module_and_shows_the_application_s_traceback(
    directory: str, module: str, source: str, told: str
) -> None:
    file, second = Path(directory) / f"site_{module}.py", Path(directory) / "site_second.py"
    file.write_text(source + "\n")
    second.write_text(f"from site_{module} import name\n")
    failed = failure_of(f"site_{module}:app", directory)
    expected = told.format(module=f"site_{module}", file=file, second=second)
    assert str(failed).startswith(f"importing 'site_{module}' {expected}")
    first = next(line for line in failed.report.splitlines() if line.startswith("  File "))
    assert first.startswith(f'  File "{file}", line ')
    assert failed.__cause__ is not None


def test_an_application_that_is_installed_like_a_library_is_told_apart_from_others(
    tmp_path: Path,
) -> None:
    """As in an image into which everything was installed by pip."""
    installed = tmp_path / "site-packages"
    for name, source in {
        "site_shop/__init__.py": "",
        "site_shop/asgi.py": "import site_shop.settings",
        "site_shop/settings.py": "import site_reader\nurl = site_reader.read('SITE_ABSENT')",
        "site_reader.py": "import os\ndef read(name):\n    return os.environ[name]",
    }.items():
        (installed / name).parent.mkdir(exist_ok=True, parents=True)
        (installed / name).write_text(source + "\n")
    failed = failure_of("site_shop.asgi:app", str(installed))
    place = f"site_shop.settings ({installed}/site_shop/settings.py, line 2)"
    assert f"failed in {place}: KeyError: 'SITE_ABSENT'" in str(failed)
    assert failed.report.splitlines()[1].startswith(f'  File "{installed}/site_shop/asgi.py"')


def test_module_that_is_missing_inside_the_named_package_is_not_taken_for_a_wrong_name(
    directory: str,
) -> None:
    inner = Path(directory) / "site_package" / "inner.py"
    inner.write_text("import site_package.absent\n")
    failed = failure_of("site_package.inner:app", directory)
    assert f"failed in site_package.inner ({inner}, line 1)" in str(failed)


def test_interrupt_while_importing_is_an_interrupt(directory: str) -> None:
    (Path(directory) / "site_slow.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_application("site_slow:app", app_dir=directory)


def test_factory_that_fails_is_told_with_its_traceback(directory: str) -> None:
    failed = failure_of("site_main:create_broken", directory, factory=True)
    assert str(failed).startswith("the factory site_main:create_broken failed in site_main (")
    assert str(failed).endswith("KeyError: 'setting'")
    assert failed.report.splitlines()[1].startswith(f'  File "{directory}/site_main.py", line ')


def test_attribute_that_fails_when_it_is_looked_up_is_told_with_its_traceback(
    directory: str,
) -> None:
    source = "def __getattr__(name): raise ValueError(name)\n"
    (Path(directory) / "site_lazy.py").write_text(source)
    failed = failure_of("site_lazy:app", directory)
    assert "looking up 'app' in 'site_lazy' failed in site_lazy (" in str(failed)


def test_missing_app_dir_is_told(tmp_path: Path) -> None:
    assert "is no directory" in error_of("site_main:app", str(tmp_path / "absent"))


# -- interfaces ------------------------------------------------------------------------------------


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...
async def catch_all(*args: Any) -> None: ...
async def coroutine_of_two(scope: Any, receive: Any) -> None: ...
def wsgi(environ: Any, start_response: Any) -> Any: ...
def wsgi_renamed(env: Any, start: Any) -> Any: ...
def wsgi_with_extra(environ: Any, start_response: Any, extra: Any = None) -> Any: ...
async def coroutine_of_four(a: Any, b: Any, c: Any, d: Any) -> None: ...
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
        (functools.partial(coroutine_of_four, 1), Interface.ASGI),
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


# -- synchronous functions -------------------------------------------------------------------------


def synchronous(scope: Any, receive: Any, send: Any) -> None:
    send({"type": "http.response.start", "status": 200})


def synchronous_with_returns(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    for _ in range(3):
        send(receive())


def generator(scope: Any, receive: Any, send: Any) -> Any:
    yield b"content"


async def asynchronous_generator(scope: Any, receive: Any, send: Any) -> Any:
    yield b"content"


class SynchronousInstance:
    def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    "app",
    [
        synchronous,
        synchronous_with_returns,
        generator,
        asynchronous_generator,
        SynchronousInstance(),
        SynchronousInstance().__call__,
        functools.partial(four, 1),
    ],
)
def test_synchronous_function_is_refused(app: Any) -> None:
    assert interface_of(app) is Interface.SYNCHRONOUS
    with pytest.raises(ConfigurationError, match=r"synchronous function; .* async def"):
        wrapped(app)


def hands_on(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send)


def hands_on_some(scope: Any, receive: Any, send: Any) -> Any:
    if scope["type"] == "http":
        return asgi(scope, receive, send)
    return None


def hands_on_or_not(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send) if scope["type"] == "http" else None


@functools.wraps(synchronous)
def decorated(*args: Any) -> Any:
    return asgi(*args)


@types.coroutine
def iterable_coroutine(scope: Any, receive: Any, send: Any) -> Any:
    yield


class HandsOn:
    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return asgi(scope, receive, send)


class CallsItsAttribute:
    def __init__(self) -> None:
        self.app = asgi

    @property
    def __call__(self) -> Any:
        return self.app


@pytest.mark.parametrize(
    "app",
    [
        hands_on,
        hands_on_some,
        hands_on_or_not,
        decorated,
        iterable_coroutine,
        lambda scope, receive, send: asgi(scope, receive, send),
        HandsOn(),
        HandsOn().__call__,
        CallsItsAttribute(),
        functools.partial(hands_on),
        functools.partial(AsgiInstance()),
        functools.partial(functools.partial(coroutine_of_four, 1)),
    ],
)
def test_plain_function_that_may_return_an_awaitable_is_no_mistake(app: Any) -> None:
    assert isinstance(wrapped(app), AsgiApplication)


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
