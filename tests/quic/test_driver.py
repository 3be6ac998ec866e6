"""When the timer of a connection acts, and when it waits on."""

from types import SimpleNamespace

import pytest

from tercel.quic.driver import ConnectionProtocol
from tercel.shared.settings import Settings


class FakeQuic:
    """A connection that waits for one thing."""

    handshake_completed = True
    close_event = None

    def __init__(self, *, timer_at, is_loss_timer):
        self.timer_at = timer_at
        self.handled = []
        self._is_loss_timer = is_loss_timer

    def get_timer(self):
        return self.timer_at

    def is_loss_timer(self, at):
        return self._is_loss_timer and at == self.timer_at

    def handle_timer(self, now):
        self.handled.append(now)
        self.timer_at = now + 10.0

    def next_event(self):
        return None

    def datagrams_to_send(self, now):
        return []


class Clocked:
    """A driver, and a loop whose time is the test's."""

    def __init__(self, *, behind, is_loss_timer=True):
        self.now = 1000.0
        self.waits = []
        self.quic = FakeQuic(timer_at=self.now, is_loss_timer=is_loss_timer)
        self.behind = behind
        """Whether batches are full."""
        self.endpoint = SimpleNamespace(behind_at=self.now - 0.2)
        loop = SimpleNamespace(call_later=self._call_later)
        context = SimpleNamespace(loop=loop, clock=lambda: self.now, settings=Settings())
        self.driver = ConnectionProtocol(
            self.quic, endpoint=self.endpoint, context=context, info=SimpleNamespace()
        )

    def _call_later(self, seconds, call):
        self.waits.append(seconds)
        return SimpleNamespace(cancel=lambda: None)

    def fire(self):
        """Let the timer fire, at the time it was set for last."""
        self.now += self.waits[-1] if self.waits else 0.0
        if self.behind:
            self.endpoint.behind_at = self.now - 0.01
        self.driver._timer_fired()


def test_a_late_acknowledgement_may_still_wait_to_be_read():
    clocked = Clocked(behind=True)
    clocked.fire()
    assert clocked.quic.handled == []
    clocked.quic.timer_at = clocked.now + 0.3  # it was there: what is late now is something else
    clocked.fire()
    clocked.fire()
    assert clocked.quic.handled == []
    assert clocked.waits == pytest.approx([0.1, 0.2, 0.1])


def test_an_acknowledgement_is_not_waited_for_for_ever():
    clocked = Clocked(behind=True)
    while not clocked.quic.handled:
        assert len(clocked.waits) < 20
        clocked.fire()
    assert clocked.quic.handled == pytest.approx([1001.0], abs=0.11)


def test_what_waits_to_be_read_is_read_before_anything_is_given_up():
    clocked = Clocked(behind=True)
    clocked.fire()
    clocked.behind = False
    clocked.fire()
    assert clocked.quic.handled == pytest.approx([1000.1])


@pytest.mark.parametrize(("behind", "is_loss_timer"), [(False, True), (True, False)])
def test_other_timers_act_at_once(behind, is_loss_timer):
    clocked = Clocked(behind=behind, is_loss_timer=is_loss_timer)
    clocked.fire()
    assert clocked.quic.handled == [1000.0]
