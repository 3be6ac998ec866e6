"""The lines that the command line prints at start: addresses, protocols, and how to trust them.

Only text: it reads the composition and changes nothing.
"""

import socket
from collections.abc import Iterator

from tercel.binding import Binding
from tercel.certs.load import Credential, spki_hash
from tercel.certs.selfsigned import DevelopmentCertificates
from tercel.identity import Identity, is_loopback
from tercel.serve import Composition
from tercel.shared.sockets import HostPort
from tercel.version import __version__

# True by default: Firefox disables HTTP/3 when it finds an imported authority.
_FIREFOX_PREFERENCE = "network.http.http3.disable_when_third_party_roots_found"
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  told apart here, not bound


def banner(composition: Composition, application: str, *, introduce: bool = True) -> str:
    """The lines for `composition`, which serves the application named `application`.

    With `introduce` they say how clients come to trust a development certificate, else where that
    is said.
    """
    lines = [f"tercel {__version__} serves {application}"]
    identity = composition.identity
    rows = [
        (_url(binding, identity), _protocols(binding))
        for binding in composition.bindings
        if not binding.preferred
    ]
    width = max(len(url) for url, _ in rows)
    lines += [f"  {url:<{width}}  {protocols}" for url, protocols in rows]
    if identity is not None:
        lines += _certificate(identity)
        secure = next((url for url, _ in rows if url.startswith("https:")), None)
        if identity.development is not None and secure is not None:
            first = next(binding for binding in composition.bindings if binding.secure)
            if introduce:
                lines += trust(identity.development, secure, http3=bool(first.sockets.udp))
            else:
                lines.append("how clients trust it: tercel certs")
    return "\n".join(lines)


def trust(development: DevelopmentCertificates, url: str, *, http3: bool = True) -> Iterator[str]:
    """How clients come to trust the development certificate of the server at `url`.

    With `http3` also what browsers need to use HTTP/3 with it: an authority that was imported is
    not enough for any of them.
    """
    authority = development.ca_path
    flags = f"--ignore-certificate-errors-spki-list={spki_hash(development.ca_certificate)}"
    yield "how clients trust it:"
    yield f"  curl      curl --cacert {authority} {url}/"
    if http3:
        yield f"            curl --http3-only --cacert {authority} {url}/   (a curl with HTTP/3)"
        # Chromium uses QUIC only with certificates of its own root store, unless it is forced.
        flags += f" --origin-to-force-quic-on={url.removeprefix('https://')}"
    yield f"  Chromium  chromium --user-data-dir=/tmp/tercel-chromium {flags} {url}/"
    yield f"  Firefox   Settings, Certificates, Authorities: import {authority}"
    if http3:
        yield f"            about:config, for HTTP/3: set {_FIREFOX_PREFERENCE} to false"
    yield f"  Safari    Keychain Access: import {authority}, Always Trust"
    if http3:
        yield "Without the flag, or the preference, Chromium and Firefox stay on HTTP/1.1."


def _url(binding: Binding, identity: Identity | None) -> str:
    if binding.unix is not None:
        return f"unix:{binding.unix}"
    scheme = "https" if binding.secure else "http"
    host = _shown_host(binding, identity)
    return f"{scheme}://{HostPort(host, binding.sockets.port)}"


def _shown_host(binding: Binding, identity: Identity | None) -> str:
    """A name that the certificate fits and that leads to the binding from this machine."""
    if is_loopback(binding.host) and identity is not None and identity.development is not None:
        return "localhost" if binding.host in ("127.0.0.1", "::1") else binding.host
    if binding.host not in _WILDCARDS:
        return binding.host
    names = [name for item in (identity.credentials if identity else ()) for name in item.names]
    if binding.secure:
        return next((name for name in names if not name.startswith("*")), socket.gethostname())
    return socket.gethostname()


def _protocols(binding: Binding) -> str:
    if binding.sockets.udp and binding.sockets.tcp:
        return "HTTP/3 on UDP, HTTP/1.1 on TCP"
    if binding.sockets.udp:
        return "HTTP/3 on UDP"
    return "HTTP/1.1" if binding.secure else "HTTP/1.1, cleartext"


def _certificate(identity: Identity) -> Iterator[str]:
    if not identity.credentials:
        yield "certificate: from the SSLContext"
    for credential in identity.credentials:
        kind = "development" if identity.development is not None else _origin(credential)
        names = ", ".join(credential.names) or "no name"
        until = credential.not_valid_after.strftime("%Y-%m-%d %H:%M UTC")
        yield f"certificate: {kind}, for {names}, valid until {until}"


def _origin(credential: Credential) -> str:
    return f"from {credential.certificate_path or 'memory'}"
