"""A token bucket: so many at once, so many per second, and whatever is refused changes nothing."""

import pytest

from tercel.shared.token_bucket import TokenBucket


def admitted(bucket, *, per_second, seconds, begin=100.0):
    """How many of evenly spaced attempts get in."""
    attempts = per_second * seconds
    return sum(bucket.admit(begin + number / per_second) for number in range(attempts))


def test_a_burst_may_come_at_once_and_no_more():
    bucket = TokenBucket(10, burst=5)
    assert [bucket.admit(100.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_without_a_burst_one_second_s_may_come_at_once():
    bucket = TokenBucket(3)
    assert [bucket.admit(100.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("per_second", [1_000, 3_500, 10_000, 100_000])
def test_of_any_flood_the_rate_gets_in(per_second):
    bucket = TokenBucket(1_000, burst=100)
    expected = min(per_second * 10, 100 + 1_000 * 10)
    assert admitted(bucket, per_second=per_second, seconds=10) == pytest.approx(expected, abs=2)


def test_what_is_refused_takes_no_tokens():
    bucket = TokenBucket(10, burst=1)
    assert bucket.admit(100.0)
    assert not any(bucket.admit(100.0) for _ in range(100_000))
    assert bucket.admit(100.125)


def test_in_the_long_run_nobody_below_the_rate_is_refused():
    bucket = TokenBucket(20.0, burst=2)
    assert admitted(bucket, per_second=19, seconds=500) == 19 * 500


def test_over_any_time_no_more_than_one_burst_and_the_rate_get_in():
    bucket = TokenBucket(20.0, burst=512)
    assert not bucket.admit(50.0, 513)
    assert sum(bucket.admit(100.0 + number / 1000) for number in range(10_000)) <= 512 + 10 * 20


def test_time_without_attempts_is_worth_one_burst_at_the_most():
    bucket = TokenBucket(10, burst=5)
    bucket.admit(100.0)
    assert [bucket.admit(1_000_000.0) for _ in range(6)] == [True] * 5 + [False]


def test_amounts_are_taken_whole_or_not_at_all():
    bucket = TokenBucket(10)
    assert bucket.admit(100.0, 8)
    assert not bucket.admit(100.0, 3)
    assert bucket.admit(100.0, 2)


def test_a_rate_of_zero_without_a_burst_admits_nothing():
    bucket = TokenBucket(0)
    assert not any(bucket.admit(now) for now in (0.0, 1.0, 1e6))


def test_what_is_given_can_be_had_at_once_up_to_the_burst():
    bucket = TokenBucket(1, burst=10)
    assert bucket.admit(100.0, 10)
    bucket.give(3)
    assert bucket.left == 3
    bucket.give(30)
    assert bucket.left == 10
    assert bucket.admit(100.0, 10)
    assert not bucket.admit(100.0)
