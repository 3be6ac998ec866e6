import asyncio
from collections.abc import Iterator

import pytest

from tercel.shared.events import run_events, trigger_events


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_functions_and_coroutines_run_in_order_each_to_its_end(
    loop: asyncio.AbstractEventLoop,
) -> None:
    calls: list[str] = []

    def plain(app: object, loop: object) -> None:
        calls.append("plain")

    async def slow(app: object, loop: object) -> None:
        calls.append("slow begins")
        await asyncio.sleep(0)
        calls.append("slow ends")

    trigger_events([slow, plain], loop, "app")
    assert calls == ["slow begins", "slow ends", "plain"]


def test_a_callback_gets_as_many_of_app_and_loop_as_it_needs(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen: list[tuple[object, ...]] = []
    trigger_events(
        [
            lambda app, loop: seen.append((app, loop)),
            lambda app: seen.append((app,)),
            lambda: seen.append(()),
            lambda *everything: seen.append(everything),
            lambda app, own="own": seen.append((app, own)),
        ],
        loop,
        "app",
    )
    assert seen == [("app", loop), ("app",), (), ("app", loop), ("app", "own")]


def test_without_an_app_a_callback_gets_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[object] = []
    trigger_events([seen.append], loop)
    assert seen == [loop]


def test_keyword_arguments_reach_every_callback(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[tuple[object, int]] = []

    def callback(app: object, *, number: int) -> None:
        seen.append((app, number))

    trigger_events([callback, callback], loop, "app", number=7)
    assert seen == [("app", 7), ("app", 7)]


def test_a_type_error_inside_a_callback_is_its_own_and_it_runs_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    calls: list[int] = []

    def broken(app: object, loop: object) -> None:
        calls.append(1)
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        trigger_events([broken], loop, "app")
    assert calls == [1]


def test_an_error_ends_the_row(loop: asyncio.AbstractEventLoop) -> None:
    calls: list[int] = []

    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        trigger_events([broken, lambda: calls.append(1)], loop, "app")
    assert calls == []


def test_no_events_are_nothing_to_do(loop: asyncio.AbstractEventLoop) -> None:
    trigger_events(None, loop)
    trigger_events([], loop)


def test_run_events_works_inside_a_running_loop() -> None:
    seen: list[object] = []

    async def main() -> None:
        await run_events([seen.append], asyncio.get_running_loop(), "app")

    asyncio.run(main())
    assert seen == ["app"]
