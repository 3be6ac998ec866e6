"""RESPONSE_TIMEOUT, on a loop whose clock the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from tercel.shared.apps.sanic.timeouts import ResponseTimeouts


class Loop:
    """The two methods that are used, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        timer = (self.now + delay, callback)
        self.timers.append(timer)
        return type("Timer", (), {"cancel": lambda _: self.timers.remove(timer)})()

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timers and min(self.timers)[0] <= until:
            timer = min(self.timers, key=lambda item: item[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = until


class Exchange:
    active_at = 0.0
    timed_out = 0

    def time_out(self) -> None:
        self.timed_out += 1


def watching(seconds: float) -> tuple[Loop, ResponseTimeouts, Exchange]:
    loop, exchange = Loop(), Exchange()
    timeouts = ResponseTimeouts(seconds, cast(asyncio.AbstractEventLoop, loop))
    timeouts.watch(exchange)
    return loop, timeouts, exchange


def test_exchange_without_a_byte_times_out_once() -> None:
    loop, _, exchange = watching(10)
    loop.advance(9.9)
    assert exchange.timed_out == 0
    loop.advance(0.2)
    loop.advance(100)
    assert exchange.timed_out == 1


def test_activity_puts_the_end_off() -> None:
    loop, _, exchange = watching(10)
    loop.advance(8)
    exchange.active_at = loop.now
    loop.advance(9)
    assert exchange.timed_out == 0
    loop.advance(1.1)
    assert exchange.timed_out == 1


def test_each_exchange_has_its_own_end() -> None:
    loop, timeouts, first = watching(10)
    loop.advance(5)
    second = Exchange()
    timeouts.watch(second)
    loop.advance(5.1)
    assert (first.timed_out, second.timed_out) == (1, 0)
    loop.advance(5)
    assert second.timed_out == 1


def test_exchange_that_is_forgotten_does_not_time_out_and_leaves_no_timer() -> None:
    loop, timeouts, exchange = watching(10)
    timeouts.forget(exchange)
    loop.advance(100)
    assert (exchange.timed_out, loop.timers) == (0, [])


def test_closing_watches_nothing_more() -> None:
    loop, timeouts, exchange = watching(10)
    timeouts.close()
    loop.advance(100)
    assert (exchange.timed_out, loop.timers) == (0, [])
