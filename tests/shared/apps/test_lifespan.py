"""The lifespan: start, stop, and applications that do neither."""

import asyncio
import logging
import re
from typing import Any

import pytest

from tercel.shared.apps import lifespan
from tercel.shared.apps.lifespan import Lifespan
from tercel.shared.errors import ApplicationFailed, LocalProtocolError, ServerError
from tercel.shared.settings import Settings
from tests.support.asynchronous import PATIENCE_SECONDS, turns
from tests.support.fake_clock import clocktest

STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}
MOMENT = 0.01


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "_LINGER", MOMENT)


def settings(mode: str = "auto", *, timeout: float = 10.0) -> Settings:
    return Settings(lifespan=mode, lifespan_timeout=timeout)


class Recorder:
    """An application with a lifespan; remembers what it was told."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.received: list[str] = []
        self.task: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.task = asyncio.current_task()
        scope["state"]["pool"] = "pool"
        self.received.append((await receive())["type"])
        await send(STARTED)
        self.received.append((await receive())["type"])
        await send(STOPPED)


async def ignorant(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("only http here")


async def indifferent(scope: Any, receive: Any, send: Any) -> None:
    return


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    raise RuntimeError("no database")


@pytest.mark.parametrize("mode", ["auto", "on"])
@clocktest
async def test_application_is_started_and_stopped_in_one_task(mode: str) -> None:
    app = Recorder()
    run = Lifespan(app, settings=settings(mode))
    await run.startup()
    assert app.received == ["lifespan.startup"]
    assert run.state == {"pool": "pool"}
    await run.shutdown()
    assert app.received == ["lifespan.startup", "lifespan.shutdown"]
    assert app.task is not None
    assert app.task.done()
    assert not app.task.cancelled()
    assert app.scope["type"] == "lifespan"
    assert app.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}


@clocktest
async def test_lifespan_off_does_not_call_the_application() -> None:
    app = Recorder()
    run = Lifespan(app, settings=settings("off"))
    await run.startup()
    await run.shutdown()
    assert (app.received, run.state) == ([], None)


@pytest.mark.parametrize("app", [ignorant, indifferent])
@clocktest
async def test_auto_goes_on_without_a_lifespan(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tercel.asgi")
    run = Lifespan(app, settings=settings())
    await run.startup()
    await run.shutdown()
    assert run.state is None
    assert "has no lifespan" in caplog.text
    assert max(record.levelno for record in caplog.records) == logging.INFO


@pytest.mark.parametrize(
    ("app", "reason"), [(ignorant, "raised ValueError"), (indifferent, "returned before")]
)
@clocktest
async def test_on_needs_a_lifespan(app: Any, reason: str) -> None:
    with pytest.raises(ServerError, match=reason):
        await Lifespan(app, settings=settings("on")).startup()


@pytest.mark.parametrize("mode", ["auto", "on"])
@clocktest
async def test_application_that_fails_to_start_stops_the_server(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerError, match=r"^the application failed to start: no database$"):
        await Lifespan(refusing, settings=settings(mode)).startup()
    await turns()
    assert caplog.records == []


@clocktest
async def test_failure_without_a_message_is_told_all_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(ServerError, match=r"^the application failed to start$"):
        await Lifespan(app, settings=settings()).startup()


@clocktest
async def test_application_that_never_starts_is_given_up() -> None:
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ServerError, match=r"did not start within 0\.01 seconds"):
        await Lifespan(app, settings=settings(timeout=MOMENT)).startup()
    assert cancelled.is_set()


@clocktest
async def test_application_that_swallows_cancellation_does_not_hold_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                pass

    with pytest.raises(ServerError):
        await Lifespan(app, settings=settings(timeout=MOMENT)).startup()
    assert "does not end" in caplog.text
    end.set()


@clocktest
async def test_application_that_cancels_itself_does_not_hang_the_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    run = Lifespan(app, settings=settings())
    await run.startup()
    assert run.state is None


@clocktest
async def test_cancelled_start_cancels_the_application() -> None:
    app_cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            app_cancelled.set()

    starting = asyncio.ensure_future(Lifespan(app, settings=settings()).startup())
    await turns()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.wait_for(app_cancelled.wait(), PATIENCE_SECONDS)


@clocktest
async def test_application_that_fails_to_stop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "still busy"})

    run = Lifespan(app, settings=settings())
    await run.startup()
    await run.shutdown()
    assert caplog.messages == ["the application failed to stop: still busy"]


@clocktest
async def test_application_that_raises_while_stopping_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await receive()
        raise KeyError("broken")

    run = Lifespan(app, settings=settings())
    await run.startup()
    await run.shutdown()
    assert caplog.messages == ["the application's lifespan failed"]


@clocktest
async def test_application_that_never_stops_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await asyncio.Event().wait()

    run = Lifespan(app, settings=settings(timeout=MOMENT))
    await run.startup()
    await run.shutdown()
    assert caplog.messages == ["the application did not stop within 0.01 seconds"]


@clocktest
async def test_lifespan_that_ended_early_is_not_asked_to_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)

    run = Lifespan(app, settings=settings(timeout=MOMENT))
    await run.startup()
    await turns()
    await run.shutdown()
    assert caplog.records == []


@pytest.mark.parametrize("message", [STOPPED, {"type": "http.response.start"}, {}])
@clocktest
async def test_wrong_lifespan_message_is_raised_in_the_application(message: Any) -> None:
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await send(message)
        except LocalProtocolError as error:
            errors.append(error)
        await send(STARTED)
        try:
            await send(STARTED)
        except LocalProtocolError as error:
            errors.append(error)
        await receive()
        await send(STOPPED)

    run = Lifespan(app, settings=settings())
    await run.startup()
    await run.shutdown()
    assert len(errors) == 2


@pytest.mark.parametrize(
    "message", ["", "Traceback (most recent call last):\n  ...\nKeyError: 'x'"]
)
@clocktest
async def test_error_that_stops_the_start_is_told_in_one_line_and_with_its_traceback(
    message: str,
) -> None:
    """Starlette's message is a traceback; it raises the same afterwards."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            {}["x"]
        except KeyError:
            await send({"type": "lifespan.startup.failed", "message": message})
            raise

    with pytest.raises(ApplicationFailed) as caught:
        await Lifespan(app, settings=settings()).startup()
    assert re.fullmatch(
        rf"the application failed to start in {__name__} \({__file__}, line \d+\): KeyError: 'x'",
        str(caught.value),
    )
    assert caught.value.report.splitlines()[1].startswith(f'  File "{__file__}", line ')
    assert isinstance(caught.value.__cause__, KeyError)


@clocktest
async def test_message_of_many_lines_is_told_by_its_last_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "Traceback:\n ...\nOSError: x\n"})
        await receive()
        await receive()

    with pytest.raises(
        ApplicationFailed, match=r"^the application failed to start: OSError: x$"
    ) as e:
        await Lifespan(app, settings=settings()).startup()
    assert e.value.report == "Traceback:\n ...\nOSError: x"


@clocktest
async def test_application_that_raises_after_it_took_the_startup_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("no database")

    run = Lifespan(app, settings=settings())
    await run.startup()
    assert run.state is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ValueError: no database" in record.getMessage()
    assert "tercel/shared" not in record.getMessage()


@pytest.mark.parametrize("mode", ["auto", "on"])
@clocktest
async def test_application_that_returns_what_cannot_be_awaited_does_not_start(mode: str) -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        return b"hello"

    with pytest.raises(ApplicationFailed, match=r"returned a bytes .* async def"):
        await Lifespan(app, settings=settings(mode)).startup()


@clocktest
async def test_plain_function_that_has_nothing_for_the_lifespan_goes_without() -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        return Recorder()(scope, receive, send) if scope["type"] == "http" else None

    run = Lifespan(app, settings=settings())
    await run.startup()
    assert run.state is None
