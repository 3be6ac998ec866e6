"""How long to look: a minute in all by default, TERCEL_FUZZ times as long by `make fuzz`."""

import os

import pytest
from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("TERCEL_FUZZ", "1"))
# Each test's name for what it does is a property; which example breaks it, the report says.
settings.register_profile(
    "tercel",
    max_examples=150 * FACTOR,
    deadline=None,
    derandomize=FACTOR == 1,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("tercel")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if FACTOR > 1:
        for item in items:
            if item.path.parent.name == "fuzz":
                item.add_marker(pytest.mark.timeout(3600))
