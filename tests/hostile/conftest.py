"""Floods are counted here, not timed: what is one does not depend on how fast a machine is."""

import pytest

from tercel.quic.transport.abuse_limits import LIMITS


@pytest.fixture(autouse=True)
def budgets_are_not_refilled(monkeypatch):
    """What is left of a budget is what was not spent; test_abuse_limits.py has the rates."""
    for flood, (burst, _) in LIMITS.items():
        monkeypatch.setitem(LIMITS, flood, (burst, 0.0))
