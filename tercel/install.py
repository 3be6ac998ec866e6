"""install_sanic(): makes Sanic's own ways to start a server use tercel.

Knows which names Sanic binds where. The adapter of an application is
`tercel.shared.apps.sanic`'s; here it is only started in Sanic's way: `app.run`, `Sanic.serve` with
its worker processes, `create_server` and `single_process`.
"""

import asyncio
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from tercel.h1.base import SanicProtocol
from tercel.h1.protocol import HttpProtocol
from tercel.h1.websocket import WebSocketProtocol
from tercel.serve import HTTP, Extras, chosen_settings, compose, plan_of
from tercel.server import AsyncioServer, Lifecycle
from tercel.shared.connection import HttpProtocolMixin
from tercel.shared.errors import ConfigurationError
from tercel.shared.events import trigger_events
from tercel.shared.goodbye import get_goodbye
from tercel.shared.logs import logger
from tercel.shared.loop import complete, forget_stop, try_use_uvloop, try_windows_loop
from tercel.shared.settings import Settings
from tercel.shared.signals import Signal, StopSignals
from tercel.shared.sockets import (
    bind_socket,
    bind_unix_socket,
    configure_socket,
    remove_unix_socket,
)
from tercel.shared.websocket.connection import WebSocketConnection
from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.impl import WebsocketImplProtocol

log = logger("tercel.server")

RELEASES = ("25.12",)

# Where Sanic defines the replaced objects, and starts its servers: both modules must exist.
_STARTUP = "sanic.mixins.startup"
_WORKER = "sanic.worker.serve"
_RUNNERS = "sanic.server.runners"

# Modules that import one of those names; found again by the object they hold.
_USERS = (
    "sanic",
    "sanic.application.state",
    "sanic.asgi",
    "sanic.models.asgi",
    "sanic.server",
    "sanic.worker.reloader",
    _STARTUP,
    _WORKER,
)

_replaced: dict[int, tuple[Any, Any]] = {}
"""By the identity of Sanic's object: that object and tercel's replacement."""


def install_sanic() -> None:
    """Let every way to start a Sanic application use tercel's server.

    Call it before the application's server is started, and before other modules import names of
    `sanic.server`. A second call changes nothing. Raises ConfigurationError, and changes nothing,
    when Sanic is missing or is a release that this does not know.
    """
    if _replaced:
        return
    originals = dict(_originals(_replacements()))
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in originals and originals[id(value)][0] is value:
                setattr(module, name, originals[id(value)][1])
    _replaced.update(originals)


class SanicServer(AsyncioServer):
    """A server of `create_server`: awaiting it listens, the application's events are triggered
    one by one, each call anew, as Sanic's own does.
    """

    def __init__(
        self,
        app: Any,
        loop: asyncio.AbstractEventLoop,
        serve_coro: Any,
        connections: set[Any],
        *,
        lifecycle: Lifecycle | None = None,
    ) -> None:
        given = lifecycle or Lifecycle()
        listening = Lifecycle(
            calls=given.calls,
            tasks=given.tasks,
            start_serving=given.start_serving,
            graceful_timeout=given.graceful_timeout,
            signal=given.signal,
            release=given.release,
        )
        super().__init__(app, loop, serve_coro, connections, lifecycle=listening)
        self._began = False

    async def startup(self) -> None:
        """Start the application."""
        await self.app._startup()

    async def before_start(self) -> None:
        """Run the before_server_start listeners."""
        await self._event("init", "before")

    async def start_serving(self) -> None:
        """Accept connections."""
        self._check_started()
        await super().start_serving()

    async def after_start(self) -> None:
        """Run the after_server_start listeners."""
        await self._event("init", "after")

    async def serve_forever(self) -> None:
        """Return when the server has stopped."""
        self._check_started()
        await super().after_start()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            raise

    def before_stop(self) -> Awaitable[None]:
        """Run the before_server_stop listeners."""
        forget_stop(self.loop)
        return self._event("shutdown", "before")

    def after_stop(self) -> Awaitable[None]:
        """Run the after_server_stop listeners."""
        forget_stop(self.loop)
        return self._event("shutdown", "after")

    async def _event(self, concern: str, action: str) -> None:
        if not self.app.state.is_started:
            raise _sanic_exception(
                "Cannot dispatch server event without first running await server.startup()"
            )
        if concern == "init":
            self._began = True
        elif self.app.state.server_info and not self._began:
            return  # a second server of one application: the first one's start and stop are both's
        await self.app._server_event(concern, action, loop=self.loop)

    def _check_started(self) -> None:
        if not self.app.state.is_started:
            raise _sanic_exception(
                "Cannot run Sanic server without first running await server.startup()"
            )


# -- what Sanic calls ----------------------------------------------------------------------------


