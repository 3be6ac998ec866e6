"""Places for handshakes: bounded in all, and shared among the addresses that were validated."""

import pytest

from tercel.quic.half_open import HalfOpenPlaces

ONE, OTHER, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def taken_by(places, host):
    """How many `host` gets when it takes all it can."""
    count = 0
    while places.take(host):
        count += 1
    return count


def test_places_are_bounded_in_all():
    places = HalfOpenPlaces(3)
    assert taken_by(places, None) == 3
    assert not places.has_room(None)
    places.leave(None)
    assert places.take(None)
    assert places.taken == 3


@pytest.mark.parametrize("most", [1, 2, 3, 100, 2048])
def test_an_address_gets_half_of_all_places_at_the_most(most):
    assert taken_by(HalfOpenPlaces(most), ONE) == most // 2 + 1


def test_however_many_an_address_has_there_is_room_for_others():
    places = HalfOpenPlaces(100)
    taken_by(places, ONE)
    assert taken_by(places, OTHER) >= 20
    assert taken_by(places, THIRD) >= 10
    assert places.has_room(None)


def test_an_ipv6_network_is_one_address():
    places = HalfOpenPlaces(100)
    taken_by(places, "2001:db8::1")
    assert not places.has_room("2001:db8::2")
    assert places.has_room("2001:db8:1::1")


def test_forged_addresses_take_nobody_s_share():
    places = HalfOpenPlaces(100)
    for _ in range(40):
        places.take(None)
    assert taken_by(places, ONE) >= 30


def test_a_place_that_is_left_can_be_taken_again():
    places = HalfOpenPlaces(100)
    assert taken_by(places, ONE) == 51
    for _ in range(51):
        places.leave(ONE)
    assert places.taken == 0
    assert taken_by(places, ONE) == 51
