"""Which certificate answers for which server name (RFC 6066 3, RFC 6125 6.4).

Knows names only: nothing about sockets or contexts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tercel.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from tercel.certs.load import Credential

# A ClientHello begins with its type, its length in three bytes, a version and 32 random bytes.
_AFTER_RANDOM = 1 + 3 + 2 + 32
# The extension's type, and the type of a name in it that is a host's.
_SERVER_NAME, _HOST_NAME = 0, 0


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


def server_name(client_hello: bytes) -> str | None:
    """The name that a whole ClientHello message asks for (RFC 8446 4.1.2, RFC 6066 3).

    None when it asks for none, and for a message that breaks the rules, which is left to whoever
    answers it.
    """
    try:
        position = _AFTER_RANDOM
        position += 1 + client_hello[position]  # legacy_session_id
        position += 2 + _number(client_hello, position)  # cipher_suites
        position += 1 + client_hello[position]  # legacy_compression_methods
        end = position + 2 + _number(client_hello, position)
        position += 2
        while position < end:
            kind, size = _number(client_hello, position), _number(client_hello, position + 2)
            if kind == _SERVER_NAME:
                # A list, in which there is one name at most of each type; only one type was made.
                begin = position + 9
                name = client_hello[begin : begin + _number(client_hello, position + 7)]
                is_host = client_hello[position + 6] == _HOST_NAME
                return name.decode("ascii") if is_host and name else None
            position += 4 + size
    except (IndexError, UnicodeDecodeError):
        pass
    return None


def _number(data: bytes, position: int) -> int:
    return data[position] << 8 | data[position + 1]


def _normalised(name: str) -> str:
    return name.lower().removesuffix(".")
