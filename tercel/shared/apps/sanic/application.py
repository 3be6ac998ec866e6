"""SanicApplication: serves a Sanic application on the streams of any HTTP version.

Owns the application's start and stop; a request is `handler`'s, what it reads and sends
`exchange`'s.
"""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sanic.application.constants import ServerStage
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP
from sanic.logging.setup import setup_logging

from tercel.shared.apps.failures import reported
from tercel.shared.apps.sanic.config import configured
from tercel.shared.apps.sanic.connection import SanicConnection
from tercel.shared.apps.sanic.handler import SanicHandler
from tercel.shared.apps.sanic.service import Service
from tercel.shared.apps.sanic.types import SanicApp
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.events import run_events
from tercel.shared.logs import logger
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestStream
from tercel.shared.tasks import TaskSet

log = logger("tercel.sanic")

_SECONDARY_SERVER = "RunServer"
_LINGER_SECONDS = 1.0


class SanicApplication(Application):
    """Serves `app`, a Sanic instance. Its requests run in `tasks`, each in a task of its own, and
    what its signals do for a connection in `background`.

    An application that Sanic itself has prepared keeps its own state and main process; else this
    process is both, and `main_process` listeners run here too.
    """

    def __init__(
        self, app: SanicApp, *, settings: Settings, tasks: TaskSet, background: TaskSet
    ) -> None:
        self._app = app
        self._settings = settings
        self._tasks = tasks
        self._background = background
        self._service: Service | None = None
        self._own_info: ApplicationServerInfo | None = None
        self._began = False

    def configure(self, settings: Settings) -> Settings:
        """`settings`, completed by `app.config`."""
        self._settings = configured(settings, self._app)
        return self._settings

    # -- requests ---------------------------------------------------------------------------------

    def open(self, stream: RequestStream) -> SanicHandler:
        """Start to answer the request that `stream.head` opens."""
        service = self._service or self._begin_service()
        connection = self._connection(stream.connection)
        handler = SanicHandler(stream, service, connection)
        task = self._tasks.spawn(handler.run(), name="sanic request")
        handler.exchange.task = task
        if service.signals.complete:
            connection.tasks.add(task)
            task.add_done_callback(connection.tasks.discard)
        return handler

    def connected(self, info: ConnectionInfo) -> None:
        """Dispatch http.lifecycle.begin."""
        service = self._service or self._begin_service()
        if service.signals.begin:
            connection = self._connection(info)
            connection.beginning = self._background.spawn(
                service.signals.dispatch("begin", conn_info=connection.conn_info),
                name="sanic connection",
            )

    def disconnected(self, info: ConnectionInfo) -> None:
        """Dispatch http.lifecycle.complete, after the last request's end."""
        service = self._service
        if service is not None and service.signals.complete:
            self._background.spawn(self._complete(self._connection(info)), name="sanic connection")
        if info.adapter is not None:
            info.adapter.conn_info.lost = True

    def _connection(self, info: ConnectionInfo) -> SanicConnection:
        connection: SanicConnection | None = info.adapter
        if connection is None:
            connection = info.adapter = SanicConnection(self._app, info)
        return connection

    async def _complete(self, connection: SanicConnection) -> None:
        if connection.tasks:
            await asyncio.wait(set(connection.tasks))
        if self._service is not None:
            await self._service.signals.dispatch("complete", conn_info=connection.conn_info)

    def _begin_service(self) -> Service:
        self._service = Service(self._app, self._settings)
        return self._service

    # -- start and stop -------------------------------------------------------------------------

    async def startup(self) -> None:
        """Start the application, with the listeners of its main process before if that is here."""
        app = self._app
        app.asgi = False
        if not app.state.server_info:
            self._own_info = _server_info(app, self._settings)
            app.state.server_info.append(self._own_info)
            setup_logging(app.debug, app.config.NO_COLOR, app.config.LOG_EXTRA)
            with self._starting("a main_process_start listener"):
                await self._run_main_process("main_process_start")
        try:
            with self._starting("the application's start"):
                await app._startup()
        except BaseException:
            await self._leave_main_process()
            raise

    async def before_start(self) -> None:
        """Run the before_server_start listeners."""
        self._began = True
        with self._starting("a before_server_start listener"):
            await self._server_event("init", "before")
        # Only now: these listeners may still add signals.
        self._begin_service()
        self._app.ack()
        if self._own_info is not None:
            with self._starting("a main_process_ready listener"):
                await self._run_main_process("main_process_ready")

    async def after_start(self) -> None:
        """Run the after_server_start listeners."""
        with self._starting("an after_server_start listener"):
            await self._server_event("init", "after")
        self._app.set_serving(True)

    async def before_stop(self) -> None:
        """Cancel background tasks, run the before_server_stop listeners, and stop the servers that
        this one has started.
        """
        for task in self._app.tasks:
            if task.get_name() != _SECONDARY_SERVER:
                task.cancel()
        # As with `app.stop`, their ends come before the listeners.
        await asyncio.sleep(0)
        await self._server_event("shutdown", "before")
        await _end_tasks(
            [task for task in self._app.tasks if task.get_name() == _SECONDARY_SERVER],
            self._settings.graceful_timeout + _LINGER_SECONDS,
        )

    async def shutdown(self) -> None:
        """End background tasks, then run the after_server_stop and main_process_stop listeners."""
        app = self._app
        if self._service is not None:
            self._service.timeouts.close()
        try:
            await _end_tasks(list(app.tasks), _LINGER_SECONDS)
            app.purge_tasks()
            _set_stopped(app)
            if self._began:
                await self._server_event("shutdown", "after")
        finally:
            await self._leave_main_process()

    def _starting(self, what: str) -> AbstractContextManager[None]:
        # Sanic's own ways to start, which have prepared the application, expect what was raised.
        return nullcontext() if self._own_info is None else reported(f"{what} failed")

    async def _server_event(self, concern: str, action: str) -> None:
        await self._app._server_event(concern, action, loop=asyncio.get_running_loop())

    async def _run_main_process(self, name: str) -> None:
        listeners = self._app.listeners.get(name) or ()
        await run_events(listeners, asyncio.get_running_loop(), self._app)

    async def _leave_main_process(self) -> None:
        """Put the application back to where it was before it was served."""
        app, info = self._app, self._own_info
        if info is None:
            return
        self._own_info = None
        app.state.server_info.remove(info)
        app.state.is_started = False
        app.router.reset()
        app.signal_router.reset()
        await self._run_main_process("main_process_stop")


def _server_info(app: SanicApp, settings: Settings) -> ApplicationServerInfo:
    # What Sanic's own methods look at: `app.loop` and `app.stop` ask for the stage, and
    # `app.serve_location` for the place.
    host, _, port = settings.bind[0].rpartition(":") if settings.bind else ("", "", "")
    values = {
        "app": app,
        "version": HTTP(int(settings.http)),
        "host": host,
        "port": int(port or 0),
        "ssl": app.state.ssl or bool(settings.bind) or None,
        "sock": None,
        "unix": settings.unix,
    }
    return ApplicationServerInfo(settings=values, stage=ServerStage.SERVING)


def _set_stopped(app: SanicApp) -> None:
    try:
        app.set_serving(False)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the process that manages this one has ended before


async def _end_tasks(tasks: "list[asyncio.Task[Any]]", seconds: float) -> None:
    """Cancel `tasks`, and wait until they have ended, `seconds` at most."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if pending:
        _, left = await asyncio.wait(pending, timeout=seconds)
        for task in left:
            log.warning("task %s does not end; going on without", task.get_name())
