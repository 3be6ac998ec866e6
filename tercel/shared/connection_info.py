"""Facts about one connection of any HTTP version. Knows neither exchanges nor bytes."""

import asyncio
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tercel.shared.buffered import Account

Address = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class ConnectionInfo:
    """Facts about one connection that an application may ask for."""

    client: Address | None = None
    """The peer's IP address and port; None on a unix socket."""
    server: tuple[str, int | None] | None = None
    """The local IP address and port, or the path of a unix socket and None."""
    secure: bool = False
    """Whether TLS protects the connection."""
    server_name: str = ""
    """The host name that the client asked for in its TLS handshake (RFC 6066 3), if any."""
    tls: dict[str, Any] | None = None
    """The ASGI `tls` extension of a secure connection."""
    transport: asyncio.BaseTransport | None = None
    """The TCP transport; None for QUIC."""
    adapter: Any = None
    """State of the application's adapter for the connection."""
    ctx: SimpleNamespace = field(default_factory=SimpleNamespace)
    """State of the application for the connection."""
    account: Account = field(default_factory=Account)
    """The account of the bytes that the connection makes the server hold."""
    _protocol: weakref.ref[Any] | None = None

    @property
    def protocol(self) -> Any:
        """The connection itself, `HttpProtocol` or `Http3Protocol`.

        None for other types, and for a connection that has ended and is no longer referenced.
        """
        # Weakly: the connection knows its facts, and in a ring with them it would stay until the
        # garbage collector comes, and with it all that TLS holds for it.
        return None if self._protocol is None else self._protocol()

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = weakref.ref(protocol)

    @property
    def client_name(self) -> str:
        """The peer as `address:port`, for logs."""
        if self.client is None:
            return "unix"
        host, port = self.client
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
