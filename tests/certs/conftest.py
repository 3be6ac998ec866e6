"""A certificate authority with an intermediate, and credentials of every supported key type."""

import functools
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from tercel.certs.load import Credential, load_credential

# The handshakes run against the real clock; everything else takes this moment as a parameter.
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

KEY_MAKERS = {
    "rsa": functools.partial(rsa.generate_private_key, 65537, 2048),
    "p256": functools.partial(ec.generate_private_key, ec.SECP256R1()),
    "p384": functools.partial(ec.generate_private_key, ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@functools.cache
def key_of(kind):
    """One key per type and test run: making RSA keys is slow."""
    return KEY_MAKERS[kind]()


@dataclass
class Issued:
    certificate: x509.Certificate
    key: object

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def issue(
    common_name: str,
    key: object,
    *,
    issuer: Issued | None = None,
    names: Sequence[str] = (),
    ca: bool = False,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 90 * DAY,
    issuer_url: str | None = None,
    access_method: x509.ObjectIdentifier = AuthorityInformationAccessOID.CA_ISSUERS,
) -> Issued:
    """A certificate for `key`, signed by `issuer` or by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(key_usage(ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if names:
        san = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(san, critical=False)
    if issuer_url:
        access = x509.AccessDescription(access_method, x509.UniformResourceIdentifier(issuer_url))
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    signer = issuer.key if issuer else key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, algorithm), key)


def key_usage(ca: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    never = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **never)


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture(scope="session")
def root() -> Issued:
    return issue("Test Root", KEY_MAKERS["p256"](), ca=True)


@pytest.fixture(scope="session")
def intermediate(root) -> Issued:
    return issue("Test Intermediate", KEY_MAKERS["p256"](), issuer=root, ca=True)


@pytest.fixture(scope="session")
def leaf(intermediate) -> Issued:
    return issue("Test Leaf", key_of("p256"), issuer=intermediate, names=["localhost", "127.0.0.1"])


@pytest.fixture(scope="session")
def credential_for(intermediate) -> Callable[..., Credential]:
    """Makes a credential in memory for these names, its chain up to the intermediate."""

    def make(*names: str, kind: str = "p256") -> Credential:
        made = issue("Test Leaf", key_of(kind), issuer=intermediate, names=names)
        return load_credential(made.pem + intermediate.pem, made.key_pem())

    return make


@pytest.fixture
def files(tmp_path, leaf, intermediate) -> tuple[Path, Path]:
    """A full chain and its key as files."""
    cert, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    cert.write_bytes(leaf.pem + intermediate.pem)
    key.write_bytes(leaf.key_pem())
    return cert, key
