"""Every test of a connection runs with the fast path and without it."""

import pytest

from tests.quic import pair


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
def either_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets what `Pair` and `serving` take for quic_fast_path if they are not told."""
    monkeypatch.setitem(pair.DEFAULTS, "quic_fast_path", request.param)
