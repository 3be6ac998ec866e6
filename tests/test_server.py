"""The order of start and stop, with listeners that only keep a record."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from tercel.server import AsyncioServer, Lifecycle
from tercel.shared.errors import ServerError
from tercel.shared.listener import Listener
from tercel.shared.loop import run
from tercel.shared.signals import Signal
from tercel.shared.stream import Application, RequestHandler, RequestStream
from tercel.shared.tasks import TaskSet
from tests.support.asynchronous import PATIENCE_SECONDS
from tests.support.fake_clock import clocktest


class FakeListener(Listener):
    """Keeps a record; is drained when `drained` is set, and starts unless it has an error to."""

    def __init__(self, record: list[str], name: str, error: OSError | None = None) -> None:
        self.record = record
        self.name = name
        self.error = error
        self.serving = False
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()
        self.drain_timeout = -1.0

    async def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.record.append(f"{self.name} start")
        self.serving = True

    def is_serving(self) -> bool:
        return self.serving

    def stop_accepting(self) -> None:
        self.record.append(f"{self.name} stop_accepting")
        self.serving = False

    async def drain(self, timeout: float) -> bool:
        self.draining.set()
        self.drain_timeout = timeout
        try:
            async with asyncio.timeout(timeout):
                await self.drained.wait()
        except TimeoutError:
            return False
        self.record.append(f"{self.name} drained")
        return True

    def close(self) -> None:
        self.record.append(f"{self.name} close")
        self.serving = False

    async def wait_closed(self) -> None:
        self.record.append(f"{self.name} closed")

    @property
    def addresses(self) -> list[str]:
        return [self.name]


class FakeApplication(Application):
    def __init__(self, record: list[str]) -> None:
        self.record = record
        self.startup_error: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.starting = asyncio.Event()

    def open(self, stream: RequestStream) -> RequestHandler:
        raise NotImplementedError

    async def startup(self) -> None:
        self.starting.set()
        await self.may_start.wait()
        if self.startup_error is not None:
            raise self.startup_error
        self.record.append("application startup")

    async def shutdown(self) -> None:
        self.record.append("application shutdown")


class Setup:
    """A server over two fake listeners, all of which write into one record."""

    def __init__(
        self, *, graceful_timeout: float = PATIENCE_SECONDS, second_error: OSError | None = None
    ):
        self.record: list[str] = []
        self.loop = asyncio.get_running_loop()
        self.application = FakeApplication(self.record)
        self.first = FakeListener(self.record, "udp")
        self.second = FakeListener(self.record, "tcp", second_error)
        self.tasks = TaskSet(self.loop)
        self.signal = Signal()
        self.server = AsyncioServer(
            "the app",
            self.loop,
            self.listeners(),
            set(),
            lifecycle=Lifecycle(
                application=self.application,
                tasks=[self.tasks],
                graceful_timeout=graceful_timeout,
                before_start=[lambda: self.record.append("before_start")],
                after_start=[lambda: self.record.append("after_start")],
                before_stop=[lambda: self.record.append("before_stop")],
                after_stop=[lambda: self.record.append("after_stop")],
                signal=self.signal,
                release=lambda: self.record.append("release"),
            ),
        )

    async def listeners(self) -> Sequence[Listener]:
        return [self.first, self.second]


STARTED = ["application startup", "before_start", "udp start", "tcp start", "after_start"]
ENDED = [
    "udp close",
    "tcp close",
    "udp closed",
    "tcp closed",
    "application shutdown",
    "after_stop",
    "release",
]
STOPPED = [
    "before_stop",
    "udp stop_accepting",
    "tcp stop_accepting",
    "udp drained",
    "tcp drained",
    *ENDED,
]


async def bounded(test: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await test


def within_seconds(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(bounded(test))


def test_awaiting_a_server_starts_everything_in_order() -> None:
    async def main() -> None:
        setup = Setup()
        server = await setup.server
        assert server is setup.server
        assert setup.record == STARTED
        assert server.is_serving()
        assert server.addresses == ["udp", "tcp"]
        await server.close()

    within_seconds(main())


def test_closing_stops_everything_in_order() -> None:
    async def main() -> None:
        setup = Setup()
        await setup.server
        setup.record.clear()
        assert setup.signal.stopped is False
        await setup.server.close()
        assert setup.record == STOPPED
        assert setup.signal.stopped is True
        assert not setup.server.is_serving()

    within_seconds(main())


def test_a_server_is_a_context_manager() -> None:
    async def main() -> None:
        setup = Setup()
        async with setup.server as server:
            assert server.is_serving()
        assert setup.record == STARTED + STOPPED

    within_seconds(main())


def test_each_step_may_be_called_by_itself_and_twice() -> None:
    async def main() -> None:
        setup = Setup()
        server = setup.server
        for step, count in (
            (server.startup, 1),
            (server.before_start, 2),
            (server.start_serving, 4),
            (server.after_start, 5),
        ):
            await step()
            await step()
            assert setup.record == STARTED[:count]
        await server.before_stop()
        await server.before_stop()
        assert setup.record == [*STARTED, "before_stop"]
        await server.close()
        await server.close()
        await server.after_stop()
        await server.wait_closed()
        assert setup.record == STARTED + STOPPED

    within_seconds(main())


def test_a_later_step_runs_the_earlier_ones() -> None:
    async def main() -> None:
        setup = Setup()
        await setup.server.start_serving()
        assert setup.record == STARTED[:-1]
        await setup.server.close()

    within_seconds(main())


def test_callbacks_get_the_app_and_the_loop() -> None:
    async def main() -> None:
        seen: list[tuple[object, object]] = []

        async def none() -> list[Listener]:
            return []

        loop = asyncio.get_running_loop()
        lifecycle = Lifecycle(after_start=[lambda app, loop: seen.append((app, loop))])
        async with AsyncioServer("the app", loop, none(), set(), lifecycle=lifecycle):
            assert seen == [("the app", loop)]

    within_seconds(main())


def test_start_that_fails_while_serving_runs_before_stop_as_well_as_after_stop() -> None:
    async def main() -> None:
        ran: list[str] = []

        async def none() -> list[Listener]:
            return []

        def fail() -> None:
            raise RuntimeError("after_start")

        lifecycle = Lifecycle(
            after_start=[fail],
            before_stop=[lambda: ran.append("before_stop")],
            after_stop=[lambda: ran.append("after_stop")],
        )
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="after_start"):
            await AsyncioServer("the app", loop, none(), set(), lifecycle=lifecycle)
        assert ran == ["before_stop", "after_stop"]

    within_seconds(main())


def test_serve_forever_returns_when_the_server_was_closed() -> None:
    async def main() -> None:
        setup = Setup()
        async with asyncio.TaskGroup() as group:
            group.create_task(setup.server.serve_forever())
            await setup.server
            setup.server.close()
        assert setup.record == STARTED + STOPPED

    within_seconds(main())


def test_cancelling_serve_forever_stops_gracefully() -> None:
    async def main() -> None:
        setup = Setup()
        serving = asyncio.ensure_future(setup.server.serve_forever())
        await setup.server
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert setup.record == STARTED + STOPPED

    within_seconds(main())


def test_an_application_that_refuses_to_start_opens_no_listener() -> None:
    async def main() -> None:
        setup = Setup()
        setup.application.startup_error = ServerError("no database")
        with pytest.raises(ServerError, match="no database"):
            await setup.server
        assert setup.record == ["release"]
        await setup.server.close()
        assert setup.record == ["release"]

    within_seconds(main())


def test_a_listener_that_cannot_start_takes_everything_down_again() -> None:
    async def main() -> None:
        setup = Setup(second_error=OSError(98, "Address already in use"))
        with pytest.raises(ServerError, match="cannot serve on tcp: Address already in use"):
            await setup.server
        assert setup.record == [
            "application startup",
            "before_start",
            "udp start",
            "udp close",
            "tcp close",
            "udp closed",
            "tcp closed",
            "application shutdown",
            "release",
        ]

    within_seconds(main())


def test_a_server_that_never_started_closes_without_a_trace_of_a_start() -> None:
    async def main() -> None:
        setup = Setup()
        await setup.server.close()
        assert setup.record == ["release"]

    within_seconds(main())


def test_a_stopped_server_does_not_start_again() -> None:
    async def main() -> None:
        setup = Setup()
        await setup.server
        await setup.server.close()
        with pytest.raises(ServerError, match="make a new one"):
            await setup.server

    within_seconds(main())


@clocktest
async def test_the_listeners_share_one_grace_period() -> None:
    setup = Setup(graceful_timeout=30.0)
    await setup.server
    setup.first.drained.clear()
    closing = setup.server.close()
    await setup.first.draining.wait()
    await asyncio.sleep(10.0)
    setup.first.drained.set()
    await closing
    assert (setup.first.drain_timeout, setup.second.drain_timeout) == (30.0, 20.0)


def test_exchanges_that_outlast_the_grace_period_are_ended() -> None:
    async def main() -> None:
        setup = Setup(graceful_timeout=0.0)
        await setup.server
        setup.first.drained.clear()
        setup.record.clear()
        await setup.server.close()
        assert "udp drained" not in setup.record
        assert setup.record[-len(ENDED) :] == ENDED

    within_seconds(main())


def test_leftover_tasks_end_before_the_application_stops() -> None:
    async def main() -> None:
        setup = Setup()

        async def leftover() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                setup.record.append("task ended")

        await setup.server
        setup.tasks.spawn(leftover(), name="leftover")
        await asyncio.sleep(0)
        await setup.server.close()
        ended = setup.record.index("task ended")
        assert setup.record.index("tcp closed") < ended
        assert ended < setup.record.index("application shutdown")

    within_seconds(main())


def test_a_callback_that_fails_does_not_keep_the_server_from_stopping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        record: list[str] = []

        def broken() -> None:
            raise RuntimeError("broken callback")

        async def listeners() -> list[Listener]:
            return [FakeListener(record, "tcp")]

        loop = asyncio.get_running_loop()
        lifecycle = Lifecycle(before_stop=[broken], release=lambda: record.append("release"))
        server = AsyncioServer("the app", loop, listeners(), set(), lifecycle=lifecycle)
        await server
        await server.close()
        assert record[-1] == "release"

    within_seconds(main())
    assert "broken callback" in caplog.text


def test_a_listener_that_fails_does_not_keep_the_server_from_stopping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenListener(FakeListener):
        def stop_accepting(self) -> None:
            raise RuntimeError("broken listener")

    async def main() -> None:
        record: list[str] = []

        async def listeners() -> list[Listener]:
            return [BrokenListener(record, "udp"), FakeListener(record, "tcp")]

        loop = asyncio.get_running_loop()
        lifecycle = Lifecycle(release=lambda: record.append("release"))
        server = AsyncioServer("the app", loop, listeners(), set(), lifecycle=lifecycle)
        await server
        await server.close()
        assert "tcp stop_accepting" in record
        assert "udp close" in record
        assert record[-1] == "release"

    within_seconds(main())
    assert "broken listener" in caplog.text


def test_closing_during_the_start_gives_the_start_up() -> None:
    async def main() -> None:
        setup = Setup()
        setup.application.may_start.clear()
        serving = asyncio.ensure_future(setup.server.serve_forever())
        await setup.application.starting.wait()
        await setup.server.close()
        await serving
        assert setup.record == ["release"]

    within_seconds(main())


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_gracefully(kind: str, number: signal.Signals) -> None:
    async def main() -> None:
        setup = Setup()
        setup.first.drained.clear()
        serving = asyncio.ensure_future(setup.server.run())
        await setup.server
        os.kill(os.getpid(), number)
        await setup.first.draining.wait()
        setup.first.drained.set()
        await serving
        assert setup.record == STARTED + STOPPED

    run(bounded(main()), kind)


def test_a_second_signal_ends_the_drain_at_once() -> None:
    async def main() -> None:
        setup = Setup(graceful_timeout=3600.0)
        setup.first.drained.clear()
        serving = asyncio.ensure_future(setup.server.run())
        await setup.server
        os.kill(os.getpid(), signal.SIGTERM)
        await setup.first.draining.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        assert "udp drained" not in setup.record
        assert setup.record[-len(ENDED) :] == ENDED

    within_seconds(main())


def test_a_second_signal_before_the_drain_has_begun_counts_too() -> None:
    async def main() -> None:
        setup = Setup(graceful_timeout=3600.0)
        setup.first.drained.clear()
        await setup.server
        setup.server.close()
        setup.server.hurry()
        await setup.server.wait_closed()
        assert setup.first.drain_timeout == 0.0
        assert setup.record[-len(ENDED) :] == ENDED

    within_seconds(main())


def test_a_signal_during_the_start_stops_it() -> None:
    async def main() -> None:
        setup = Setup()
        setup.application.may_start.clear()
        serving = asyncio.ensure_future(setup.server.run())
        await setup.application.starting.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        assert setup.record == ["release"]

    within_seconds(main())


def test_connections_is_the_set_that_was_given() -> None:
    async def main() -> None:
        async def none() -> list[Listener]:
            return []

        connections: set[object] = set()
        server = AsyncioServer("the app", asyncio.get_running_loop(), none(), connections)
        assert server.connections is connections
        assert server.app == "the app"
        assert not server.is_serving()
        await server.close()

    within_seconds(main())
