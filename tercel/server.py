"""AsyncioServer: the order in which a server starts and stops.

Owns that order and nothing else: it knows listeners, an application and callbacks, but no
protocol, no TLS and no sockets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from inspect import iscoroutine
from signal import Signals
from types import TracebackType
from typing import Any, Self

from tercel.shared.errors import ServerError
from tercel.shared.events import Event, run_events
from tercel.shared.listener import Listener
from tercel.shared.logs import logger
from tercel.shared.loop import forget_stop
from tercel.shared.signals import HANG_UP, Signal, StopSignals
from tercel.shared.stream import Application
from tercel.shared.tasks import TaskSet

log = logger("tercel.server")

# The time that closed connections and cancelled tasks have to end. Both only have to react; those
# that do not are abandoned.
_CLOSE_SECONDS = 5.0


class Stage(IntEnum):
    """The stages of a server's life; each is reached once at most, in this order."""

    NEW = 0
    STARTED = 1
    """The application has started."""
    READY = 2
    """The before_start callbacks have run."""
    SERVING = 3
    """Connections are accepted."""
    RUNNING = 4
    """The after_start callbacks have run."""
    STOPPING = 5
    """The before_stop callbacks have run."""
    STOPPED = 6
    """Nothing is left: connections, tasks and the application have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """What starts and stops around the listeners of a server."""

    application: Application | None = None
    calls: TaskSet | None = None
    """The application's calls. One may outlive its exchange: background tasks, for example."""
    tasks: Sequence[TaskSet] = ()
    """What may still run when the connections and the calls have ended, and is cancelled then."""
    start_serving: bool = True
    """Whether `await server` accepts connections. Else it ends before that."""
    graceful_timeout: float = 15.0
    """Seconds that running exchanges, and calls of the application, have to finish."""
    before_start: Sequence[Event] = ()
    after_start: Sequence[Event] = ()
    before_stop: Sequence[Event] = ()
    after_stop: Sequence[Event] = ()
    signal: Signal = field(default_factory=Signal)
    """Is told when the server begins to stop."""
    release: Callable[[], None] = lambda: None
    """Releases the resources opened for the listeners, whether or not they ever started."""


