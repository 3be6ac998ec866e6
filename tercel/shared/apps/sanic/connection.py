"""What a Sanic application sees of its connection: `request.transport` and `request.conn_info`.

One of each per connection, whatever its HTTP version. Knows no requests.
"""

import asyncio
from typing import Any

from sanic.models.server_types import ConnInfo

from tercel.shared.apps.sanic.types import SanicApp, SanicTransport
from tercel.shared.connection_info import ConnectionInfo


class SanicConnection:
    """The Sanic side of one connection."""

    __slots__ = ("_state", "beginning", "conn_info", "tasks", "transport")

    def __init__(self, app: SanicApp, info: ConnectionInfo) -> None:
        self.transport: SanicTransport = info.transport or StreamlessTransport(app, info)
        self.conn_info = ConnectionFacts(info, self.transport)
        self.beginning: asyncio.Task[None] | None = None
        """Dispatches http.lifecycle.begin; requests wait for its end."""
        self.tasks: set[asyncio.Task[None]] = set()
        """The requests that run, while http.lifecycle.complete has to come after them."""
        self._state: dict[str, Any] = getattr(info.protocol, "state", {})

    def count_request(self) -> None:
        """Count in the protocol's `state`, which the user may have given it to look at."""
        self._state["requests_count"] = self._state.get("requests_count", 0) + 1


class ConnectionFacts(ConnInfo):
    """Sanic's `conn_info`, made from what is known of the connection."""

    __slots__ = ()

    def __init__(self, info: ConnectionInfo, transport: SanicTransport) -> None:
        super().__init__(transport, unix=_unix_path(info))
        self.ctx = info.ctx
        self.ssl = info.secure
        self.server_name = self.server_name or info.server_name
        if self.network_paths is None:
            self.network_paths = []
        if info.server is not None and info.server[1] is not None:
            # Again, as Sanic takes a QUIC connection for one without TLS, whose port is 80.
            self.server = _host_port(*info.server, default=443 if info.secure else 80)


class StreamlessTransport(asyncio.Transport):
    """Stands for the transport of a QUIC connection, which has none of asyncio's kind."""

    def __init__(self, app: SanicApp, info: ConnectionInfo) -> None:
        super().__init__()
        self._app = app
        self._info = info

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the connection runs on."""
        return asyncio.get_running_loop()

    def get_protocol(self) -> Any:
        """The connection's `Http3Protocol`."""
        return self._info.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername`, `sockname`, `ssl_context` and `network_paths`; `default` for all else."""
        info = self._info
        if name == "peername":
            return info.client
        if name == "sockname":
            return info.server
        if name == "ssl_context":
            return self._app.state.ssl or default
        if name == "network_paths" and info.protocol is not None:
            return info.protocol.quic.network_paths
        return default

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        protocol = self._info.protocol
        return protocol is None or protocol.quic.close_event is not None

    def close(self) -> None:
        """Close the whole connection, its other requests included."""
        if self._info.protocol is not None:
            self._info.protocol.close()

    def abort(self) -> None:
        """The same: what was written may be lost."""
        self.close()


def _unix_path(info: ConnectionInfo) -> str | None:
    return info.server[0] if info.server is not None and info.server[1] is None else None


def _host_port(host: str, port: int | None, *, default: int) -> str:
    if ":" in host:
        host = f"[{host}]"
    return host if port == default else f"{host}:{port}"
