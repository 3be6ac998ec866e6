"""The development CA and its leaves: what they are, when they are renewed, what can go wrong."""

import multiprocessing
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tercel.certs.context import server_context
from tercel.certs.selfsigned import DevelopmentCertificates, default_directory, describe
from tercel.shared.errors import ConfigurationError

from .conftest import DAY, KEY_MAKERS, Issued, issue
from .test_context import handshake, quic_handshake


class FakeClock:
    def __init__(self) -> None:
        self.now = datetime(2030, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def development(tmp_path, clock) -> DevelopmentCertificates:
    return DevelopmentCertificates(tmp_path / "data" / "tercel", clock)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_the_ca_is_p256_may_sign_leaves_only_and_lives_about_ten_years(development, clock):
    development.ensure()
    ca = development.ca_certificate
    assert isinstance(ca.public_key().curve, ec.SECP256R1)
    constraints = extension(ca, x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert extension(ca, x509.KeyUsage).value.key_cert_sign
    assert timedelta(days=3600) < ca.not_valid_after_utc - clock.now < timedelta(days=3660)
    ca.verify_directly_issued_by(ca)


def test_the_leaf_is_p256_for_loopback_and_for_server_authentication(development):
    credential = development.ensure()
    assert credential.names == ("localhost", "127.0.0.1", "::1")
    leaf = credential.leaf
    assert isinstance(leaf.public_key().curve, ec.SECP256R1)
    assert list(extension(leaf, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extension(leaf, x509.BasicConstraints).value.ca
    leaf.verify_directly_issued_by(development.ca_certificate)


def test_the_leafs_whole_validity_is_at_most_14_days_and_includes_now(development, clock):
    leaf = development.ensure().leaf
    second = timedelta(seconds=1)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc + second <= timedelta(days=14)
    assert clock.now - leaf.not_valid_before_utc >= timedelta(hours=1)
    assert leaf.not_valid_after_utc - clock.now > timedelta(days=13)


def test_nothing_is_told_of_a_fresh_leaf(development, clock):
    assert development.ensure().warnings(clock.now) == []


def test_keys_are_the_users_alone(development):
    credential = development.ensure()
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (
            development.ca_key_path,
            credential.key_path,
            development.ca_path.parent,
            credential.key_path.parent,
        )
    }
    assert list(modes.values()) == [0o600, 0o600, 0o700, 0o700]


def test_both_stacks_serve_the_leaf_to_a_client_that_trusts_the_ca(tmp_path):
    development = DevelopmentCertificates(tmp_path)
    credential = development.ensure()
    root = Issued(development.ca_certificate, None)
    assert handshake(server_context([credential]), root).leaf == credential.leaf
    assert len(quic_handshake(credential, root)) == 1


def test_a_good_leaf_is_kept(development, clock, tmp_path):
    first = development.ensure()
    clock.now += 9 * DAY
    again = DevelopmentCertificates(tmp_path / "data" / "tercel", clock).ensure()
    assert again.leaf == first.leaf


def test_a_leaf_with_less_than_a_third_of_its_life_is_renewed_under_the_same_ca(development, clock):
    first = development.ensure()
    ca = development.ca_certificate
    clock.now += timedelta(days=9, hours=9)
    second = development.ensure()
    assert second.leaf != first.leaf
    assert second.certificate_path == first.certificate_path
    assert development.ca_certificate == ca


@pytest.mark.parametrize("days", [100, -100])
def test_an_expired_leaf_and_one_from_the_future_are_renewed(development, clock, days):
    development.ensure()
    clock.now += 200 * DAY  # away from the start of the CA
    first = development.ensure()
    clock.now += days * DAY
    second = development.ensure()
    assert second.leaf != first.leaf
    second.require_valid(clock.now)


def test_a_leaf_whose_names_changed_is_renewed_in_place(development):
    first = development.ensure(["example.test", "a.test"])
    same = development.ensure(["example.test", "A.TEST.", "a.test"])
    changed = development.ensure(["example.test", "b.test"])
    assert same.leaf == first.leaf
    assert changed.leaf != first.leaf
    assert changed.names == ("example.test", "b.test")
    assert changed.certificate_path == first.certificate_path


def test_a_leaf_of_another_ca_is_renewed(development):
    first = development.ensure()
    development.ca_path.unlink()
    second = development.ensure()
    assert second.leaf != first.leaf
    second.leaf.verify_directly_issued_by(development.ca_certificate)


def test_further_names_have_leaves_of_their_own(development):
    default = development.ensure()
    others = [development.ensure([name]) for name in ("example.test", "*.a.test", "::1", "ca.pem")]
    paths = {item.certificate_path for item in (default, *others)}
    assert len(paths) == 5
    assert all(":" not in path.parent.name and "*" not in path.parent.name for path in paths)
    assert development.ensure().leaf == default.leaf
    assert {item.chain for item in others} == {(development.ca_certificate,)}


@pytest.mark.parametrize(
    "name",
    ["", " ", "https://a.test", "a.test:443", "../../a", "a..b", "bücher.test", "a" * 64, "*", "-a",
     "a\n", ".".join(["a" * 60] * 5)],
)  # fmt: skip
def test_what_is_no_name_is_refused(development, name):
    with pytest.raises(ConfigurationError, match="neither a DNS name nor an IP address") as caught:
        development.ensure([name])
    assert "\n" not in str(caught.value)


def test_no_name_at_all_is_refused(development):
    with pytest.raises(ConfigurationError, match="give a DNS name"):
        development.ensure([])


def test_a_ca_near_its_end_is_replaced(development, clock):
    first = development.ensure()
    old = development.ca_certificate
    clock.now = old.not_valid_after_utc - 10 * DAY
    second = development.ensure()
    assert development.ca_certificate != old
    assert second.chain != first.chain


def test_a_ca_from_the_future_blames_the_clock(development, clock):
    development.ensure()
    clock.now -= 100 * DAY
    with pytest.raises(ConfigurationError, match="check the system clock"):
        development.ensure()


def test_a_ca_key_left_alone_by_a_crash_counts_as_no_ca(development):
    development.ensure()
    development.ca_path.unlink()
    development.ensure().leaf.verify_directly_issued_by(development.ca_certificate)


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
@pytest.mark.parametrize("which", ["ca_path", "ca_key_path", "leaf"])
def test_a_damaged_file_is_named_with_the_advice_to_delete_it(development, which, damage):
    credential = development.ensure()
    path = credential.certificate_path if which == "leaf" else getattr(development, which)
    content = path.read_bytes()
    other = issue("other", KEY_MAKERS["p256"](), ca=True)
    replaced = {
        "ca_path": other.pem,
        "ca_key_path": other.key_pem(),
        "leaf": other.key_pem() + content[content.find(b"-----BEGIN CERTIFICATE") :],
    }
    path.write_bytes({"empty": b"", "cut": content[:80], "other": replaced[which]}[damage])
    with pytest.raises(ConfigurationError, match="delete") as caught:
        development.ensure()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_ca_of_another_key_type_is_not_signed_with(development):
    made = issue("other", KEY_MAKERS["ed25519"](), ca=True, end=datetime(2040, 1, 1, tzinfo=UTC))
    development.ca_path.parent.mkdir(parents=True)
    development.ca_path.write_bytes(made.pem)
    development.ca_key_path.write_bytes(made.key_pem())
    with pytest.raises(ConfigurationError, match="delete both"):
        development.ensure()


def test_a_missing_ca_key_is_an_error_rather_than_a_new_ca(development):
    development.ensure()
    development.ca_key_path.unlink()
    with pytest.raises(ConfigurationError, match="is missing, damaged or not readable"):
        development.ensure()


def test_the_ca_is_not_there_before_it_is_made(development):
    with pytest.raises(ConfigurationError):
        _ = development.ca_certificate


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    development = DevelopmentCertificates(tmp_path / "file" / "data")
    with pytest.raises(ConfigurationError, match="TERCEL_DATA_DIR") as caught:
        development.ensure()
    assert str(tmp_path / "file" / "data") in str(caught.value)


def test_a_write_that_fails_leaves_the_old_leaf_and_no_temporary_file(
    development, clock, monkeypatch
):
    first = development.ensure()
    clock.now += 13 * DAY

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        development.ensure()
    path = first.certificate_path
    assert list(path.parent.iterdir()) == [path]


def ensure_in_child(directory: Path, start, results) -> None:
    start.wait()
    results.put(DevelopmentCertificates(directory).ensure().fingerprint)


def test_processes_that_start_at_once_agree_on_one_leaf(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    children = [
        context.Process(target=ensure_in_child, args=(tmp_path, start, results)) for _ in range(4)
    ]
    for child in children:
        child.start()
    fingerprints = {results.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert fingerprints == {DevelopmentCertificates(tmp_path).ensure().fingerprint}


def test_the_description_has_what_clients_need_to_trust(development):
    credential = development.ensure()
    text = "\n".join(describe(development, credential))
    for fact in (
        str(development.ca_path),
        str(credential.certificate_path),
        credential.fingerprint,
        credential.spki_hash,
        "localhost, 127.0.0.1, ::1",
        "2030-06-15 10:59 UTC",
    ):
        assert fact in text
    assert text.count("SHA-256") == 2


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/u/.local/share/tercel"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/tercel"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "/home/u/.local/share/tercel"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "/home/u/Library/Application Support/tercel"),
        ("linux", {"TERCEL_DATA_DIR": "/here", "XDG_DATA_HOME": "/data"}, "/here"),
        ("linux", {"TERCEL_DATA_DIR": ""}, "/home/u/.local/share/tercel"),
    ],
)
def test_the_default_directory_is_the_users_data_directory(
    monkeypatch, platform, environment, expected
):
    for name in ("TERCEL_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_directory() == Path(expected)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    for name in ("TERCEL_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigurationError, match="set TERCEL_DATA_DIR"):
        default_directory()
