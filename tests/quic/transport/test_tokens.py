"""Tokens without state: bound to an address and a time, made of keys that can be shared."""

import pytest
from aioquic.quic.packet import QuicProtocolVersion, encode_quic_retry

from tercel.quic.transport.tokens import (
    ADDRESS_LIFETIME_SECONDS,
    RETRY_LIFETIME_SECONDS,
    InvalidToken,
    KeyRing,
    Tokens,
    read_key_ring,
    retry_packet,
)
from tercel.shared.errors import ConfigurationError

ORIGINAL, RETRY = b"original-cid", b"retrycid"
HOST, PORT = "192.0.2.1", 4242
SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(32, 64))


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
    return Tokens(clock)


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.1"]
)
@pytest.mark.parametrize("original", [b"", ORIGINAL, b"x" * 20])
def test_a_retry_token_gives_the_original_connection_id_back(tokens, clock, address, original):
    token = tokens.seal_retry(address, PORT, original, RETRY)
    assert tokens.open_retry(token, address, PORT, RETRY) == (original, clock.now)


@pytest.mark.parametrize(
    ("address", "port", "cid"),
    [
        ("192.0.2.2", PORT, RETRY),
        ("2001:db8::1", PORT, RETRY),
        (HOST, 4243, RETRY),
        (HOST, PORT, b"retrycix"),
        (HOST, PORT, b""),
    ],
)
def test_a_retry_token_is_worth_nothing_elsewhere(tokens, address, port, cid):
    token = tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY)
    with pytest.raises(InvalidToken):
        tokens.open_retry(token, address, port, cid)


def test_a_retry_token_lives_for_half_a_minute(tokens, clock):
    token = tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY)
    issued_at = clock.now
    clock.now += RETRY_LIFETIME_SECONDS
    assert tokens.open_retry(token, HOST, PORT, RETRY) == (ORIGINAL, issued_at)
    clock.now += 0.001
    with pytest.raises(InvalidToken, match="too old"):
        tokens.open_retry(token, HOST, PORT, RETRY)


def test_an_address_token_is_of_use_for_a_day_from_its_address_only(tokens, clock):
    token = tokens.seal_address(HOST)
    with pytest.raises(InvalidToken):
        tokens.open_address(token, "192.0.2.2")
    issued_at = clock.now
    clock.now += ADDRESS_LIFETIME_SECONDS
    assert tokens.open_address(token, HOST) == issued_at
    clock.now += 0.001
    with pytest.raises(InvalidToken, match="too old"):
        tokens.open_address(token, HOST)


def test_a_token_from_the_future_is_refused_but_for_the_skew_of_clocks(tokens, clock):
    token = tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY)
    clock.now -= 4
    assert tokens.open_retry(token, HOST, PORT, RETRY) == (ORIGINAL, clock.now + 4)
    clock.now -= 3600
    with pytest.raises(InvalidToken):
        tokens.open_retry(token, HOST, PORT, RETRY)


def test_one_kind_of_token_is_none_of_the_other(tokens):
    with pytest.raises(InvalidToken):
        tokens.open_address(tokens.seal_retry(HOST, PORT, b"", b""), HOST)
    with pytest.raises(InvalidToken):
        tokens.open_retry(tokens.seal_address(HOST), HOST, PORT, b"")


def test_no_bit_of_a_token_may_change(tokens):
    token = tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= 1
        with pytest.raises(InvalidToken):
            tokens.open_retry(bytes(changed), HOST, PORT, RETRY)


def test_no_part_of_a_token_may_be_missing(tokens):
    token = tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY)
    for size in range(len(token)):
        with pytest.raises(InvalidToken):
            tokens.open_retry(token[:size], HOST, PORT, RETRY)


def test_two_tokens_are_never_the_same(tokens):
    assert len({tokens.seal_retry(HOST, PORT, ORIGINAL, RETRY) for _ in range(10)}) == 10


def test_who_has_the_key_can_check_the_tokens_of_others(clock):
    token = Tokens(clock, KeyRing([SECRET])).seal_retry(HOST, PORT, ORIGINAL, RETRY)
    others = Tokens(clock, KeyRing([OTHER_SECRET, SECRET]))
    assert others.open_retry(token, HOST, PORT, RETRY) == (ORIGINAL, clock.now)
    with pytest.raises(InvalidToken):
        Tokens(clock).open_retry(token, HOST, PORT, RETRY)


def test_reset_tokens_are_of_the_key_and_the_connection_id():
    ring = KeyRing([SECRET, OTHER_SECRET])
    token = ring.reset_token(b"12345678")
    assert len(token) == 16
    assert token == KeyRing([SECRET]).reset_token(b"12345678")
    assert token != ring.reset_token(b"12345679")
    assert token != KeyRing([OTHER_SECRET]).reset_token(b"12345678")


def test_a_key_ring_is_read_from_lines_of_64_digits(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# made in November\n{SECRET.hex()}\n\n{OTHER_SECRET.hex().upper()}\n")
    ring = read_key_ring(str(path))
    assert ring.reset_token(b"x") == KeyRing([SECRET]).reset_token(b"x")
    assert len(ring.retry) == len(ring.address) == 2


@pytest.mark.parametrize("content", [b"", b"# none\n", b"abc\n", b"z" * 64, b"\xff" * 64])
def test_a_file_that_is_no_key_ring_is_told_with_the_remedy(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32"):
        read_key_ring(str(path))


def test_a_missing_key_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32"):
        read_key_ring(str(tmp_path / "none"))


@pytest.mark.parametrize("version", [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2])
def test_a_retry_packet_is_what_aioquic_would_make(version):
    parts = {"source_cid": b"s" * 8, "destination_cid": b"dest"}
    assert retry_packet(
        version, original_cid=ORIGINAL, token=b"token", **parts
    ) == encode_quic_retry(
        version=version, original_destination_cid=ORIGINAL, retry_token=b"token", **parts
    )
