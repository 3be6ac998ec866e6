"""The documented interface of a Sanic server, held literally: names, parameters, defaults."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tercel import HttpProtocol, Signal

LISTING = ast.parse(Path(__file__).with_name("server_api.pyi").read_text("utf-8"))

HOMES = {
    "AsyncioServer": "tercel.server",
    "trigger_events": "tercel.shared.events",
    "get_goodbye": "tercel.shared.goodbye",
    "try_use_uvloop": "tercel.shared.loop",
    "try_windows_loop": "tercel.shared.loop",
    "SanicProtocol": "tercel.h1.base",
    "ConnectionProtocol": "tercel.quic.driver",
    "Http3Protocol": "tercel.quic.http3.protocol",
    "HttpProtocol": "tercel.h1.protocol",
    "HttpProtocolMixin": "tercel.shared.connection",
    "WebSocketProtocol": "tercel.h1.websocket",
    "serve": "tercel.serve",
    "bind_socket": "tercel.shared.sockets",
    "bind_unix_socket": "tercel.shared.sockets",
    "configure_socket": "tercel.shared.sockets",
    "remove_unix_socket": "tercel.shared.sockets",
    "WebSocketConnection": "tercel.shared.websocket.connection",
    "WebsocketFrameAssembler": "tercel.shared.websocket.frame",
    "WebsocketImplProtocol": "tercel.shared.websocket.impl",
}

NAMED_DEFAULTS = {"HttpProtocol": HttpProtocol, "Signal": Signal}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def listed_classes() -> Iterator[ast.ClassDef]:
    yield from (node for node in LISTING.body if isinstance(node, ast.ClassDef))


def listed_callables() -> Iterator[tuple[str, Function]]:
    """Each function, and each method as Class.method."""
    for node in LISTING.body:
        if isinstance(node, Function):
            yield node.name, node
    for owner in listed_classes():
        for node in owner.body:
            if isinstance(node, Function):
                yield f"{owner.name}.{node.name}", node


def found(dotted: str) -> Any:
    """tercel's object of that name, a method as it stands in its class."""
    name, _, member = dotted.partition(".")
    owner = getattr(import_module(HOMES[name]), name)
    return inspect.getattr_static(owner, member) if member else owner


def parameters(node: Function) -> list[tuple[str, Any]]:
    """Names in order with their defaults; `*` and `**` are part of a name."""
    arguments = node.args
    names = [item.arg for item in arguments.args]
    absent = [inspect.Parameter.empty] * (len(names) - len(arguments.defaults))
    result = list(zip(names, [*absent, *map(default, arguments.defaults)], strict=True))
    if arguments.vararg is not None:
        result.append((f"*{arguments.vararg.arg}", inspect.Parameter.empty))
    for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        result.append((item.arg, inspect.Parameter.empty if value is None else default(value)))
    if arguments.kwarg is not None:
        result.append((f"**{arguments.kwarg.arg}", inspect.Parameter.empty))
    return result


def default(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return NAMED_DEFAULTS[ast.unparse(node.func)]()
    if isinstance(node, ast.Name):
        return NAMED_DEFAULTS[node.id]
    return ast.literal_eval(node)


def actual_parameters(function: Any, count: int) -> list[tuple[str, Any]]:
    """As `parameters`, without what tercel has added: keyword-only, with a default, at the end."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    result = [
        (stars.get(item.kind, "") + name, item.default, item.kind)
        for name, item in inspect.signature(function).parameters.items()
    ]
    added = [
        item
        for item in result[count:]
        if item[2] is inspect.Parameter.KEYWORD_ONLY and item[1] is not inspect.Parameter.empty
    ]
    return [(name, value) for name, value, kind in result if (name, value, kind) not in added]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Signal):
        return isinstance(other, Signal) and not other.stopped
    return one is other or (type(one) is not bool and type(other) is not bool and one == other)


every_callable = pytest.mark.parametrize(
    ("dotted", "node"), [pytest.param(*item, id=item[0]) for item in listed_callables()]
)


@pytest.mark.parametrize("name", [owner.name for owner in listed_classes()])
def test_every_documented_class_is_there(name: str) -> None:
    assert inspect.isclass(found(name))


@every_callable
def test_parameters_and_defaults_are_as_documented(dotted: str, node: Function) -> None:
    expected = parameters(node)
    function = found(dotted)
    if isinstance(function, property):
        function = function.fget
    elif isinstance(function, staticmethod):
        function = function.__func__
    actual = actual_parameters(function, len(expected))
    assert [name for name, _ in actual] == [name for name, _ in expected]
    for (name, wanted), (_, value) in zip(expected, actual, strict=True):
        assert same(wanted, value), f"{dotted}({name}={value!r}), documented is {wanted!r}"


@every_callable
def test_properties_and_static_methods_are_such(dotted: str, node: Function) -> None:
    decorators = [ast.unparse(item) for item in node.decorator_list]
    function = found(dotted)
    assert isinstance(function, property) == ("property" in decorators)
    assert isinstance(function, staticmethod) == ("staticmethod" in decorators)


@every_callable
def test_what_is_awaited_as_documented_can_be(dotted: str, node: Function) -> None:
    if isinstance(node, ast.AsyncFunctionDef):
        assert inspect.iscoroutinefunction(found(dotted))


def test_the_listing_has_a_home_for_every_name_and_no_other() -> None:
    listed = {node.name for node in LISTING.body if isinstance(node, ast.ClassDef | Function)}
    assert listed == set(HOMES)
