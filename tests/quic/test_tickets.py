"""Retry tokens: bound to an address, a port, a connection ID and half a minute."""

import pytest

from tercel.quic.tickets import RETRY_LIFETIME_SECONDS, InvalidToken, RetryTokens

ORIGINAL, RETRY = b"original-cid", b"retrycid"


class Clock:
    def __init__(self):
        self.now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(clock):
    return RetryTokens(clock)


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.1"]
)
@pytest.mark.parametrize("original", [b"", ORIGINAL, b"x" * 20])
def test_a_token_gives_the_original_connection_id_back(tokens, address, original):
    token = tokens.seal(address, 4242, original, RETRY)
    assert tokens.open(token, address, 4242, RETRY) == original


@pytest.mark.parametrize(
    ("address", "port", "cid"),
    [
        ("192.0.2.2", 4242, RETRY),
        ("2001:db8::1", 4242, RETRY),
        ("192.0.2.1", 4243, RETRY),
        ("192.0.2.1", 4242, b"retrycix"),
        ("192.0.2.1", 4242, b""),
    ],
)
def test_a_token_is_worth_nothing_elsewhere(tokens, address, port, cid):
    token = tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    with pytest.raises(InvalidToken):
        tokens.open(token, address, port, cid)


def test_a_token_lives_for_half_a_minute(tokens, clock):
    token = tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    clock.now += RETRY_LIFETIME_SECONDS
    assert tokens.open(token, "192.0.2.1", 4242, RETRY) == ORIGINAL
    clock.now += 0.001
    with pytest.raises(InvalidToken, match="too old"):
        tokens.open(token, "192.0.2.1", 4242, RETRY)


def test_a_token_from_the_future_is_refused(tokens, clock):
    token = tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    clock.now -= 1
    with pytest.raises(InvalidToken):
        tokens.open(token, "192.0.2.1", 4242, RETRY)


def test_no_bit_of_a_token_may_change(tokens):
    token = tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= 1
        with pytest.raises(InvalidToken):
            tokens.open(bytes(changed), "192.0.2.1", 4242, RETRY)


def test_no_part_of_a_token_may_be_missing(tokens):
    token = tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    for size in range(len(token)):
        with pytest.raises(InvalidToken):
            tokens.open(token[:size], "192.0.2.1", 4242, RETRY)


def test_two_tokens_are_never_the_same(tokens):
    made = {tokens.seal("192.0.2.1", 4242, ORIGINAL, RETRY) for _ in range(10)}
    assert len(made) == 10


def test_who_has_the_key_can_check_the_tokens_of_others(clock):
    key = bytes(range(16))
    token = RetryTokens(clock, key).seal("192.0.2.1", 4242, ORIGINAL, RETRY)
    assert RetryTokens(clock, key).open(token, "192.0.2.1", 4242, RETRY) == ORIGINAL
    with pytest.raises(InvalidToken):
        RetryTokens(clock).open(token, "192.0.2.1", 4242, RETRY)
