from pathlib import Path

import pytest

from tercel.identity import is_loopback, resolve_identity
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.sockets import HostPort


@pytest.fixture(autouse=True)
def own_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERCEL_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LocalHost.", "app.localhost"]
)
def test_what_only_this_machine_reaches_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0", "example.org", "localhost.example.org"]
)
def test_everything_else_is_not(host: str) -> None:
    assert not is_loopback(host)


def test_loopback_gets_the_development_certificate() -> None:
    identity = resolve_identity(None, Settings(), [HostPort("127.0.0.1", 4433)], http3=True)
    assert identity.development is not None
    assert identity.credentials[0].names == ("localhost", "127.0.0.1", "::1")
    assert identity.warnings() == []


def test_an_unusual_loopback_name_is_in_its_certificate_and_keeps_the_usual_one() -> None:
    usual = resolve_identity(None, Settings(), [HostPort("localhost", 1)], http3=True)
    other = resolve_identity(None, Settings(), [HostPort("app.localhost", 1)], http3=True)
    again = resolve_identity(None, Settings(), [HostPort("localhost", 1)], http3=True)
    assert "app.localhost" in other.credentials[0].names
    assert "localhost" in other.credentials[0].names
    assert again.credentials[0].fingerprint == usual.credentials[0].fingerprint


def test_one_address_beyond_loopback_is_enough_to_need_a_certificate() -> None:
    addresses = [HostPort("127.0.0.1", 1), HostPort("0.0.0.0", 1)]
    with pytest.raises(ConfigurationError, match=r"^0\.0\.0\.0:1 can be reached"):
        resolve_identity(None, Settings(), addresses, http3=True)


def test_the_settings_certificate_serves_any_address() -> None:
    made = resolve_identity(None, Settings(), [HostPort("localhost", 1)], http3=True)
    path = made.credentials[0].certificate_path
    identity = resolve_identity(
        None, Settings(cert=str(path)), [HostPort("0.0.0.0", 1)], http3=True
    )
    assert identity.development is None
    assert identity.credentials[0].fingerprint == made.credentials[0].fingerprint


def test_several_certificates_keep_their_order() -> None:
    first = resolve_identity(None, Settings(), [HostPort("localhost", 1)], http3=True)
    second = resolve_identity(None, Settings(), [HostPort("app.localhost", 1)], http3=True)
    pair = [second.credentials[0], first.credentials[0]]
    identity = resolve_identity(pair, Settings(), [], http3=True)
    assert identity.credentials == tuple(pair)
