"""The ASGI `tls` extension of a TCP connection: the parameters negotiated in the handshake."""

import ssl
from typing import Any

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

# RFC 4514 3: the short names of attribute types.
_ATTRIBUTES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}

# Name -> number, for every suite that a context offered; listing them takes 50 us each time.
_suites: dict[str, int] = {}


def tls_extension(tls: ssl.SSLObject | ssl.SSLSocket) -> dict[str, Any]:
    """The extension's keys (ASGI TLS extension 0.2). A client's certificate is included only if it
    was requested and verified, since the handshake fails with any other.
    """
    certificate = tls.getpeercert()
    cipher = tls.cipher()
    return {
        "server_cert": None,
        "client_cert_chain": _chain(tls),
        "client_cert_name": _distinguished_name(certificate) if certificate else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": None if cipher is None else _cipher_suite(cipher[0], tls.context),
    }


def _chain(tls: ssl.SSLObject | ssl.SSLSocket) -> list[str]:
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return []
    # Python 3.13 has the whole chain; before, there is only the leaf.
    whole = getattr(tls, "get_verified_chain", None)
    return [ssl.DER_cert_to_PEM_cert(der) for der in (whole() if whole else [leaf])]


def _distinguished_name(certificate: dict[str, Any]) -> str:
    """The subject as RFC 4514 writes it: the most specific name first."""
    names = []
    for attributes in reversed(certificate.get("subject", ())):
        pairs = (f"{_ATTRIBUTES.get(key, key)}={_escaped(value)}" for key, value in attributes)
        names.append("+".join(pairs))
    return ",".join(names)


def _escaped(value: str) -> str:
    # RFC 4514 2.4.
    text = "".join(f"\\{char}" if char in '"+,;<>\\' else char for char in value)
    text = text.replace("\0", "\\00")
    if text.endswith(" "):
        text = text[:-1] + "\\ "
    return f"\\{text}" if text.startswith((" ", "#")) else text


def _cipher_suite(name: str, context: ssl.SSLContext) -> int | None:
    """The number of a cipher suite in the TLS registry."""
    if name not in _suites:
        # OpenSSL puts 0x0300 before the two bytes of the registry.
        _suites.update((each["name"], int(each["id"]) & 0xFFFF) for each in context.get_ciphers())
    return _suites.get(name)