class AsyncioServer:
    """A server whose life the caller manages. `await server` starts it, up to the step before
    `start_serving` where the lifecycle says so.

    `serve_coro` results in the listeners, which are not started yet. Each method runs the steps
    before its own that have not run; to call one twice does nothing. The order is `startup`,
    `before_start`, `start_serving`, `after_start`; then `before_stop`, `close`, `after_stop`.
    """

    def __init__(
        self,
        app: Any,
        loop: asyncio.AbstractEventLoop,
        serve_coro: Awaitable[Sequence[Listener]],
        connections: set[Any],
        *,
        lifecycle: Lifecycle | None = None,
    ) -> None:
        self.app = app
        self.loop = loop
        self.serve_coro = serve_coro
        self.connections = connections
        self.listeners: Sequence[Listener] = ()
        self._lifecycle = lifecycle or Lifecycle()
        self._stage = Stage.NEW
        self._lock = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._tasks = TaskSet(loop)
        self._current: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurried = False

    def __await__(self) -> Generator[Any, None, Self]:
        """Start, with everything that belongs to it; the result is the server itself."""
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._start(Stage.RUNNING if self._lifecycle.start_serving else Stage.READY)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def addresses(self) -> list[str]:
        """Where clients reach it, in the order of the listeners; known once it serves."""
        return [address for listener in self.listeners for address in listener.addresses]

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return any(listener.is_serving() for listener in self.listeners)

    async def startup(self) -> None:
        """Start the application. Raises ServerError when it refuses to."""
        await self._start(Stage.STARTED)

    async def before_start(self) -> None:
        """Run the before_start callbacks."""
        await self._start(Stage.READY)

    async def start_serving(self) -> None:
        """Accept connections."""
        await self._start(Stage.SERVING)

    async def after_start(self) -> None:
        """Run the after_start callbacks."""
        await self._start(Stage.RUNNING)

    async def serve_forever(self) -> None:
        """Start, and return when the server has stopped: `close` stops it, and so does a cancel."""
        try:
            try:
                await self.after_start()
            except _Interrupted:
                pass  # it is being closed already
            await self.wait_closed()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def run(self, *, register_sys_signals: bool = True, run_multiple: bool = False) -> None:
        """`serve_forever` in the foreground, where SIGINT, SIGTERM and SIGHUP stop the server.

        The first lets running exchanges finish, each further one ends what is being waited for.
        A further SIGHUP does not: a terminal that closes may send more than one.
        With `run_multiple` SIGINT is left to the parent process.
        """
        signals = StopSignals(self.loop, self._signalled, ignore_interrupt=run_multiple)
        try:
            with signals if register_sys_signals else nullcontext():
                await self.serve_forever()
        finally:
            await self.close()

    def before_stop(self) -> Awaitable[None]:
        """Run the before_stop callbacks."""
        forget_stop(self.loop)
        return self._before_stop()

    def close(self) -> asyncio.Task[None]:
        """Stop: what runs finishes within the grace period, then all ends, the application last.

        Begins at once; the task that is returned ends when the server has stopped. A start that
        is under way is given up.
        """
        forget_stop(self.loop)
        self._lifecycle.signal.stopped = True
        if self._closing is None:
            if self._stage < Stage.RUNNING:
                self.hurry()
            self._closing = self._tasks.spawn(self._stop(), name="server stop")
        return self._closing

    async def wait_closed(self) -> None:
        """Return when the server has stopped."""
        await self._stopped.wait()

    def after_stop(self) -> Awaitable[None]:
        """Run the after_stop callbacks."""
        return self.close()

    def hurry(self) -> None:
        """End the step that is being waited for now: a start, a drain, the application's stop.

        A stop that has not come to its drain yet will not wait there.
        """
        self._hurried = self._closing is not None
        if self._current is not None:
            self._current.cancel()

    def _signalled(self, number: Signals) -> None:
        if self._closing is None:
            log.info("%s: stopping; once more to stop without waiting", number.name)
            self.close()
        elif number is not HANG_UP:
            log.warning("%s: not waiting any longer", number.name)
            self.hurry()

    async def _start(self, target: Stage) -> None:
        steps: dict[Stage, Callable[[], Coroutine[Any, Any, None]]] = {
            Stage.STARTED: self._start_application,
            Stage.READY: lambda: self._run_events(self._lifecycle.before_start),
            Stage.SERVING: self._start_listeners,
            Stage.RUNNING: lambda: self._run_events(self._lifecycle.after_start),
        }
        async with self._lock:
            if self._closing is not None or self._stage > Stage.RUNNING:
                raise _Interrupted("this server has stopped: make a new one to serve again")
            for stage, step in steps.items():
                if self._stage < stage <= target:
                    try:
                        await self._step(step(), name=f"server to {stage.name}")
                    except BaseException:
                        await self._prepare_stop()
                        await self._end()
                        raise
                    self._stage = stage

    async def _start_application(self) -> None:
        if self._lifecycle.application is not None:
            await self._lifecycle.application.startup()

    async def _start_listeners(self) -> None:
        self.listeners = await self.serve_coro
        for listener in self.listeners:
            try:
                await listener.start()
            except OSError as error:
                # TCP sockets that are bound may still collide when they begin to listen.
                where = ", ".join(listener.addresses) or "its sockets"
                raise ServerError(f"cannot serve on {where}: {error.strerror or error}") from error

    async def _before_stop(self) -> None:
        async with self._lock:
            await self._prepare_stop()

    async def _stop(self) -> None:
        async with self._lock:
            if self._stage is Stage.STOPPED:
                return
            await self._prepare_stop()
            self._tell(lambda listener: listener.stop_accepting(), name="stop accepting")
            await self._settle(self._drain(), name="drain")
            await self._end()

    async def _prepare_stop(self) -> None:
        self._lifecycle.signal.stopped = True
        if self._stage in (Stage.SERVING, Stage.RUNNING):
            await self._settle(self._run_events(self._lifecycle.before_stop), name="before_stop")
            self._stage = Stage.STOPPING

    async def _drain(self) -> None:
        # One after another, yet all at the same time: every listener was told before the first
        # is waited for.
        grace = 0.0 if self._hurried else self._lifecycle.graceful_timeout
        deadline = self.loop.time() + grace
        drained = True
        for listener in self.listeners:
            drained &= await listener.drain(max(0.0, deadline - self.loop.time()))
        if not drained:
            log.warning("exchanges were still running after %g s; they are ended", grace)
        calls = self._lifecycle.calls
        if drained and calls:
            # Clients have their responses; the application's remaining work does not need them.
            self._tell(lambda listener: listener.close(), name="close")
        if calls is not None and not await calls.wait(max(0.0, deadline - self.loop.time())):
            log.warning(
                "%d calls of the application were still running after %g s; they are cancelled",
                len(calls),
                grace,
            )

    async def _end(self) -> None:
        """End everything that was started, even if a step fails."""
        stage = self._stage
        self._tell(lambda listener: listener.close(), name="close")
        await self._settle(self._wait_for_listeners(), name="connections")
        await self._settle(self._cancel_tasks(), name="tasks")
        if stage >= Stage.STARTED and self._lifecycle.application is not None:
            await self._settle(self._lifecycle.application.shutdown(), name="application")
        if stage >= Stage.SERVING:
            await self._settle(self._run_events(self._lifecycle.after_stop), name="after_stop")
        if iscoroutine(self.serve_coro):
            self.serve_coro.close()  # one that was never awaited would be warned about
        self._lifecycle.release()
        self._stage = Stage.STOPPED
        self._stopped.set()

    def _tell(self, step: Callable[[Listener], None], *, name: str) -> None:
        """Run `step` on each listener, even if it fails on another."""
        for listener in self.listeners:
            try:
                step(listener)
            except Exception:
                log.exception("stop: failed: %s", name)

    async def _wait_for_listeners(self) -> None:
        async with asyncio.timeout(_CLOSE_SECONDS):
            for listener in self.listeners:
                await listener.wait_closed()

    async def _cancel_tasks(self) -> None:
        async with asyncio.timeout(_CLOSE_SECONDS):
            calls = self._lifecycle.calls
            for tasks in (*self._lifecycle.tasks, *(() if calls is None else (calls,))):
                await tasks.cancel_all()

    async def _run_events(self, events: Sequence[Event]) -> None:
        await run_events(events, self.loop, self.app)

    async def _settle(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run a step of the stop. The next step follows even if it fails."""
        try:
            await self._step(work, name=name)
        except _Interrupted:
            log.warning("stop: did not wait for the end of: %s", name)
        except TimeoutError:
            log.warning("stop: gave up waiting for: %s", name)
        except Exception:
            log.exception("stop: failed: %s", name)

    async def _step(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Await `work` so that `hurry` can end it, which raises _Interrupted here."""
        self._current = task = self._tasks.spawn(_outcome(work), name=name)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            # What the step began is cleared away next; it must not go on meanwhile.
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._current = None
        if task.cancelled():
            raise _Interrupted(f"interrupted: {name}")
        error = task.result()
        if error is not None:
            raise error


class _Interrupted(ServerError):
    """A step was ended before its time."""


async def _outcome(work: Coroutine[Any, Any, None]) -> Exception | None:
    # The error is the result, so that it reaches the code that awaits the step. A failed task is
    # logged with its traceback, which is not useful for a wrong configuration.
    try:
        await work
    except Exception as error:
        return error
    return None
