"""Which versions took part, as far as they say so."""

import platform
from collections.abc import Iterable
from importlib import metadata

from interop.peers import Client, Server
from interop.tools import version_of
from tercel.version import __version__

# Those that have no option that tells it (ngtcp2, quic-go) are left out.
_OPTIONS = {
    "nginx": "-v",
    "curl": "--version",
    "curl-openssl": "--version",
    "chromium": "--version",
    "firefox-esr": "--version",
}


def versions(peers: Iterable[Client | Server]) -> dict[str, str]:
    """By the peers' names, and those of what the checks and tercel run on."""
    found = {
        "tercel": __version__,
        "aioquic": metadata.version("aioquic"),
        "Python": platform.python_version(),
        "Linux": platform.release().partition("-")[0],
        "tshark": version_of("tshark"),
    }
    for peer in peers:
        if peer.missing() is None and peer.name not in found:
            found[peer.name] = _version(peer)
    return {name: text for name, text in found.items() if text}


def _version(peer: Client | Server) -> str:
    if isinstance(peer, Client) and peer.module:
        return metadata.version(peer.module)
    option = _OPTIONS.get(peer.tool)
    return "" if option is None else version_of(peer.tool, option)
