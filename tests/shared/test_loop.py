import asyncio
import sys
from collections.abc import Iterator

import pytest

from tercel.shared.errors import ConfigurationError
from tercel.shared.loop import loop_factory, run, try_use_uvloop, try_windows_loop


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)


@pytest.fixture
def policy_restored() -> Iterator[None]:
    yield
    asyncio.set_event_loop_policy(None)


async def loop_module() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def test_asyncio_is_the_standard_library_s_loop() -> None:
    assert run(loop_module(), "asyncio") == "asyncio"


def test_uvloop_runs_when_it_is_asked_for() -> None:
    pytest.importorskip("uvloop")
    assert run(loop_module(), "uvloop") == "uvloop"


def test_auto_takes_uvloop_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert run(loop_module()) == "uvloop"


@pytest.mark.usefixtures("without_uvloop")
def test_auto_takes_asyncio_where_uvloop_is_missing() -> None:
    assert run(loop_module(), "auto") == "asyncio"


@pytest.mark.usefixtures("without_uvloop")
def test_uvloop_that_is_asked_for_and_missing_says_how_to_install_it() -> None:
    with pytest.raises(ConfigurationError, match="pip install uvloop"):
        run(loop_module(), "uvloop")


def test_run_returns_the_result_and_closes_its_loop() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert run(main(), "asyncio").is_closed()


@pytest.mark.usefixtures("policy_restored")
def test_try_use_uvloop_changes_what_asyncio_run_uses() -> None:
    pytest.importorskip("uvloop")
    try_use_uvloop()
    assert asyncio.run(loop_module()) == "uvloop"


@pytest.mark.usefixtures("policy_restored", "without_uvloop")
def test_try_use_uvloop_has_no_effect_where_uvloop_is_missing() -> None:
    try_use_uvloop()
    assert asyncio.run(loop_module()) == "asyncio"


@pytest.mark.usefixtures("policy_restored")
def test_try_windows_loop_leaves_a_loop_that_can_watch_udp_sockets() -> None:
    try_windows_loop()
    loop = loop_factory("asyncio")()
    try:
        assert isinstance(loop, asyncio.SelectorEventLoop)
    finally:
        loop.close()


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
def test_loop_that_is_stopped_cancels_what_runs_and_lets_it_end(kind: str) -> None:
    ended: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("in its own time")

    assert run(main(), kind) is None
    assert ended == ["in its own time"]


def test_loop_may_be_stopped_again_while_what_runs_ends() -> None:
    ended: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)
        try:
            await asyncio.Event().wait()
        finally:
            loop.stop()
            await asyncio.sleep(0)
            ended.append("all the same")

    assert run(main(), "asyncio") is None
    assert ended == ["all the same"]


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
def test_a_task_that_exits_is_logged_and_lets_what_runs_end(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def exits() -> None:
        sys.exit(3)

    async def main() -> None:
        task = asyncio.ensure_future(exits())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            assert task.done()
            ended.append("in its own time")

    with pytest.raises(SystemExit) as exit:
        run(main(), kind)
    assert exit.value.code == 3
    assert ended == ["in its own time"]
    (record,) = (record for record in caplog.records if record.name == "tercel.server")
    assert record.message == "a task ends the process: stopping"
    assert record.exc_info is not None


def test_error_of_what_runs_is_not_taken_for_a_stop() -> None:
    async def main() -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(main(), "asyncio")
