import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tercel.shared.errors import ConfigurationError
from tercel.shared.loop import run
from tercel.shared.signals import STOP_SIGNALS, Signal, StopSignals
from tests.support.asynchronous import PATIENCE_SECONDS

LOOPS = ("asyncio", "uvloop")


@pytest.fixture(autouse=True)
def _default_hang_up() -> Iterator[None]:
    """Under nohup(1) the tests themselves would ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_stop_signal_calls_stop_inside_the_loop(kind: str, number: signal.Signals) -> None:
    async def main() -> signal.Signals:
        loop = asyncio.get_running_loop()
        received: asyncio.Future[signal.Signals] = loop.create_future()
        with StopSignals(loop, received.set_result):
            os.kill(os.getpid(), number)
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await received

    assert run(main(), kind) is number


@pytest.mark.parametrize("kind", LOOPS)
def test_the_handlers_of_before_are_back_afterwards(kind: str) -> None:
    async def main() -> list[object]:
        before = [signal.getsignal(number) for number in STOP_SIGNALS]
        with StopSignals(asyncio.get_running_loop(), lambda number: None):
            during = [signal.getsignal(number) for number in STOP_SIGNALS]
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
        return [before, during]

    before, during = run(main(), kind)
    assert before != during


@pytest.mark.parametrize("decided", [signal.SIG_IGN, lambda number, frame: None])
def test_a_hang_up_that_somebody_has_decided_about_is_left_to_them(decided: Any) -> None:
    async def main() -> None:
        signal.signal(signal.SIGHUP, decided)
        with StopSignals(asyncio.get_running_loop(), lambda number: pytest.fail(number.name)):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is decided
            await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGHUP) is decided

    run(main(), "asyncio")


def test_a_worker_leaves_sigint_to_its_parent() -> None:
    async def main() -> list[signal.Signals]:
        loop = asyncio.get_running_loop()
        received: list[signal.Signals] = []
        terminated = asyncio.Event()

        def stop(number: signal.Signals) -> None:
            received.append(number)
            terminated.set()

        with StopSignals(loop, stop, ignore_interrupt=True):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await terminated.wait()
        return received

    assert run(main(), "asyncio") == [signal.SIGTERM]


def test_another_thread_is_told_how_to_do_without_signals() -> None:
    async def main() -> None:
        with StopSignals(asyncio.get_running_loop(), lambda number: None):
            pass

    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(asyncio.run, main())
        with pytest.raises(ConfigurationError, match="register_sys_signals=False"):
            attempt.result()


def test_a_signal_flag_is_down_until_it_is_raised() -> None:
    assert Signal().stopped is False
