"""Each token is good once, as long as it lives, in memory that does not grow."""

import tracemalloc

import pytest

from tercel.quic.transport.used_tokens import MOST_TOKENS, UsedTokens

LIFETIME = 100.0
NOW = 5000.0


@pytest.fixture
def traced_bytes():
    """How much memory is in use."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def token(number):
    return b"token %d" % number


def test_a_token_is_good_once():
    used = UsedTokens(LIFETIME)
    assert used.use(token(1), NOW, NOW)
    assert not used.use(token(1), NOW, NOW)
    assert used.use(token(2), NOW, NOW)


@pytest.mark.parametrize("issued_at", [NOW - LIFETIME, NOW - LIFETIME / 2, NOW, NOW + 5])
def test_a_token_is_remembered_until_it_expires(issued_at):
    used = UsedTokens(LIFETIME)
    assert used.use(token(0), issued_at, NOW)
    now = NOW
    while now <= issued_at + LIFETIME:
        used.use(token(now), now, now)
        assert not used.use(token(0), issued_at, now)
        now += LIFETIME / 10


def test_what_cannot_be_remembered_is_not_taken():
    used = UsedTokens(LIFETIME, most=3)
    assert [used.use(token(number), NOW, NOW) for number in range(5)] == [True] * 3 + [False] * 2
    assert not used.use(token(0), NOW, NOW)


def test_there_is_room_again_for_those_that_are_issued_later():
    used = UsedTokens(LIFETIME, most=1)
    assert used.use(token(0), NOW, NOW)
    assert not used.use(token(1), NOW, NOW)
    assert used.use(token(2), NOW + LIFETIME, NOW + LIFETIME)


def test_a_full_register_takes_few_new_tokens_for_used():
    used = UsedTokens(LIFETIME, most=2 * MOST_TOKENS)
    for number in range(MOST_TOKENS - 10_000):
        used.use(token(number), NOW, NOW)
    mistaken = sum(not used.use(b"new %d" % number, NOW, NOW) for number in range(10_000))
    assert mistaken < 10_000 / 200


def test_memory_does_not_grow_with_what_is_used(traced_bytes):
    used = UsedTokens(LIFETIME)
    used.use(token(0), NOW, NOW)
    before = traced_bytes()
    for number in range(20_000):
        used.use(token(number), NOW, NOW)
    assert traced_bytes() - before < 10_000


def test_memory_is_that_of_one_lifetime(traced_bytes):
    used = UsedTokens(LIFETIME)
    for step in range(400):
        now = NOW + step * LIFETIME / 10
        used.use(token(step), now, now)
        if step == 40:
            before = traced_bytes()
    assert traced_bytes() - before < 600_000
