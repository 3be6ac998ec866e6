"""Certificates as the runner makes them: an authority, a chain of any length, a server's leaf."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 7
# Those of the server in the runner's network.
_NAMES = ("server4", "server6", "server46", "server")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_certificates(directory: Path, chain: int, names: Sequence[str] = _NAMES) -> None:
    """Write cert.pem, priv.key and ca.pem; cert.pem has `chain` certificates, the leaf first.

    The leaf is for `names`.

    A chain of more than one is signed with RSA keys of 4,096 bits, so that it gets long.
    """
    authority_key: Key = _key(large=chain > 1)
    authority = _certificate("interop CA", authority_key, None, authority_key)
    (directory / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    issuer, issuer_key = authority, authority_key
    certificates: list[x509.Certificate] = []
    for number in range(chain - 1):
        key = _key(large=True)
        issuer = _certificate(f"interop intermediate {number + 1}", key, issuer, issuer_key)
        issuer_key = key
        certificates.insert(0, issuer)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate("interop server", leaf_key, issuer, issuer_key, names)
    certificates.insert(0, leaf)
    (directory / "cert.pem").write_bytes(
        b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    )
    (directory / "priv.key").write_bytes(
        leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _key(*, large: bool) -> Key:
    if large:
        return rsa.generate_private_key(public_exponent=65_537, key_size=4096)
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(
    name: str,
    key: Key,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    servers: Sequence[str] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_public = issuer_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=not servers, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False
        )
    )
    if servers:
        names = [x509.DNSName(host) for host in servers]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())
