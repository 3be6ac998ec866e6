"""Secrets and keys come out as aioquic's do."""

import hashlib

import pytest
from aioquic.quic.crypto import CIPHER_SUITES, CryptoContext, CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, KeySchedule, cipher_suite_hash, hkdf_expand_label

from tercel.quic.transport.keys import KeyPair, Keys, Schedule, Secret, expansion_label

SUITES = list(CIPHER_SUITES)
VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
MESSAGE, SESSION, SHARED = b"a message", b"\x51" * 32, b"\x53" * 32

every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


def secret_for(suite):
    return hashlib.sha512(b"secret").digest()[: cipher_suite_hash(suite).digest_size]


@every_suite
@pytest.mark.parametrize(("context", "length"), [(b"", 12), (b"", 16), (bytes(32), 32)])
def test_what_is_expanded_is_what_aioquic_expands(suite, context, length):
    algorithm, secret = cipher_suite_hash(suite), secret_for(suite)
    label = expansion_label(b"a name", context, length)
    expected = hkdf_expand_label(algorithm, secret, b"a name", context, length)
    source = Secret(secret, algorithm)
    assert source.expand(label, length) == expected
    assert source.expand(label, length) == expected  # it is not used up


@every_suite
@pytest.mark.parametrize("session", [None, SESSION], ids=["new", "resumed"])
def test_a_key_schedule_goes_the_way_of_aioquic_s(suite, session):
    theirs, mine = KeySchedule(suite), Schedule(suite)
    for material in (session, SHARED, None):
        for schedule in (theirs, mine):
            schedule.extract(material)
            schedule.update_hash(MESSAGE)
        assert (mine.secret, mine.generation) == (theirs.secret, theirs.generation)
        for label in (b"one", b"two"):
            assert mine.derive_secret(label) == theirs.derive_secret(label)
        known = theirs.derive_secret(b"three")
        assert mine.finished_verify_data(known) == theirs.finished_verify_data(known)
        assert mine.certificate_verify_data(b"x") == theirs.certificate_verify_data(b"x")


@every_suite
@every_version
def test_keys_protect_and_open_what_aioquic_s_do(suite, version):
    theirs, mine = CryptoContext(), Keys()
    for keys in (theirs, mine):
        keys.setup(cipher_suite=suite, secret=secret_for(suite), version=version)
    header, payload = b"\x41" + bytes(8) + b"\0\x07", b"\x01" * 40
    packet = theirs.encrypt_packet(header, payload, 7)
    assert mine.encrypt_packet(header, payload, 7) == packet
    assert mine.decrypt_packet(packet, 9, 7)[:3] == (header, payload, 7)
    assert plain(mine) == plain(theirs)


@every_version
@pytest.mark.parametrize("is_client", [False, True])
def test_keys_of_initial_packets_are_those_of_aioquic(version, is_client):
    theirs, mine = CryptoPair(), KeyPair()
    for pair in (theirs, mine):
        pair.setup_initial(cid=b"12345678", is_client=is_client, version=version)
    assert (plain(mine.recv), plain(mine.send)) == (plain(theirs.recv), plain(theirs.send))


@every_version
def test_keys_are_updated_as_aioquic_s(version):
    suite = CipherSuite.AES_128_GCM_SHA256
    theirs, mine = CryptoPair(), KeyPair()
    for pair in (theirs, mine):
        for keys in (pair.recv, pair.send):
            keys.setup(cipher_suite=suite, secret=secret_for(suite), version=version)
        pair.update_key()
        assert pair.key_phase == 1
    header, payload = b"\x45" + bytes(8) + b"\0\x07", b"\x01" * 40
    packet = theirs.encrypt_packet(header, payload, 7)
    assert mine.encrypt_packet(header, payload, 7) == packet
    assert plain(mine.send) == plain(theirs.send)


def test_setting_keys_up_is_told():
    told = []
    keys = Keys(setup_cb=told.append)
    suite = CipherSuite.AES_128_GCM_SHA256
    keys.setup(cipher_suite=suite, secret=secret_for(suite), version=1)
    assert told == ["tls"]


def test_canary_what_is_made_without_aioquic_s_constructors_has_all_they_give():
    assert set(vars(KeyPair())) == set(vars(CryptoPair()))
    assert set(vars(KeyPair().recv)) == set(vars(CryptoPair().recv))
    own = {"_constants", "_source"}
    suite = CipherSuite.AES_128_GCM_SHA256
    for suite_of_keys in SUITES:
        theirs, mine = CryptoContext(), Keys()
        for keys in (theirs, mine):
            keys.setup(cipher_suite=suite_of_keys, secret=secret_for(suite_of_keys), version=1)
        for name in ("aead", "hp"):
            made, expected = getattr(mine, name), getattr(theirs, name)
            assert vars(made).keys() == vars(expected).keys()
            for part, value in vars(expected).items():
                assert type(getattr(made, part)) is type(value), part
        assert mine.aead._iv == theirs.aead._iv
    assert set(vars(Schedule(suite))) - own == set(vars(KeySchedule(suite)))


def plain(keys):
    """What can be compared of them."""
    return {
        name: value
        for name, value in vars(keys).items()
        if name not in ("aead", "hp", "_setup_cb", "_teardown_cb")
    }
