"""Which certificate answers for which server name (RFC 6066 3, RFC 6125 6.4).

Knows names only: nothing about sockets, contexts or where the name came from.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tercel.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from tercel.certs.load import Credential


class CertificateSelector:
    """Chooses a credential by server name; the first credential is the default."""

    __slots__ = ("_by_name", "_by_parent", "_default")

    def __init__(self, credentials: Sequence["Credential"]) -> None:
        """Raise ConfigurationError for an empty sequence."""
        if not credentials:
            raise ConfigurationError("no certificate was given: give at least one")
        self._default = credentials[0]
        self._by_name: dict[str, Credential] = {}
        self._by_parent: dict[str, Credential] = {}
        for credential in credentials:
            for name in map(_normalised, credential.names):
                if name.startswith("*."):
                    self._by_parent.setdefault(name[2:], credential)
                else:
                    self._by_name.setdefault(name, credential)

    def select(self, server_name: str | None) -> "Credential":
        """The credential for `server_name` (A-labels; None when the client sent no name).

        An exact name wins over a wildcard, an earlier credential over a later one.
        """
        if not server_name:
            return self._default
        name = _normalised(server_name)
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        # RFC 6125 6.4.3: the wildcard is the whole left-most label and stands for exactly one.
        label, _, parent = name.partition(".")
        return self._by_parent.get(parent, self._default) if label else self._default


def _normalised(name: str) -> str:
    return name.lower().removesuffix(".")
