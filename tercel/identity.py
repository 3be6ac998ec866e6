"""Selects the certificate that the server presents, for both TLS stacks.

Decides between a given certificate and the development certificate. `tercel.certs` loads and
creates certificates. Knows no sockets.
"""

import ipaddress
import ssl as tls
from collections.abc import Iterable
from dataclasses import dataclass

from tercel.certs.context import resolve_ssl, server_context
from tercel.certs.load import Credential, load_credential
from tercel.certs.selfsigned import DEFAULT_NAMES, DevelopmentCertificates, default_directory
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.sockets import HostPort


@dataclass(frozen=True, slots=True)
class Identity:
    """The certificates and the TLS context of the server."""

    credentials: tuple[Credential, ...]
    """The default first; none for an SSLContext of the caller that names no files."""
    context: tls.SSLContext
    """For TCP."""
    development: DevelopmentCertificates | None = None
    """The source of the certificate when none was given."""

    def warnings(self) -> list[str]:
        """Problems that clients may have with the certificate, one line each."""
        if self.development is not None:
            return []
        return [line for credential in self.credentials for line in credential.warnings()]


def resolve_identity(
    ssl: object, settings: Settings, addresses: Iterable[HostPort], *, http3: bool
) -> Identity:
    """The identity for a server at `addresses`.

    From `ssl` in any form that `serve` takes, else from the settings' certificate, else the
    development certificate, which is for loopback addresses only. Raises ConfigurationError.
    """
    if isinstance(ssl, tls.SSLContext):
        return _from_context(ssl, http3=http3)
    development = None
    if ssl is not None:
        credentials = resolve_ssl(ssl)
    elif settings.cert is not None:
        credentials = [load_credential(settings.cert, settings.key, settings.key_password)]
    elif settings.key is not None:
        raise ConfigurationError("--key without --cert: give the certificate, too")
    else:
        names = _development_names(addresses)
        development = DevelopmentCertificates(default_directory())
        credentials = [development.ensure(names)]
    context = server_context(credentials, keylog_file=settings.keylog_file)
    return Identity(tuple(credentials), context, development)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an IP address or a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        # RFC 6761 6.3: localhost, and every name below it, is the loopback address.
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")


def _from_context(context: tls.SSLContext, *, http3: bool) -> Identity:
    # TCP uses the caller's context as it is: it may have settings that no file contains.
    if not http3:
        return Identity((), context)
    if context.verify_mode is not tls.CERT_NONE:
        # QUIC would not request the client's certificate, so the check would not happen.
        raise ConfigurationError(
            "this SSLContext asks for client certificates, which HTTP/3 does not support here: "
            "serve version=1, or a context with verify_mode CERT_NONE"
        )
    return Identity(tuple(resolve_ssl(context)), context)


def _development_names(addresses: Iterable[HostPort]) -> tuple[str, ...]:
    names: list[str] = []
    for address in addresses:
        if not is_loopback(address.host):
            raise ConfigurationError(
                f"{address} can be reached from other machines, so it needs a certificate: give "
                "--cert and --key (ssl in a program), bind a loopback address, or serve cleartext "
                "HTTP/1.1 to a proxy by --plain-bind"
            )
        if address.host not in DEFAULT_NAMES:
            names.append(address.host)
    # The first name says which leaf it is, so one with further names is not the usual one.
    return (*dict.fromkeys(names), *DEFAULT_NAMES)
