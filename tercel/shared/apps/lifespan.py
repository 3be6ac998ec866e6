"""The ASGI lifespan: starts an application before the first request, stops it after the last.

Knows neither requests nor connections.
"""

import asyncio
from inspect import isawaitable
from typing import Any

from tercel.shared.apps.asgi_types import AsgiCallable, Message
from tercel.shared.apps.failures import failure, report
from tercel.shared.errors import ApplicationFailed, LocalProtocolError, ServerError
from tercel.shared.logs import logger
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet

log = logger("tercel.asgi")

# Seconds for an application to end after it said that its shutdown is complete, or was cancelled.
_LINGER = 1.0


class Lifespan:
    """One run of the `lifespan` scope.

    `startup` and `shutdown` are called once each, on the same loop, in this order.
    """

    def __init__(self, app: AsgiCallable, *, settings: Settings) -> None:
        self._app = app
        self._mode = settings.lifespan
        self._timeout = settings.lifespan_timeout
        self._tasks: TaskSet | None = None
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._expected: str | None = None
        """Prefix of the messages that the application may send now."""
        self._received = False
        """Whether the application has taken an event."""
        self._state: dict[str, Any] = {}
        self.supported = False
        """Whether the application said that its startup is complete."""

    @property
    def state(self) -> dict[str, Any] | None:
        """The lifespan state, copied to each request; None when the application has no lifespan."""
        return self._state if self.supported else None

    async def startup(self) -> None:
        """Wait until the application has started.

        Raises ApplicationFailed when startup fails or, with lifespan "on", when the application
        does not support the lifespan. Raises ServerError when it does not answer in
        `lifespan_timeout`.
        """
        if self._mode == "off":
            return
        # A separate set: the requests' tasks are awaited, and cancelled, while the lifespan
        # still runs.
        self._tasks = TaskSet(asyncio.get_running_loop())
        self._task = task = self._tasks.spawn(self._run(), name="asgi lifespan")
        try:
            answer = await self._ask("lifespan.startup")
        except asyncio.CancelledError:
            task.cancel()
            raise
        if answer is None:
            await _end(task)
            raise ServerError(
                f"the application did not start within {self._timeout:g} seconds "
                "(--lifespan-timeout); --lifespan off starts without asking it"
            )
        kind = answer["type"]
        if kind == "lifespan.startup.complete":
            self.supported = True
            return
        if kind == "lifespan.startup.failed":
            # Most applications then raise the exception that made them fail.
            error = await self._last_error()
            await _end(task)
            raise _start_failure(answer, error) from error
        await _end(task)
        self._went_without(answer["error"])

    async def shutdown(self) -> None:
        """Wait until the application has stopped, `lifespan_timeout` at most. Never raises."""
        task = self._task
        if task is None or not self.supported:
            return
        if not task.done():
            answer = await self._ask("lifespan.shutdown")
            if answer is None:
                log.error("the application did not stop within %g seconds", self._timeout)
            elif answer["type"] == "lifespan.shutdown.failed":
                reason = answer.get("message") or "it does not say why"
                log.error("the application failed to stop: %s", reason)
            else:
                await asyncio.wait([task], timeout=_LINGER)
        await _end(task)

    # -- the application's side -------------------------------------------------------------

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        error: Exception | None = None
        try:
            await _awaitable(self._app(scope, self._receive, self._send))
        except Exception as raised:
            error = raised
            # Before startup.complete it may only mean that there is no lifespan.
            if self.supported:
                log.error("the application's lifespan failed", exc_info=raised)
        finally:
            self._answers.put_nowait({"type": "ended", "error": error})

    async def _receive(self) -> Message:
        event = await self._events.get()
        self._received = True
        return event

    async def _send(self, message: Message) -> None:
        kind = message.get("type")
        expected = self._expected
        if expected is None or kind not in (f"{expected}.complete", f"{expected}.failed"):
            raise LocalProtocolError(f"{kind!r} is not what the lifespan waits for")
        self._expected = None
        self._answers.put_nowait(message)

    # -- the server's side ------------------------------------------------------------------

    async def _ask(self, event: str) -> Message | None:
        """Send `event`; return the answer, or None when there was none in time."""
        self._expected = event
        self._events.put_nowait({"type": event})
        try:
            return await asyncio.wait_for(self._answers.get(), self._timeout)
        except TimeoutError:
            return None

    async def _last_error(self) -> Exception | None:
        """The exception that the application raises after its answer, if it ends soon."""
        try:
            ended = await asyncio.wait_for(self._answers.get(), _LINGER)
        except TimeoutError:
            return None
        error: Exception | None = ended["error"]
        return error

    def _went_without(self, error: Exception | None) -> None:
        if isinstance(error, _NotAwaitable):
            raise ApplicationFailed(str(error))
        what = "returned" if error is None else f"raised {error!r}"
        if self._mode == "on":
            raise ApplicationFailed(
                f"the application {what} before lifespan.startup.complete; "
                "--lifespan auto starts it all the same",
                "" if error is None else report(error),
            ) from error
        if error is not None and self._received:
            # ASGI says to go on; an application that received its startup meant to have a lifespan.
            log.warning(
                "the application raised in its lifespan's startup; going on without a lifespan\n%s",
                report(error).rstrip(),
            )
            return
        log.info("the application has no lifespan (it %s); going on without", what)
        if error is not None:
            log.debug("what it raised", exc_info=error)


class _NotAwaitable(ServerError):
    """The application is not called like a coroutine function."""


def _awaitable(called: Any) -> Any:
    """The value that the application's call has returned. Raises _NotAwaitable for an invalid one.

    None is valid: a plain function that dispatches requests to others has none for the lifespan.
    """
    if called is None or isawaitable(called):
        return called
    raise _NotAwaitable(
        f"the application returned a {type(called).__name__} for the lifespan, which cannot be "
        "awaited: an ASGI application is a coroutine function, async def"
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    # An application that swallows the cancellation must not keep the server running.
    await asyncio.wait([task], timeout=_LINGER)
    if not task.done():
        log.warning("the application's lifespan does not end; going on without it")


def _start_failure(answer: Message, error: Exception | None) -> ApplicationFailed:
    message = str(answer.get("message") or "").strip()
    what = "the application failed to start"
    if error is not None and "\n" not in message:
        raised = failure(what, error)
        return ApplicationFailed(f"{what}: {message}", raised.report) if message else raised
    if error is not None:
        # Starlette's message is the whole traceback, with Starlette's frames first.
        return failure(what, error)
    if "\n" in message:
        return ApplicationFailed(f"{what}: {message.splitlines()[-1]}", message)
    return ApplicationFailed(f"{what}: {message}" if message else what)
