"""Certificates made here: a development CA and the leaves it signs.

Pure: names and a moment in, X.509 out. Knows nothing about files, locks or when to renew.
"""

import ipaddress
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tercel.shared.errors import ConfigurationError

AUTHORITY_LIFETIME = timedelta(days=3650)
# Chromium's serverCertificateHashes takes 14 days at most, both ends included (RFC 5280 4.1.2.5).
LEAF_LIFETIME = timedelta(days=14) - timedelta(seconds=1)
# Clients whose clock is a little behind accept a new certificate, too.
BACKDATED = timedelta(hours=1)

_MAX_NAME_CHARACTERS = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


def new_authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A new development CA (ECDSA P-256) that may sign leaves only. `now` is aware."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Browsers mix up two roots of one name: each gets its own.
    name = _name(f"tercel development CA {secrets.token_hex(4)}")
    usage = _key_usage(certificate_signing=True)
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def new_leaf(
    names: Sequence[str],
    now: datetime,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A server certificate (ECDSA P-256) for `names`, which are `normalised_names`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("tercel development certificate")
    authority_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority_key.public_key()
    )
    server_authentication = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = (
        _builder(subject, authority.subject, key.public_key(), now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_signing=False), critical=True)
        .add_extension(server_authentication, critical=False)
        .add_extension(authority_identifier, critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
    )
    return builder.sign(authority_key, hashes.SHA256()), key


def normalised_names(names: Sequence[str]) -> tuple[str, ...]:
    """DNS names in lower case and addresses in canonical form, each once, in the order given.

    Raises ConfigurationError for what is neither, and for no name at all.
    """
    if not names:
        raise ConfigurationError("a certificate needs a name: give a DNS name or an IP address")
    return tuple(dict.fromkeys(map(_normalised, names)))


def _normalised(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    host = name.lower().removesuffix(".")
    if len(host) > _MAX_NAME_CHARACTERS or not _DNS_NAME.fullmatch(host):
        raise ConfigurationError(
            f"{name!r} is neither a DNS name nor an IP address: give it without scheme and port, "
            "and an international name in its xn-- form"
        )
    return host


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    start = now.replace(microsecond=0) - BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, certificate_signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_signing,
        crl_sign=certificate_signing,
        encipher_only=False,
        decipher_only=False,
    )
