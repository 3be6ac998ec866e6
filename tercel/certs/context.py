"""One chain for both TLS stacks, from one load: an SSLContext for TCP, plain objects for QUIC.

Also what the `ssl` argument may be, and how each form is traced back to a credential. Must not
know aioquic: the QUIC side takes a `QuicIdentity` from here.
"""

import os
import secrets
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from tercel.certs.load import Credential, load_credential
from tercel.certs.pem import PrivateKey
from tercel.certs.sni import CertificateSelector
from tercel.shared.errors import ConfigurationError
from tercel.shared.private_files import append_private

# certbot's names first: its directories hold a cert.pem too, without the chain.
_CERTIFICATE_FILES = ("fullchain.pem", "cert.pem")
_KEY_FILES = ("privkey.pem", "key.pem")


class ServerContext(ssl.SSLContext):
    """An SSLContext that remembers what it was made from; the first credential is the default."""

    credentials: tuple[Credential, ...]


@dataclass(frozen=True, slots=True)
class QuicIdentity:
    """A credential in the form that a QUIC stack takes."""

    certificate: x509.Certificate
    certificate_chain: list[x509.Certificate]
    private_key: PrivateKey


def server_context(
    credentials: Sequence[Credential],
    *,
    alpn: Sequence[str] = ("http/1.1",),
    keylog_file: str | None = None,
) -> ServerContext:
    """A context for TLS 1.2 and later that serves the first credential, the others by SNI.

    Its connections have the name that the client asked for as `server_name`.
    `keylog_file` is appended to in the NSS format. Raises ConfigurationError.
    """
    selector = CertificateSelector(credentials)
    contexts = [_single_context(credential, alpn, keylog_file) for credential in credentials]
    by_credential = dict(zip(credentials, contexts, strict=True))

    def select(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        connection.context = by_credential[selector.select(name)]
        connection.server_name = name  # type: ignore[attr-defined]  # who asks finds it nowhere else
        return None

    default = contexts[0]
    default.credentials = tuple(credentials)
    default.sni_callback = select
    return default


def quic_identity(credential: Credential) -> QuicIdentity:
    """The credential as the QUIC side needs it."""
    return QuicIdentity(credential.leaf, list(credential.chain), credential.private_key)


def quic_identities(
    credentials: Sequence[Credential],
) -> Callable[[str | None], QuicIdentity]:
    """What `server_context` is for TCP: the identity for a server name, None being no name."""
    selector = CertificateSelector(credentials)
    identities = {credential: quic_identity(credential) for credential in credentials}
    return lambda name: identities[selector.select(name)]


def resolve_ssl(value: object, *, now: datetime | None = None) -> list[Credential]:
    """The credentials that an `ssl` argument stands for, the default first.

    Takes what Sanic takes: a context that can be traced to files, a dict with `cert`, `key` and
    `password`, a directory, or a list or tuple of these; a Credential stands for itself. Raises
    ConfigurationError.
    """
    match value:
        case Credential():
            return [value]
        case ssl.SSLContext():
            return _traced(value, now)
        case Mapping():
            return [_from_mapping(value, now)]
        case str() | os.PathLike():
            return [_from_directory(Path(value), now)]
        case []:
            raise ConfigurationError("ssl is an empty list: give at least one certificate")
        case list() | tuple():
            return [credential for item in value for credential in resolve_ssl(item, now=now)]
        case _:
            raise ConfigurationError(
                f"ssl cannot be of type {type(value).__name__}: give a dict with cert and key, "
                "a directory, or a list of them"
            )


def _single_context(
    credential: Credential, alpn: Sequence[str], keylog_file: str | None
) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.credentials = (credential,)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    _load_chain(context, credential)
    if keylog_file is not None:
        try:
            append_private(keylog_file).close()  # OpenSSL would create it with the umask's mode
            context.keylog_filename = keylog_file
        except OSError as error:
            raise ConfigurationError(
                f"key log file {keylog_file} cannot be written ({error.strerror or error}): "
                "name a file in a writable directory"
            ) from error
    return context


def _load_chain(context: ssl.SSLContext, credential: Credential) -> None:
    # load_cert_chain takes files only, and sends them as they are: a rearranged chain is written
    # out again, like one that never was in a file.
    certificate, key = credential.certificate_path, credential.key_path
    try:
        if certificate is not None and key is not None and credential.in_order:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, credential.key_password or b"")
        else:
            _load_from_memory(context, credential)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror
        raise ConfigurationError(
            f"OpenSSL does not accept the certificate {certificate or credential.fingerprint} "
            f"({reason}): check it with openssl x509, or have it issued again"
        ) from error


def _load_from_memory(context: ssl.SSLContext, credential: Credential) -> None:
    # Encrypted under a password that exists nowhere else: a crash before the unlink leaves
    # nothing behind that anybody can use.
    password = secrets.token_hex(32).encode()
    key = credential.private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )
    chain = (item.public_bytes(Encoding.PEM) for item in (credential.leaf, *credential.chain))
    descriptor, name = tempfile.mkstemp(prefix="tercel-", suffix=".pem")  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(b"".join((key, *chain)))
        context.load_cert_chain(name, password=password)
    finally:
        os.unlink(name)


def _traced(context: ssl.SSLContext, now: datetime | None) -> list[Credential]:
    if isinstance(context, ServerContext):
        return list(context.credentials)
    # Sanic's contexts say what they were made from: one certificate, or a selection of such.
    selected = getattr(context, "sanic_select", None)
    if selected:
        return [credential for item in selected for credential in resolve_ssl(item, now=now)]
    origin = getattr(context, "sanic", None)
    if isinstance(origin, Mapping) and origin.get("cert"):
        return [_from_mapping(origin, now)]
    raise ConfigurationError(
        "this SSLContext does not say which files it was loaded from, and QUIC needs them: "
        "pass ssl a dict with cert and key, or a directory, instead"
    )


def _from_mapping(value: Mapping[str, object], now: datetime | None) -> Credential:
    cert, key, password = value.get("cert"), value.get("key"), value.get("password")
    if not isinstance(cert, bytes | str | os.PathLike) or not cert:
        raise ConfigurationError("an ssl dict needs cert: give the path of the PEM certificate")
    if not isinstance(key, bytes | str | os.PathLike | None):
        raise ConfigurationError("key of an ssl dict is not a path: give the path of the PEM key")
    if not isinstance(password, bytes | str | None):
        raise ConfigurationError("password of an ssl dict is not text: give a str or bytes")
    return load_credential(cert, key or None, password, now=now)


def _from_directory(directory: Path, now: datetime | None) -> Credential:
    if directory.is_file():
        raise ConfigurationError(
            f"{directory} is a file: give the directory that holds fullchain.pem and privkey.pem, "
            "or a dict with cert and key"
        )
    if not directory.is_dir():
        raise ConfigurationError(f"certificate directory {directory} does not exist: check it")
    cert = _first_present(directory, _CERTIFICATE_FILES)
    key = _first_present(directory, _KEY_FILES)
    return load_credential(cert, key, now=now)


def _first_present(directory: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise ConfigurationError(f"{directory} has no {' or '.join(names)} in it: put one there")
