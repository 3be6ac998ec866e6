"""A certificate, its chain and its private key: loaded once, checked once, told about.

Owns what makes the three fit together. Knows nothing about TLS contexts, SNI or where
certificates come from.
"""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from tercel.certs.pem import PemInput, PemText, PrivateKey, read_pem
from tercel.shared.errors import ConfigurationError

EXPIRY_WARNING = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a server proves its identity with.

    `chain` is in sending order without the leaf; `in_order` is False when the source had to be
    rearranged for that. Paths are None for what was given as bytes.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False, compare=False)
    certificate_path: Path | None = None
    key_path: Path | None = None
    key_password: bytes | None = field(default=None, repr=False)
    in_order: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The dNSName and then the iPAddress entries of the subject alternative name."""
        try:
            san = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        addresses = san.get_values_for_type(x509.IPAddress)
        return (*san.get_values_for_type(x509.DNSName), *map(str, addresses))

    @property
    def fingerprint(self) -> str:
        """The leaf's `fingerprint`."""
        return fingerprint(self.leaf)

    @property
    def spki_hash(self) -> str:
        """The leaf's `spki_hash`."""
        return spki_hash(self.leaf)

    @property
    def not_valid_after(self) -> datetime:
        """The last moment at which the leaf is valid, in UTC."""
        return self.leaf.not_valid_after_utc

    def require_valid(self, now: datetime | None = None) -> None:
        """Raise ConfigurationError unless the leaf is valid at `now` (aware; default: now)."""
        now = now or datetime.now(UTC)
        # Both ends belong to the validity period (RFC 5280 4.1.2.5).
        if now < self.leaf.not_valid_before_utc:
            raise ConfigurationError(
                f"{self._label} is not valid before {_date(self.leaf.not_valid_before_utc)}: "
                "check the system clock, or wait"
            )
        if now > self.leaf.not_valid_after_utc:
            raise ConfigurationError(
                f"{self._label} expired at {_date(self.leaf.not_valid_after_utc)}: renew it"
            )

    def warnings(self, now: datetime | None = None) -> list[str]:
        """What clients may stumble over although it loads: one line each, for people to read."""
        now = now or datetime.now(UTC)
        found = []
        missing = self._missing_issuer()
        if missing:
            found.append(missing)
        for certificate in (self.leaf, *self.chain):
            end = certificate.not_valid_after_utc
            if end < now + EXPIRY_WARNING:
                which = "" if certificate is self.leaf else f": {_common_name(certificate.subject)}"
                verb = "expired at" if end < now else "expires at"
                found.append(f"{self._label}{which} {verb} {_date(end)}: renew it")
        if not self.in_order:
            found.append(
                f"{self._label} has its chain out of order: it is sent in the right order, "
                "but put the leaf first and each issuer after what it issued"
            )
        if not self.names:
            found.append(
                f"{self._label} has no subject alternative name: clients will reject it; "
                "have it issued for its DNS names"
            )
        return found

    @property
    def _label(self) -> str:
        return f"certificate {self.certificate_path or _common_name(self.leaf.subject)}"

    def _missing_issuer(self) -> str | None:
        leaf = self.leaf
        if leaf.issuer == leaf.subject or (self.chain and _issued(leaf, by=self.chain[0])):
            return None
        issuer = _common_name(leaf.issuer)
        problem = f"{self._label} comes without its issuer's certificate ({issuer})"
        location = _issuer_location(leaf)
        if location:
            return f"{problem}: append it from {location}, or use the full chain file"
        # Nothing tells a private root, which clients hold, from an intermediate, which they do not.
        return f"{problem}: append it, unless clients have it as a trusted root"


def load_credential(
    cert: PemInput,
    key: PemInput | None = None,
    password: bytes | str | None = None,
    *,
    now: datetime | None = None,
) -> Credential:
    """`read_credential`, and the leaf must be valid at `now` (aware; default: the present)."""
    credential = read_credential(cert, key, password)
    credential.require_valid(now)
    return credential


def read_credential(
    cert: PemInput, key: PemInput | None = None, password: bytes | str | None = None
) -> Credential:
    """Load a PEM certificate with its chain and its key, whatever its validity period.

    `cert` and `key` are paths, or bytes that are PEM themselves; without `key`, the key is taken
    from `cert`. Raises ConfigurationError for everything that cannot be served with.
    """
    certificate_pem = read_pem(cert, "certificate")
    key_pem = certificate_pem if key is None else read_pem(key, "key")
    secret = (password.encode() if isinstance(password, str) else password) or None
    certificates = certificate_pem.certificates()
    private_key = key_pem.private_key(secret)
    leaf = _leaf_of(private_key, certificates)
    if leaf is None:
        raise ConfigurationError(
            f"{key_pem.label} holds a key that does not belong to the certificate in "
            f"{certificate_pem.label}: give the two that were made together"
        )
    _require_usable(leaf, certificate_pem)
    chain = _ordered_chain(leaf, certificates)
    return Credential(
        leaf=leaf,
        chain=chain,
        private_key=private_key,
        certificate_path=certificate_pem.path,
        key_path=key_pem.path,
        key_password=secret,
        in_order=certificates == [leaf, *chain],
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate: upper-case hexadecimal, bytes separated by colons."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def spki_hash(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo in base64.

    What Chromium's --ignore-certificate-errors-spki-list takes.
    """
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_public_key_info(certificate))
    return base64.b64encode(digest.finalize()).decode()


def _public_key_info(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _leaf_of(
    private_key: PrivateKey, certificates: list[x509.Certificate]
) -> x509.Certificate | None:
    public_key = private_key.public_key()
    for certificate in certificates:
        try:
            if certificate.public_key() == public_key:
                return certificate
        except (ValueError, UnsupportedAlgorithm):
            continue  # a key of a type that cannot be ours
    return None


def _require_usable(leaf: x509.Certificate, source: PemText) -> None:
    # A key bound to RSASSA-PSS (RFC 4055 1.2) loads as plain RSA, and the QUIC side would sign
    # with an algorithm that does not fit the certificate: then the encodings differ.
    if _public_key_info(leaf) not in leaf.tbs_certificate_bytes:
        raise ConfigurationError(
            f"{source.label} has its public key in a form that is not supported (RSASSA-PSS, say): "
            "have it issued for a plain RSA, ECDSA or Ed25519 key"
        )
    try:
        _ = leaf.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise ConfigurationError(
            f"{source.label} has damaged extensions: have the certificate issued again"
        ) from error


def _ordered_chain(
    leaf: x509.Certificate, certificates: list[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    # RFC 8446 4.4.2: each certificate SHOULD directly certify the one before it; what belongs to
    # no such path (a second cross-signed root, say) stays behind it in file order.
    remaining = [item for item in dict.fromkeys(certificates) if item != leaf]
    ordered: list[x509.Certificate] = []
    current = leaf
    while current.issuer != current.subject:
        issuer = next((item for item in remaining if _issued(current, by=item)), None)
        if issuer is None:
            break
        remaining.remove(issuer)
        ordered.append(issuer)
        current = issuer
    return (*ordered, *remaining)


def _issued(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuer_location(certificate: x509.Certificate) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return None
    for description in access.value:
        location = description.access_location
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            return location.value
    return None


def _common_name(name: x509.Name) -> str:
    # One line always: rfc4514 escapes nothing that breaks one, so control characters go out.
    text = name.rfc4514_string() or "without a subject"
    return "".join(character if character.isprintable() else "?" for character in text)


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
