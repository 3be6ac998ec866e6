"""serve(): composes a server from settings.

The only place that knows which listeners a server needs. `serve` and the command line both come
through `compose`.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from socket import socket as Socket
from typing import TYPE_CHECKING, Any

from tercel.binding import Binding, Plan, bind, plan_for, preferred_addresses, unix_access
from tercel.h1.acceptor import TcpAcceptor
from tercel.h1.protocol import HttpProtocol
from tercel.identity import Identity, resolve_identity
from tercel.quic.transport.tokens import read_key_ring
from tercel.server import AsyncioServer, Lifecycle
from tercel.shared.apps.failures import running_place
from tercel.shared.apps.loader import wrap
from tercel.shared.connection import ServerContext
from tercel.shared.errors import ConfigurationError, ServerError
from tercel.shared.events import Event
from tercel.shared.limits import Limits
from tercel.shared.listener import Listener
from tercel.shared.logs import logger
from tercel.shared.loop import complete, loop_factory, run
from tercel.shared.memory import MemoryWatch
from tercel.shared.messages import Field, is_field_value
from tercel.shared.private_files import append_private, is_private
from tercel.shared.process import prepare_process
from tercel.shared.requirements import missing_package, unfit_aioquic
from tercel.shared.response_fields import ResponseFields, parse_added_field
from tercel.shared.settings import Settings
from tercel.shared.signals import Signal, require_main_thread
from tercel.shared.sockets import HostPort, parse_host_port
from tercel.shared.stream import Application
from tercel.shared.tasks import TaskSet
from tercel.shared.watchdog import LoopWatchdog

if TYPE_CHECKING:
    from tercel.quic.endpoint import QuicEndpoint

log = logger("tercel.server")

_ALT_SVC_SECONDS = 86_400
# Stands for a new one: a flag shared by all calls would stay up after the first server's stop.
_NO_SIGNAL = Signal()
_DEFAULT_ADDRESS = parse_host_port(Settings().bind[0])

Events = Event | Iterable[Event] | None


class HTTP(IntEnum):
    """The highest HTTP version of a server."""

    VERSION_1 = 1
    VERSION_3 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What a program can give beside the Settings: objects, not text."""

    ssl: object = None
    protocol: type[asyncio.Protocol] = HttpProtocol
    protocol_arguments: Mapping[str, Any] = field(default_factory=dict)
    connections: set[Any] = field(default_factory=set)
    signal: Signal = field(default_factory=Signal)
    state: dict[str, Any] | None = None
    server_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Those of the loop's `create_server`; `start_serving` holds for UDP, too."""
    server_class: type[AsyncioServer] = AsyncioServer
    before_start: Sequence[Event] = ()
    after_start: Sequence[Event] = ()
    before_stop: Sequence[Event] = ()
    after_stop: Sequence[Event] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A server that is ready to start, and its parts."""

    server: AsyncioServer
    settings: Settings
    bindings: Sequence[Binding]
    identity: Identity | None


def serve(
    host: str | None,
    port: int | None,
    app: Any,
    ssl: Any = None,
    sock: Socket | None = None,
    unix: str | None = None,
    reuse_port: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    protocol: type[asyncio.Protocol] = HttpProtocol,
    backlog: int = 100,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
    run_async: bool = False,
    connections: set[Any] | None = None,
    signal: Signal = _NO_SIGNAL,
    state: dict[str, Any] | None = None,
    asyncio_server_kwargs: Mapping[str, Any] | None = None,
    version: int = HTTP.VERSION_1,
    *,
    fallback: bool = True,
    settings: Settings | None = None,
    before_start: Events = None,
    after_start: Events = None,
    before_stop: Events = None,
    after_stop: Events = None,
) -> AsyncioServer | None:
    """Serve `app`, an ASGI 3 or Sanic application, on `host` and `port` until it is stopped.

    With `run_async` return an AsyncioServer instead, for the caller to await and to close; it
    takes no signals. Otherwise SIGINT, SIGTERM and SIGHUP stop it gracefully
    (`register_sys_signals`, main thread only), and `loop` is run, or a new one of the
    settings' kind.

    `version` 1 is HTTP/1.1 on TCP: over TLS with `ssl`, or a certificate in `settings`, else
    cleartext. `version` 3 is HTTP/3 on UDP and, unless `fallback` is False, HTTP/1.1 over TLS on
    TCP at the same port number; without `ssl` a loopback host gets the development certificate.
    `ssl` is a dict with cert, key and password, a directory, an SSLContext that can be traced to
    files (with version 1 any), or a list of them, chosen by server name on TCP.

    `unix` is a path to listen at instead of `host` and `port`, with the access that `settings` say,
    by default the umask's; `sock` is a bound socket; the server closes it. Port 0 is any free one,
    and an empty `host` is all interfaces. `protocol` is the class for TCP connections;
    `connections` is kept filled with the open ones, `signal.stopped` tells them when the server
    stops, `state` is theirs to share. `reuse_port` lets several processes share the port; in each
    of them `run_multiple` leaves SIGINT to the parent. `asyncio_server_kwargs` go to the loop's
    `create_server`. With `start_serving` False among them `await server` accepts no connections
    yet: `server.start_serving()` and `server.serve_forever()` do.

    `settings` has everything else, limits and time-outs for example; its bind, plain_bind, unix,
    http, fallback and backlog are replaced by the arguments here. `before_start`, `after_start`,
    `before_stop` and `after_stop` are callbacks, one or several, plain or async, that take the
    app and the loop.

    Raises ServerError when version 3 is asked for and aioquic is missing, or the application
    refuses to start, and ConfigurationError, before any socket is open, for an argument that is
    wrong.
    """
    chosen = chosen_settings(settings, version, fallback=fallback, backlog=backlog)
    plan = plan_of(host, port, chosen, ssl, sock, unix, reuse_port)
    extras = Extras(
        ssl=ssl,
        protocol=protocol,
        connections=set() if connections is None else connections,
        signal=Signal() if signal is _NO_SIGNAL else signal,
        state=state,
        server_arguments=asyncio_server_kwargs or {},
        before_start=_events(before_start),
        after_start=_events(after_start),
        before_stop=_events(before_stop),
        after_stop=_events(after_stop),
    )
    if run_async:
        return compose(app, chosen, plan, extras, loop=loop or _running_loop()).server
    prepare_process()
    main = serve_composed(
        app,
        chosen,
        plan,
        extras,
        register_sys_signals=register_sys_signals,
        run_multiple=run_multiple,
    )
    if loop is None:
        run(main, chosen.loop)
    else:
        complete(main, loop.run_until_complete)
    return None


async def serve_composed(
    app: Any,
    settings: Settings,
    plan: Plan | None = None,
    extras: Extras | None = None,
    *,
    register_sys_signals: bool = True,
    run_multiple: bool = False,
    announce: Callable[[Composition], None] | None = None,
) -> None:
    """Compose a server and run it in the foreground until it is stopped.

    `announce` is called when it serves.
    """
    if register_sys_signals:
        require_main_thread()
    extras = extras or Extras()
    if announce is not None:
        extras = replace(extras, after_start=(*extras.after_start, lambda: announce(composition)))
    composition = compose(app, settings, plan, extras, loop=asyncio.get_running_loop())
    await composition.server.run(
        register_sys_signals=register_sys_signals, run_multiple=run_multiple
    )
    log.info("stopped")


def compose(
    app: Any,
    settings: Settings,
    plan: Plan | None = None,
    extras: Extras | None = None,
    *,
    loop: asyncio.AbstractEventLoop,
) -> Composition:
    """Check everything, then bind all sockets; the result is ready to start.

    `plan` says what to bind in place of what the settings do. Raises ServerError; then no socket
    is open.
    """
    plan = plan or plan_for(settings)
    extras = extras or Extras()
    tasks, background = TaskSet(loop), TaskSet(loop)
    application = wrap(app, settings=settings, tasks=tasks, background=background)
    settings = application.configure(settings)
    identity = None
    if plan.has_tls:
        identity = resolve_identity(
            extras.ssl, settings, plan.secure_addresses, http3=plan.has_quic
        )
        for warning in identity.warnings():
            log.warning("%s", warning)
    _check_settings(settings)
    added_fields = tuple(map(parse_added_field, settings.header))
    endpoint = _quic_endpoint(identity) if plan.has_quic else None
    bindings = bind(plan)
    limits = Limits(settings, calls=tasks)
    parts = _Parts(
        app=app,
        loop=loop,
        settings=settings,
        application=application,
        extras=extras,
        identity=identity,
        bindings=bindings,
        endpoint=endpoint,
        added_fields=added_fields,
        tasks=tasks,
        background=background,
        limits=limits,
        memory=MemoryWatch(loop, limits),
        watchdog=LoopWatchdog(loop, limit=settings.blocked_loop_timeout, place=running_place),
    )
    server = extras.server_class(
        app, loop, parts.listeners(), extras.connections, lifecycle=parts.lifecycle()
    )
    return Composition(server=server, settings=settings, bindings=bindings, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts that listeners are composed of."""

    app: Any
    loop: asyncio.AbstractEventLoop
    settings: Settings
    application: Application
    extras: Extras
    identity: Identity | None
    bindings: Sequence[Binding]
    endpoint: "type[QuicEndpoint] | None"
    added_fields: Sequence[Field]
    tasks: TaskSet
    """The application's calls, of all listeners."""
    background: TaskSet
    """The application's background tasks."""
    limits: Limits
    memory: MemoryWatch
    watchdog: LoopWatchdog

    async def listeners(self) -> list[Listener]:
        """One for all UDP sockets, and one for the TCP sockets of each binding."""
        self.memory.begin()
        self.watchdog.begin()
        made: list[Listener] = []
        udp = [sock for item in self.bindings if not item.preferred for sock in item.sockets.udp]
        preferred = [sock for item in self.bindings if item.preferred for sock in item.sockets.udp]
        if self.endpoint is not None and self.identity is not None:
            made.append(
                self.endpoint(
                    self._context(None), udp, self.identity.credentials, preferred=preferred
                )
            )
        made += [self._acceptor(binding) for binding in self.bindings if binding.sockets.tcp]
        return made

    def lifecycle(self) -> Lifecycle:
        """The steps that run when the listeners start and stop."""
        return Lifecycle(
            application=self.application,
            calls=self.tasks,
            tasks=(self.background,),
            start_serving=bool(self.extras.server_arguments.get("start_serving", True)),
            graceful_timeout=self.settings.graceful_timeout,
            before_start=(self.application.before_start, *self.extras.before_start),
            after_start=(self.application.after_start, *self.extras.after_start),
            before_stop=(self.application.before_stop, *self.extras.before_stop),
            after_stop=self.extras.after_stop,
            signal=self.extras.signal,
            release=self._release,
        )

    def _acceptor(self, binding: Binding) -> TcpAcceptor:
        # A context for each: Alt-Svc names the port of the very binding, or the one that clients
        # reach it by.
        alt_svc = None
        if binding.alternative:
            port = self.settings.advertise_port or binding.sockets.port
            alt_svc = b'h3=":%d"; ma=%d' % (port, _ALT_SVC_SECONDS)
        return TcpAcceptor(
            self._context(alt_svc),
            sockets=binding.sockets.tcp,
            ssl=self.identity.context if binding.secure and self.identity is not None else None,
            protocol=self.extras.protocol,
            protocol_arguments=self.extras.protocol_arguments,
            app=self.app,
            signal=self.extras.signal,
            connections=self.extras.connections,
            state=self.extras.state,
            # The server decides when a listener starts; once it does, that is to accept.
            asyncio_server_kwargs={
                name: value
                for name, value in self.extras.server_arguments.items()
                if name != "start_serving"
            },
        )

    def _context(self, alt_svc: bytes | None) -> ServerContext:
        response_fields = ResponseFields(
            server=self.settings.server_name.encode() or None,
            alt_svc=alt_svc,
            date=self.settings.date_header,
            added=self.added_fields,
        )
        return ServerContext(
            loop=self.loop,
            settings=self.settings,
            application=self.application,
            response_fields=response_fields,
            tasks=self.tasks,
            limits=self.limits,
        )

    def _release(self) -> None:
        self.memory.end()
        self.watchdog.end()
        for binding in self.bindings:
            binding.release()


