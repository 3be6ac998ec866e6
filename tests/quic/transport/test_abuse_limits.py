"""Budgets: so many at once, so many per second, and then no more."""

import pytest

from tercel.quic.http3.errors import ErrorCode
from tercel.quic.transport.abuse_limits import EARNED, LIMITS, BudgetExceeded, Budgets, Flood, Work
from tercel.shared.errors import Scope

BURST, RATE = LIMITS[Flood.CANCELLATIONS]
# One of each kind of work.
EACH = [Work(*(int(kind == number) for number in range(4))) for kind in range(4)]


class Client:
    """A client that spends from its budgets, and the work that it did."""

    def __init__(self):
        self.work = Work()
        self.asked = 0
        self.budgets = Budgets(self.so_far)
        self.budgets.passes(100.0)

    def so_far(self):
        self.asked += 1
        return self.work

    def does(self, work):
        self.work = Work(*map(sum, zip(self.work, work, strict=True)))

    def spends_all(self, flood):
        """How much it can spend until it is too much."""
        spent = 0
        with pytest.raises(BudgetExceeded):
            while True:
                self.budgets.spend(flood)
                spent += 1
        return spent


def test_a_burst_may_be_spent_at_once_and_no_more():
    budgets = Budgets()
    budgets.passes(100.0)
    for _ in range(BURST):
        budgets.spend(Flood.CANCELLATIONS)
    with pytest.raises(BudgetExceeded) as caught:
        budgets.spend(Flood.CANCELLATIONS)
    assert caught.value.code == ErrorCode.EXCESSIVE_LOAD
    assert caught.value.scope is Scope.CONNECTION
    assert str(caught.value) == "too many cancellations"


def test_one_budget_does_not_touch_another():
    budgets = Budgets()
    budgets.passes(100.0)
    budgets.spend(Flood.CANCELLATIONS, BURST)
    budgets.spend(Flood.FRAMES, LIMITS[Flood.FRAMES][0])
    with pytest.raises(BudgetExceeded):
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
    with pytest.raises(BudgetExceeded):
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
    with pytest.raises(BudgetExceeded):
        budgets.spend(Flood.CANCELLATIONS)


@pytest.mark.parametrize("flood", Flood, ids=lambda flood: flood.name)
def test_work_gives_back_what_it_earns_and_never_more_than_the_burst(flood):
    burst = LIMITS[flood][0]
    for kind, rate in zip(EACH, EARNED[flood], strict=True):
        for times in (1024, 1_000_000):
            client = Client()
            client.budgets.spend(flood, burst)
            client.does([times * count for count in kind])
            assert client.spends_all(flood) == min(times * rate, burst)


@pytest.mark.parametrize("flood", Flood, ids=lambda flood: flood.name)
def test_work_that_was_done_before_is_no_credit(flood):
    client = Client()
    client.does([1e6] * 4)
    assert client.spends_all(flood) == LIMITS[flood][0]


def test_requests_that_are_only_begun_do_not_pay_for_cancellations():
    client = Client()
    begun = 0
    with pytest.raises(BudgetExceeded):
        while True:
            client.does(Work(requests=1))
            begun += 1
            client.budgets.spend(Flood.CANCELLATIONS)
    assert begun == BURST + 1


def test_a_client_may_give_up_as_many_requests_as_it_lets_be_answered():
    client = Client()
    for _ in range(10 * BURST):
        client.does(Work(requests=2, answers=1))
        client.budgets.spend(Flood.CANCELLATIONS)


def test_time_and_work_are_looked_at_once_in_a_hundredth_of_a_burst():
    client = Client()
    for _ in range(BURST // 2):
        client.budgets.spend(Flood.CANCELLATIONS)
    assert client.asked <= 51


def test_the_peak_is_what_was_used_at_the_worst_moment():
    client = Client()
    client.budgets.spend(Flood.CANCELLATIONS, BURST // 2)
    client.budgets.passes(100.0 + BURST)
    client.budgets.spend(Flood.CANCELLATIONS)
    peaks = client.budgets.peaks()
    assert peaks.pop(Flood.CANCELLATIONS) == pytest.approx(0.5, abs=0.001)
    assert set(peaks) == set(Flood) - {Flood.CANCELLATIONS}
    assert not any(peaks.values())


def test_the_peak_counts_what_is_spent_one_by_one_to_a_hundredth_of_the_burst():
    client = Client()
    for _ in range(BURST // 4):
        client.budgets.spend(Flood.CANCELLATIONS)
    assert client.budgets.peaks()[Flood.CANCELLATIONS] == pytest.approx(0.25, abs=0.011)


def test_the_peak_of_a_client_that_did_too_much_is_all():
    client = Client()
    client.spends_all(Flood.PATHS)
    assert client.budgets.peaks()[Flood.PATHS] == 1.0
