"""Which credential is chosen for which server name, and which name a client asks for."""

import ssl

import pytest

from tercel.certs.sni import CertificateSelector, server_name
from tercel.shared.errors import ConfigurationError

_RECORD_HEADER_BYTES = 5


@pytest.fixture(scope="module")
def credentials(credential_for):
    return {
        "default": credential_for("localhost"),
        "wildcard": credential_for("*.example.test", "*.xn--bcher-kva.test"),
        "exact": credential_for("www.example.test", "example.test"),
        "later": credential_for("www.example.test", "*.example.test"),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
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
def test_exact_wins_over_wildcard_and_wildcard_over_default(credentials, name, expected):
    selector = CertificateSelector(list(credentials.values()))
    assert selector.select(name) is credentials[expected]


def test_a_wildcard_inside_a_label_matches_nothing(credential_for):
    default, odd = credential_for("localhost"), credential_for("w*.example.test", "a.*.test")
    selector = CertificateSelector([default, odd])
    for name in ("www.example.test", "a.b.test"):
        assert selector.select(name) is default


def test_no_credential_at_all_is_an_error():
    with pytest.raises(ConfigurationError, match="give at least one"):
        CertificateSelector([])


@pytest.mark.parametrize("name", ["localhost", "a.example.test", "xn--bcher-kva.test", None])
def test_the_server_name_is_read_from_a_client_hello(name):
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    record = outgoing.read()
    assert server_name(record[_RECORD_HEADER_BYTES:]) == name


def test_a_client_hello_that_breaks_the_rules_has_no_server_name():
    whole = hello_with(b"\0\0\0\x0b\0\x09\0\0\x06a.test")
    assert server_name(whole) == "a.test"
    assert server_name(hello_with(b"\0\0\0\x0b\0\x09\1\0\x06a.test")) is None  # of another type
    assert server_name(hello_with(b"\0\0\0\x0b\0\x09\0\0\x06a.t\xff\xfet")) is None
    assert server_name(hello_with(b"\0\0\0\x05\0\x03\0\0\0")) is None  # empty
    for size in range(len(whole) - len(b"a.test")):
        assert server_name(whole[:size]) is None


def hello_with(extensions):
    """A ClientHello of one cipher suite, and these extensions."""
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0"
    body += len(extensions).to_bytes(2, "big") + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body