def chosen_settings(
    settings: Settings | None, version: int, *, fallback: bool, backlog: int
) -> Settings:
    """`settings` with the arguments of `serve` in their places."""
    if version not in tuple(HTTP):
        raise ConfigurationError(f"version is 1 or 3, not {version!r}")
    return replace(
        settings or Settings(),
        bind=(),
        plain_bind=(),
        unix=None,
        http=str(int(version)),
        fallback=fallback,
        backlog=backlog,
    )


def plan_of(
    host: str | None,
    port: int | None,
    settings: Settings,
    ssl: object,
    sock: Socket | None,
    unix: str | None,
    reuse_port: bool,
) -> Plan:
    """What the arguments of `serve` ask to be bound. Raises ConfigurationError."""
    http3 = settings.http == "3"
    secure = http3 or ssl is not None or settings.cert is not None
    if unix and sock is not None:
        raise ConfigurationError("unix and sock exclude each other: give one of them")
    if unix and http3:
        raise ConfigurationError("HTTP/3 needs UDP, which a unix socket is not: give version=1")
    place: tuple[HostPort, ...] = ()
    if not unix and sock is None:
        place = (
            HostPort(
                _DEFAULT_ADDRESS.host if host is None else host,
                _DEFAULT_ADDRESS.port if port is None else port,
            ),
        )
    return Plan(
        secure=place if secure else (),
        plain=() if secure else place,
        unix=unix,
        unix_access=unix_access(settings),
        unix_secure=bool(unix) and secure,
        sock=sock,
        sock_secure=sock is not None and secure,
        http3=http3,
        fallback=settings.fallback,
        backlog=settings.backlog,
        reuse_port=reuse_port,
        preferred=preferred_addresses(settings),
    )


