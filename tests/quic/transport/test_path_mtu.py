"""The search for the largest datagrams of a path, without packets."""

import pytest

from tercel.quic.transport.path_mtu import BASE_DATAGRAM_BYTES, MAX_PROBES, RAISE_SECONDS, PathMtu

MOST = 1452


def search(path, carried, *, now=0.0):
    """Answer probes as a path that carries `carried` bytes; the sizes tried."""
    tried = []
    while (size := path.probe(now)) is not None:
        tried.append(size)
        if size <= carried:
            path.probe_acknowledged(size)
        else:
            path.probe_lost(size)
    return tried


def test_the_largest_is_tried_first():
    path = PathMtu(MOST)
    assert search(path, MOST) == [MOST]
    assert path.size == MOST


@pytest.mark.parametrize("carried", [1200, 1210, 1280, 1333, 1400, 1451, 1452, 9000])
@pytest.mark.parametrize("most", [1200, 1201, 1452, 8952, 65_527])
def test_the_search_ends_close_below_what_the_path_carries(carried, most):
    path = PathMtu(most)
    tried = search(path, carried)
    best = min(carried, most)
    assert BASE_DATAGRAM_BYTES <= path.size <= best
    assert best - path.size < 16
    assert len(tried) <= 3 * 14


def test_nothing_is_sent_where_there_is_nothing_to_gain():
    assert PathMtu(BASE_DATAGRAM_BYTES).probe(0.0) is None


def test_one_probe_is_under_way_at_a_time():
    path = PathMtu(MOST)
    assert path.probe(0.0) == MOST
    assert path.probe(1000.0) is None


def test_a_size_is_too_large_when_three_probes_are_lost():
    path = PathMtu(MOST)
    for _ in range(MAX_PROBES):
        assert path.probe(0.0) == MOST
        path.probe_lost(MOST)
    assert BASE_DATAGRAM_BYTES < path.probe(0.0) < MOST


def test_lost_probes_that_are_followed_by_one_that_arrives_do_no_harm():
    path = PathMtu(MOST)
    for _ in range(MAX_PROBES - 1):
        path.probe_lost(path.probe(0.0))
    path.probe_acknowledged(path.probe(0.0))
    assert path.size == MOST


def test_after_ten_minutes_the_path_may_carry_more():
    path = PathMtu(MOST)
    search(path, 1300)
    known = path.size
    assert path.probe(1.0) is None
    assert path.probe(RAISE_SECONDS - 1) is None
    assert search(path, MOST, now=RAISE_SECONDS + 1) == [MOST]
    assert known < path.size == MOST


def test_a_search_in_vain_after_ten_minutes_changes_nothing():
    path = PathMtu(MOST)
    search(path, 1300)
    known = path.size
    assert search(path, 1300, now=RAISE_SECONDS + 1)
    assert path.size == known
    assert path.probe(RAISE_SECONDS + 2) is None


def test_losses_in_turn_are_a_black_hole():
    path = PathMtu(MOST)
    search(path, MOST)
    assert not path.lost()
    assert not path.lost()
    assert path.lost()
    assert path.size == BASE_DATAGRAM_BYTES
    assert search(path, 1300)[0] == MOST
    assert 1300 - 16 < path.size <= 1300


def test_losses_with_arrivals_between_are_none():
    path = PathMtu(MOST)
    search(path, MOST)
    for _ in range(10):
        path.lost()
        path.lost()
        path.acknowledged()
    assert path.size == MOST


def test_what_is_known_of_an_earlier_search_does_not_shrink_the_path():
    path = PathMtu(MOST)
    size = path.probe(0.0)
    path.probe_acknowledged(size)
    path.probe_acknowledged(BASE_DATAGRAM_BYTES)
    assert path.size == MOST