def serve(
    host: Any,
    port: Any,
    app: Any,
    ssl: Any = None,
    sock: Any = None,
    unix: Any = None,
    reuse_port: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    protocol: Any = HttpProtocol,
    backlog: int = 100,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
    run_async: bool = False,
    connections: set[Any] | None = None,
    signal: Any = None,
    state: dict[str, Any] | None = None,
    asyncio_server_kwargs: Mapping[str, Any] | None = None,
    version: Any = HTTP.VERSION_1,
) -> AsyncioServer | None:
    """Serve a Sanic application that Sanic has prepared. See `tercel.serve`.

    With `run_async` the result is a `SanicServer`.
    """
    if loop is None:
        loop = asyncio.get_running_loop() if run_async else asyncio.new_event_loop()
    app.asgi = False
    if app.debug:
        loop.set_debug(True)
    importlib.import_module("sanic.application.ext").setup_ext(app)
    http3, pid = int(version) == 3, os.getpid()
    chosen = chosen_settings(
        # The mode that Sanic's own server gives a unix socket.
        Settings(access_log=False, unix_mode="666"),
        int(version),
        # Sanic serves no TCP with version 3; its other servers may have the port there.
        fallback=http3 and len(_prepared()) <= 1,
        backlog=backlog,
    )
    unix = None if unix is None else os.fspath(unix)
    plan = plan_of(
        None if sock else host,
        None if sock else port,
        chosen,
        ssl,
        sock,
        None if sock else unix,
        reuse_port,
    )
    extras = Extras(
        ssl=ssl,
        protocol=_ours(protocol),
        protocol_arguments=_websocket_options(protocol, app.config),
        connections=set() if connections is None else connections,
        signal=Signal() if signal is None else signal,
        state=state,
        server_arguments=asyncio_server_kwargs or {},
        server_class=SanicServer if run_async else AsyncioServer,
        after_start=[] if run_async else [lambda: _worker_log().info("Worker ready [%s]", pid)],
        before_stop=[] if run_async else [lambda: _worker_log().info("Stopping worker [%s]", pid)],
    )
    server = compose(app, chosen, plan, extras, loop=loop).server
    if run_async:
        return server
    _run_worker(server, loop, register_sys_signals=register_sys_signals)
    return None


def serve_http_1(
    host: Any,
    port: Any,
    app: Any,
    ssl: Any,
    sock: Any,
    unix: Any,
    reuse_port: bool,
    loop: Any,
    protocol: Any,
    backlog: int,
    register_sys_signals: bool,
    run_multiple: bool,
    run_async: bool,
    connections: Any,
    signal: Any,
    state: Any,
    asyncio_server_kwargs: Any,
) -> AsyncioServer | None:
    """What a worker process calls for version 1."""
    return serve(
        host,
        port,
        app,
        ssl,
        sock,
        unix,
        reuse_port,
        loop,
        protocol,
        backlog,
        register_sys_signals,
        run_multiple,
        run_async,
        connections,
        signal,
        state,
        asyncio_server_kwargs,
    )


def serve_http_3(
    host: Any,
    port: Any,
    app: Any,
    loop: Any,
    ssl: Any,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
) -> None:
    """What a worker process calls for version 3."""
    serve(
        host,
        port,
        app,
        ssl,
        loop=loop,
        register_sys_signals=register_sys_signals,
        run_multiple=run_multiple,
        version=HTTP.VERSION_3,
    )


def worker_serve(*args: Any, **kwargs: Any) -> Any:
    """The main function of a worker process, which knows nothing yet of `install_sanic`."""
    install_sanic()
    sanics_own = next(theirs for theirs, ours in _replaced.values() if ours is worker_serve)
    return sanics_own(*args, **kwargs)


def _run_worker(
    server: AsyncioServer, loop: asyncio.AbstractEventLoop, *, register_sys_signals: bool
) -> None:
    """Serve in the foreground; `app.stop` and signals end it. Closes `loop`."""
    worker_log, pid = _worker_log(), os.getpid()

    async def main() -> None:
        # Ctrl-C reaches this process from the terminal and from its manager: one stop for both.
        def stop(_: object) -> None:
            server.close()

        signals = StopSignals(loop, stop)
        with signals if register_sys_signals else nullcontext():
            await server.serve_forever()

    os.environ["SANIC_WORKER_PROCESS"] = "true"
    worker_log.info("Starting worker [%s]", pid)
    asyncio.set_event_loop(loop)
    try:
        complete(main(), loop.run_until_complete)
    finally:
        loop.close()
        worker_log.info("Worker complete [%s]", pid)


# -- what is replaced ----------------------------------------------------------------------------