def _events(events: Events) -> tuple[Event, ...]:
    if events is None:
        return ()
    return (events,) if callable(events) else tuple(events)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise ConfigurationError(
            "run_async needs a loop: call serve inside a running one, or give loop"
        ) from error


def _check_settings(settings: Settings) -> None:
    """Check for settings that would fail only later, or once per connection."""
    loop_factory(settings.loop)
    name = settings.server_name
    if not (name.isascii() and is_field_value(name.encode())):
        raise ConfigurationError("--server-name is plain ASCII text: leave other characters out")
    if settings.qlog_dir is not None and not (
        os.path.isdir(settings.qlog_dir) and os.access(settings.qlog_dir, os.W_OK | os.X_OK)
    ):
        raise ConfigurationError(
            f"--qlog-dir {settings.qlog_dir} is no directory that can be written to: create it, "
            "or name another"
        )
    if settings.token_key is not None:
        read_key_ring(settings.token_key)
    if settings.keylog_file is not None:
        try:
            with append_private(settings.keylog_file) as file:
                if not is_private(file):
                    log.warning(
                        "--keylog-file %s may be read by others: chmod 600", settings.keylog_file
                    )
        except OSError as error:
            raise ConfigurationError(
                f"--keylog-file {settings.keylog_file} cannot be written "
                f"({error.strerror or error}): name a file in a writable directory"
            ) from error


def _quic_endpoint(identity: Identity | None) -> "type[QuicEndpoint]":
    # Only here: version=1 works without aioquic.
    try:
        from tercel.quic.compatibility import check_aioquic
        from tercel.quic.endpoint import QuicEndpoint
    except ImportError as error:
        package = missing_package(error)
        if package is None and (error.name or "").partition(".")[0] == "aioquic":
            raise unfit_aioquic(error) from error  # it lacks a name that is imported from it
        if package not in ("aioquic", "pylsqpack"):
            raise
        raise ServerError(
            "cannot serve HTTP/3 without aioquic: pip install aioquic, or serve HTTP/1.1 alone by "
            "--http 1 (version=1 in a program)"
        ) from error
    if identity is not None:
        check_aioquic(identity.credentials[0])
    return QuicEndpoint
