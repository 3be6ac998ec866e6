"""The garbage collector of a serving process."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tercel.shared.collector import settle_collector


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """What a test does to the process's collector is undone."""
    thresholds, enabled, frozen = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    yield
    gc.unfreeze()
    if frozen:
        gc.freeze()
    gc.set_threshold(*thresholds)
    if enabled:
        gc.enable()


def test_what_is_loaded_is_never_looked_at_again() -> None:
    kept = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    settle_collector()
    assert gc.get_freeze_count() >= before + len(kept)


def test_garbage_from_before_is_collected_first() -> None:
    class Node:
        itself: object

    node = Node()
    node.itself = node
    known = weakref.ref(node)
    del node
    settle_collector()
    assert known() is None


def test_collections_become_rare() -> None:
    gc.set_threshold(700, 10, 10)
    settle_collector()
    assert gc.get_threshold()[0] > 700


def test_thresholds_of_somebody_else_stay() -> None:
    gc.set_threshold(900, 7, 7)
    settle_collector()
    assert gc.get_threshold() == (900, 7, 7)


def test_a_collector_that_is_off_stays_as_it_is() -> None:
    gc.set_threshold(700, 10, 10)
    gc.disable()
    settle_collector()
    assert not gc.isenabled()
    assert gc.get_threshold() == (700, 10, 10)


def test_rings_of_objects_are_still_collected() -> None:
    settle_collector()
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert gc.collect() >= 1
