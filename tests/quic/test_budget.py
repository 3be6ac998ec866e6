"""Budgets: so many at once, so many per second, and then no more."""

import pytest

from tercel.quic.budget import LIMITS, Budgets, Flood, TooMuch
from tercel.quic.errors import ErrorCode
from tercel.shared.errors import Scope

BURST, RATE = LIMITS[Flood.CANCELLATIONS]


def test_a_burst_may_be_spent_at_once_and_no_more():
    budgets = Budgets()
    budgets.passes(100.0)
    for _ in range(BURST):
        budgets.spend(Flood.CANCELLATIONS)
    with pytest.raises(TooMuch) as caught:
        budgets.spend(Flood.CANCELLATIONS)
    assert caught.value.code is ErrorCode.EXCESSIVE_LOAD
    assert caught.value.scope is Scope.CONNECTION
    assert str(caught.value) == "too many cancellations"


def test_one_budget_does_not_touch_another():
    budgets = Budgets()
    budgets.passes(100.0)
    budgets.spend(Flood.CANCELLATIONS, BURST)
    budgets.spend(Flood.FRAMES, LIMITS[Flood.FRAMES][0])
    with pytest.raises(TooMuch):
        budgets.spend(Flood.FRAMES)


def test_in_the_long_run_so_many_per_second_are_free():
    budgets = Budgets()
    now = 100.0
    budgets.passes(now)
    for _ in range(10 * BURST):
        now += 1 / RATE + 1e-6
        budgets.passes(now)
        budgets.spend(Flood.CANCELLATIONS)


def test_over_any_time_not_more_than_one_burst_and_the_rate():
    budgets = Budgets()
    now, spent = 100.0, 0
    budgets.passes(now)
    with pytest.raises(TooMuch):
        while True:
            now += 0.001
            budgets.passes(now)
            budgets.spend(Flood.CANCELLATIONS)
            spent += 1
    assert BURST <= spent <= BURST + (now - 100.0) * RATE


def test_time_before_the_first_packet_is_no_credit():
    budgets = Budgets()
    budgets.passes(1_000_000.0)
    budgets.spend(Flood.CANCELLATIONS, BURST)
    with pytest.raises(TooMuch):
        budgets.spend(Flood.CANCELLATIONS)
