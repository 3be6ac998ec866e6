"""Which credential is chosen for which server name."""

import pytest

from tercel.certs.sni import CertificateSelector
from tercel.shared.errors import ConfigurationError


@pytest.fixture(scope="module")
def credentials(credential_for):
    return {
        "default": credential_for("localhost"),
        "wildcard": credential_for("*.example.test", "*.xn--bcher-kva.test"),
        "exact": credential_for("www.example.test", "example.test"),
        "later": credential_for("www.example.test", "*.example.test"),
    }


@pytest.mark.parametrize(
    ("server_name", "expected"),
    [
        ("localhost", "default"),
        ("example.test", "exact"),
        ("www.example.test", "exact"),
        ("api.example.test", "wildcard"),
        ("WWW.Example.TEST", "exact"),
        ("API.Example.TEST.", "wildcard"),
        ("a.xn--bcher-kva.test", "wildcard"),
        ("a.b.example.test", "default"),
        (".example.test", "default"),
        ("*.example.test", "wildcard"),
        ("badexample.test", "default"),
        ("unknown.test", "default"),
        ("test", "default"),
        (".", "default"),
        ("", "default"),
        (None, "default"),
    ],
)
def test_exact_wins_over_wildcard_and_wildcard_over_default(credentials, server_name, expected):
    selector = CertificateSelector(list(credentials.values()))
    assert selector.select(server_name) is credentials[expected]


def test_a_wildcard_inside_a_label_matches_nothing(credential_for):
    default, odd = credential_for("localhost"), credential_for("w*.example.test", "a.*.test")
    selector = CertificateSelector([default, odd])
    for name in ("www.example.test", "a.b.test"):
        assert selector.select(name) is default


def test_no_credential_at_all_is_an_error():
    with pytest.raises(ConfigurationError, match="give at least one"):
        CertificateSelector([])
