"""PEM text to certificates and keys, with errors that name the file and the remedy.

Knows files and PEM blocks. Knows nothing about which certificate is whose, validity or TLS.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tercel.shared.errors import ConfigurationError

PemInput = bytes | str | os.PathLike[str]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

MIN_RSA_BITS = 2048

_CERTIFICATE_LABEL = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")
_KEY_BLOCK = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class PemText:
    """The content of a PEM file, or PEM bytes; `label` is what error messages call it."""

    label: str
    path: Path | None
    data: bytes

    def certificates(self) -> list[x509.Certificate]:
        """All certificates, in file order, at least one. Raises ConfigurationError."""
        self._require_pem()
        if not _CERTIFICATE_LABEL.search(self.data):
            raise ConfigurationError(
                f"{self.label} has no certificate in it: name the file that holds the certificate"
            )
        try:
            return x509.load_pem_x509_certificates(self.data)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.label} holds a damaged certificate: get it again from its issuer"
            ) from error

    def private_key(self, password: bytes | None) -> PrivateKey:
        """The first private key. A password for a key that is not encrypted is ignored.

        Raises ConfigurationError, also for a type of key that not both TLS stacks can use.
        """
        self._require_pem()
        block = _KEY_BLOCK.search(self.data)
        if block is None:
            raise ConfigurationError(
                f"{self.label} has no private key in it: name the file that holds the key"
            )
        # PKCS#8 says it in the label (RFC 7468 11), the older form in a header (RFC 1421 4.6.1.1).
        encrypted = block[1].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block[0]
        if encrypted and not password:
            raise ConfigurationError(f"{self.label} holds an encrypted key: give its password")
        try:
            key = load_pem_private_key(block[0] + b"\n", password if encrypted else None)
        except UnsupportedAlgorithm as error:
            raise self._unsupported_key() from error
        except (ValueError, TypeError) as error:
            problem = (
                f"{self.label} holds a key that this password does not decrypt: give the right one"
                if encrypted
                else f"{self.label} holds a key that is damaged or not PKCS#8, PKCS#1 or SEC 1: "
                "convert it with openssl pkey"
            )
            raise ConfigurationError(problem) from error
        match key:
            case rsa.RSAPrivateKey() if key.key_size >= MIN_RSA_BITS:
                return key
            case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1() | ec.SECP384R1()):
                return key
            case ed25519.Ed25519PrivateKey():
                return key
            case _:
                raise self._unsupported_key()

    def _unsupported_key(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.label} holds a key of a type that is not supported: use ECDSA P-256 or P-384, "
            f"Ed25519, or RSA of {MIN_RSA_BITS} bits or more"
        )

    def _require_pem(self) -> None:
        if b"-----BEGIN " not in self.data:
            raise ConfigurationError(
                f"{self.label} is not PEM: convert it with openssl x509 or openssl pkey"
            )


def read_pem(source: PemInput, role: str) -> PemText:
    """The PEM text of `source`: bytes are the text itself, anything else is a path.

    `role` ("certificate" or "key") goes into messages. Raises ConfigurationError.
    """
    if isinstance(source, bytes):
        return PemText(f"the {role} given as bytes", None, source)
    path = Path(source)
    label = f"{role} file {path}"
    try:
        return PemText(label, path, path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigurationError(f"{label} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise ConfigurationError(f"{label} is a directory: name the PEM file in it") from error
    except OSError as error:
        reason = error.strerror or error
        raise ConfigurationError(
            f"{label} cannot be read ({reason}): check the path and its permissions"
        ) from error
    except ValueError as error:  # a NUL character in the path
        raise ConfigurationError(f"{role} file {str(path)!r} is not a path: check it") from error