def _replacements() -> dict[tuple[str, str], Any]:
    """tercel's objects by module and name of Sanic's own."""
    protocols = "sanic.server.protocols"
    replacements: dict[tuple[str, str], Any] = {
        ("sanic.server.async_server", "AsyncioServer"): AsyncioServer,
        ("sanic.server.events", "trigger_events"): trigger_events,
        ("sanic.server.goodbye", "get_goodbye"): get_goodbye,
        ("sanic.server.loop", "try_use_uvloop"): try_use_uvloop,
        ("sanic.server.loop", "try_windows_loop"): try_windows_loop,
        (f"{protocols}.base_protocol", "SanicProtocol"): SanicProtocol,
        (f"{protocols}.http_protocol", "HttpProtocol"): HttpProtocol,
        (f"{protocols}.http_protocol", "HttpProtocolMixin"): HttpProtocolMixin,
        (f"{protocols}.websocket_protocol", "WebSocketProtocol"): WebSocketProtocol,
        (_RUNNERS, "serve"): serve,
        (_RUNNERS, "_serve_http_1"): serve_http_1,
        (_RUNNERS, "_serve_http_3"): serve_http_3,
        ("sanic.server.socket", "bind_socket"): bind_socket,
        ("sanic.server.socket", "bind_unix_socket"): bind_unix_socket,
        ("sanic.server.socket", "configure_socket"): configure_socket,
        ("sanic.server.socket", "remove_unix_socket"): remove_unix_socket,
        ("sanic.server.websockets.connection", "WebSocketConnection"): WebSocketConnection,
        ("sanic.server.websockets.frame", "WebsocketFrameAssembler"): WebsocketFrameAssembler,
        ("sanic.server.websockets.impl", "WebsocketImplProtocol"): WebsocketImplProtocol,
        (_WORKER, "worker_serve"): worker_serve,
    }
    try:
        driver = importlib.import_module("tercel.quic.driver")
        protocol = importlib.import_module("tercel.quic.http3.protocol")
    except ImportError:
        return replacements  # without aioquic there is no version 3
    replacements[f"{protocols}.http_protocol", "Http3Protocol"] = protocol.Http3Protocol
    replacements[f"{protocols}.http_protocol", "ConnectionProtocol"] = driver.ConnectionProtocol
    return replacements


def _originals(replacements: dict[tuple[str, str], Any]) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Sanic's objects and what replaces each. Raises ConfigurationError for an unknown Sanic."""
    release = _release()
    missing = []
    for (module_name, name), ours in replacements.items():
        try:
            original = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError):
            missing.append(f"{module_name}.{name}")
            continue
        if inspect.isfunction(original) and not _accepts(ours, original):
            missing.append(f"{module_name}.{name} as it was")
        yield id(original), (original, ours)
    if missing:
        raise ConfigurationError(
            f"install_sanic: Sanic {release} has no {', '.join(missing)}: "
            f"install sanic~={RELEASES[-1]}.0"
        )


def _release() -> str:
    try:
        release = str(importlib.import_module("sanic").__version__)
    except ImportError as error:
        raise ConfigurationError(
            "install_sanic: Sanic is not installed: pip install 'tercel[sanic]'"
        ) from error
    if not any(release == known or release.startswith(f"{known}.") for known in RELEASES):
        raise ConfigurationError(
            f"install_sanic: Sanic {release} is not known, only {', '.join(RELEASES)}: "
            f"install sanic~={RELEASES[-1]}.0"
        )
    return release


def _accepts(ours: Any, original: Any) -> bool:
    """Whether calls of `original` are calls that `ours` takes."""
    known = inspect.signature(ours).parameters
    if any(item.kind is item.VAR_KEYWORD for item in known.values()):
        return True
    return set(inspect.signature(original).parameters) <= set(known)


def _modules() -> Sequence[Any]:
    for name in _USERS:
        importlib.import_module(name)
    # The module that a worker process starts with keeps its own main function.
    return [
        module
        for name, module in list(sys.modules.items())
        if module is not None and (name == "sanic" or name.startswith("sanic."))
    ]


def _ours(protocol: Any) -> Any:
    """tercel's class for a Sanic class that was imported before the replacement."""
    return _replaced.get(id(protocol), (protocol, protocol))[1]


def _websocket_options(protocol: Any, config: Any) -> dict[str, Any]:
    """The additional arguments of a protocol with WebSockets, as Sanic passes them."""
    if not hasattr(protocol, "websocket_handshake"):
        return {}
    return {
        "websocket_max_size": config.WEBSOCKET_MAX_SIZE,
        "websocket_ping_interval": config.WEBSOCKET_PING_INTERVAL,
        "websocket_ping_timeout": config.WEBSOCKET_PING_TIMEOUT,
    }


def _prepared() -> list[Any]:
    """The servers that Sanic has prepared in this program."""
    applications = importlib.import_module("sanic").Sanic._app_registry.values()
    return [info for app in applications for info in app.state.server_info]


def _worker_log() -> logging.Logger:
    server_log: logging.Logger = importlib.import_module("sanic.log").server_logger
    return server_log


def _sanic_exception(message: str) -> Exception:
    error: Exception = importlib.import_module("sanic.exceptions").SanicException(message)
    return error
