"""tercel: an HTTP/3-first application server for Python.

The public names; each is described where it is defined.
"""

from typing import TYPE_CHECKING, Any

from tercel.shared.requirements import advice, missing_package
from tercel.version import __version__

_missing: ModuleNotFoundError | None = None
try:
    from tercel.entry import Server, run
    from tercel.h1.base import SanicProtocol
    from tercel.h1.protocol import HttpProtocol
    from tercel.h1.websocket import WebSocketProtocol
    from tercel.install import install_sanic
    from tercel.serve import HTTP, serve
    from tercel.server import AsyncioServer
    from tercel.shared.connection import HttpProtocolMixin
    from tercel.shared.errors import ApplicationFailed, ConfigurationError, ServerError
    from tercel.shared.events import trigger_events
    from tercel.shared.goodbye import get_goodbye
    from tercel.shared.loop import try_use_uvloop, try_windows_loop
    from tercel.shared.settings import Settings
    from tercel.shared.signals import Signal
    from tercel.shared.sockets import (
        bind_socket,
        bind_unix_socket,
        configure_socket,
        remove_unix_socket,
    )
    from tercel.shared.websocket.connection import WebSocketConnection
    from tercel.shared.websocket.frame import WebsocketFrameAssembler
    from tercel.shared.websocket.impl import WebsocketImplProtocol
except ModuleNotFoundError as error:
    # Reported by the user of a name: the command line reports it in one line.
    if missing_package(error) is None:
        raise
    _missing = error

if TYPE_CHECKING:
    from tercel.quic.driver import ConnectionProtocol
    from tercel.quic.endpoint import QuicEndpoint
    from tercel.quic.http3.protocol import Http3Protocol

__all__ = [
    "HTTP",
    "ApplicationFailed",
    "AsyncioServer",
    "ConfigurationError",
    "ConnectionProtocol",
    "Http3Protocol",
    "HttpProtocol",
    "HttpProtocolMixin",
    "QuicEndpoint",
    "SanicProtocol",
    "Server",
    "ServerError",
    "Settings",
    "Signal",
    "WebSocketConnection",
    "WebSocketProtocol",
    "WebsocketFrameAssembler",
    "WebsocketImplProtocol",
    "__version__",
    "bind_socket",
    "bind_unix_socket",
    "configure_socket",
    "get_goodbye",
    "install_sanic",
    "remove_unix_socket",
    "run",
    "serve",
    "trigger_events",
    "try_use_uvloop",
    "try_windows_loop",
]

# They need aioquic, and version=1 must work without it.
_LAZY = {
    "ConnectionProtocol": "tercel.quic.driver",
    "Http3Protocol": "tercel.quic.http3.protocol",
    "QuicEndpoint": "tercel.quic.endpoint",
}


def __getattr__(name: str) -> Any:
    if _missing is not None and name in __all__:
        raise ImportError(advice(str(missing_package(_missing))), name=_missing.name) from _missing
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
