"""The server's side of a TLS handshake: aioquic's, with the certificate chosen by SNI.

Uses private names of aioquic, with a canary in tests/quic/transport.
"""

from collections.abc import Callable
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.tls import Context

from tercel.certs.context import QuicIdentity
from tercel.certs.sni import server_name

_MOST_NAME_BYTES = 255

Identify = Callable[[str | None], QuicIdentity]
"""Maps the host name in SNI, None without one, to the identity to present."""


class ServerHandshake(Context):
    """The TLS state of one connection until its handshake is over."""

    def __init__(self, identify: Identify | None, **options: Any) -> None:
        """`options` are Context's. Without `identify`, every client gets Context's own identity."""
        self._begin(**options)
        self.server_name = ""
        """The host name in the client's SNI, if any."""
        self._identify = identify

    def _begin(self, **options: Any) -> None:
        super().__init__(is_client=False, **options)

    def _server_handle_hello(
        self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer
    ) -> None:
        self.show(server_name(input_buf.data_slice(0, input_buf.capacity)))
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)

    def show(self, name: str | None) -> None:
        """Present the identity for `name`, the host name in SNI, None without one."""
        # RFC 1035 2.3.4: no host has a longer name, and it is kept as long as the connection.
        self.server_name = name if name and len(name) <= _MOST_NAME_BYTES else ""
        if self._identify is not None:
            identity = self._identify(name)
            self.certificate = identity.certificate
            self.certificate_chain = identity.certificate_chain
            self.certificate_private_key = identity.private_key
