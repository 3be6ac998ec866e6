"""Violations of the peer that end a connection with an application's error code. No I/O."""

from tercel.shared.errors import RemoteProtocolError, Scope

EXCESSIVE_LOAD = 0x107
"""H3_EXCESSIVE_LOAD (RFC 9114 8.1): RFC 9000 has no code for a peer that exceeds what is
reasonable, and leaves it to the application protocol."""


class ApplicationCloseError(RemoteProtocolError):
    """The connection has to be closed with the application error code `code` (RFC 9000 20.2)."""

    scope = Scope.CONNECTION

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
