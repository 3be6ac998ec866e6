"""TcpAcceptor: accepts connections on TCP and unix sockets, and closes them when it stops.

Knows no application protocol; the protocol class does.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ssl import SSLContext
from typing import Any

from tercel.h1.accepting import Accepting
from tercel.h1.base import SanicProtocol
from tercel.h1.protocol import HttpProtocol
from tercel.shared.apps.https_redirect import HttpsRedirect
from tercel.shared.connection import ServerContext
from tercel.shared.flow import Wakeup
from tercel.shared.listener import Listener
from tercel.shared.signals import Signal

# The loop's own limit, 30 seconds, would discard data that a slow client has not received yet when
# its connection closes. `SanicProtocol.close` enforces a limit instead.
_TLS_CLOSE_SECONDS = 86_400.0

_LARGE_BLOCK_BYTES = 524_288


class TcpAcceptor(Listener):
    """Serves `protocol` on `sockets`, which are bound stream sockets.

    With `ssl` all of them use TLS. `protocol` is called with the keyword arguments of
    `HttpProtocol`, including `context`, and with `protocol_arguments`. A user's own class need not
    be a SanicProtocol; if it is not, its connections are not told that the server stops, and end at
    `close`. `connections` is the set of open connections. `asyncio_server_kwargs` go to the loop's
    `create_server`, which then accepts the connections, without the limits on their number.
    """

    def __init__(
        self,
        context: ServerContext,
        *,
        sockets: Sequence[socket.socket],
        ssl: SSLContext | None = None,
        protocol: type[asyncio.Protocol] = HttpProtocol,
        protocol_arguments: Mapping[str, Any] | None = None,
        app: Any = None,
        signal: Signal | None = None,
        connections: set[Any] | None = None,
        state: dict[str, Any] | None = None,
        backlog: int | None = None,
        asyncio_server_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._context = context
        self._sockets = list(sockets)
        self._ssl = ssl
        self._protocol = protocol
        self._protocol_arguments = dict(protocol_arguments or {})
        self._app = context.application if app is None else app
        self._signal = Signal() if signal is None else signal
        self._state = state
        self._backlog = context.settings.backlog if backlog is None else backlog
        self._server_kwargs = dict(asyncio_server_kwargs or {})
        self._connections = _Connections(connections)
        self._servers: list[asyncio.Server | Accepting] = []
        self._addresses = [_address(sock) for sock in self._sockets]

    @property
    def addresses(self) -> list[str]:
        """The addresses of the listening sockets, in the order of the sockets."""
        return self._addresses

    async def start(self) -> None:
        """Start to accept connections on all sockets, or on none."""
        if self._ssl is not None:
            _keep_read_buffers()
        try:
            for sock in self._sockets:
                self._servers.append(await self._serve(sock))
        except BaseException:
            self.close()
            raise

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return any(server.is_serving() for server in self._servers)

    def stop_accepting(self) -> None:
        """Close the listening sockets. Connections finish their exchange and close."""
        for server in self._servers:
            server.close()
        # Also for connections whose TLS handshake is still in progress.
        self._connections.welcome = _stop
        for connection in self._connections.copy():
            _stop(connection)

    async def drain(self, timeout: float) -> bool:
        """Wait until every connection has closed, `timeout` seconds at most; True if they have.

        A connection outlives its last exchange until the response has been sent.
        """
        deadline = self._context.loop.time() + timeout
        while self._connections:
            left = deadline - self._context.loop.time()
            if left <= 0 or not await self._connections.gone.wait(left):
                break
        return not self._connections

    def close(self) -> None:
        """Abort every connection and release the sockets."""
        self._connections.welcome = _abort
        for server in self._servers:
            server.close()
        for connection in self._connections.copy():
            _abort(connection)
        for sock in self._sockets:
            sock.close()

    async def wait_closed(self) -> None:
        """Return when every connection has closed."""
        for server in self._servers:
            if isinstance(server, Accepting):
                await server.wait_closed()
        while self._connections:
            await self._connections.gone.wait()

    async def _serve(self, sock: socket.socket) -> asyncio.Server | Accepting:
        unix = _unix_path(sock)
        arguments: dict[str, Any] = {"ssl": self._ssl}
        if self._ssl is not None:
            arguments["ssl_handshake_timeout"] = self._context.settings.header_timeout
            if issubclass(self._protocol, SanicProtocol):
                arguments["ssl_shutdown_timeout"] = _TLS_CLOSE_SECONDS
        factory = partial(self._connection, unix, self._context)
        if not self._server_kwargs:
            return Accepting(
                self._context,
                sock,
                factory,
                backlog=self._backlog,
                arguments=arguments,
                cleartext=None if self._ssl is None else self._redirecting(unix),
            )
        arguments = {"sock": sock, "backlog": self._backlog, **arguments, **self._server_kwargs}
        sock.setblocking(False)
        if unix is not None:
            return await self._context.loop.create_unix_server(factory, **arguments)
        return await self._context.loop.create_server(factory, **arguments)

    def _redirecting(self, unix: str | None) -> Callable[[], asyncio.Protocol] | None:
        """The protocol factory for clients that use cleartext where TLS is expected."""
        if not issubclass(self._protocol, HttpProtocol):
            return None
        context = self._context
        redirecting = ServerContext(
            loop=context.loop,
            settings=context.settings,
            application=HttpsRedirect(),
            response_fields=context.response_fields,
            clock=context.clock,
            wall_clock=context.wall_clock,
            limits=context.limits,
        )
        return partial(self._connection, unix, redirecting)

    def _connection(self, unix: str | None, context: ServerContext) -> asyncio.Protocol:
        return self._protocol(  # type: ignore[call-arg]
            loop=self._context.loop,
            app=self._app,
            signal=self._signal,
            connections=self._connections,
            state=self._state,
            unix=unix,
            context=context,
            **self._protocol_arguments,
        )


def _keep_read_buffers() -> None:
    # Both loops decrypt into a buffer of 256 KiB that they shrink at once. glibc maps and unmaps
    # such a block each time, until a larger block has been freed; then it keeps such blocks.
    # Measured: 15 of the 45 us of a small message.
    bytes(_LARGE_BLOCK_BYTES)


class _Connections(set[Any]):
    """The set of open connections, which add and remove themselves; `also` mirrors it."""

    def __init__(self, also: set[Any] | None) -> None:
        super().__init__()
        self.gone = Wakeup()
        """Set when a connection was removed."""
        self.welcome: Callable[[Any], None] | None = None
        """Called with each connection that is added from now on."""
        self._also: set[Any] = set() if also is None else also

    def add(self, connection: Any) -> None:
        super().add(connection)
        self._also.add(connection)
        if self.welcome is not None:
            self.welcome(connection)

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._also.discard(connection)
        self.gone.set()


def _stop(connection: Any) -> None:
    if isinstance(connection, SanicProtocol):
        connection.stop_accepting()


def _abort(connection: Any) -> None:
    if isinstance(connection, SanicProtocol):
        connection.abort()


def _address(sock: socket.socket) -> str:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return name.decode() if isinstance(name, bytes) else str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unix_path(sock: socket.socket) -> str | None:
    return _address(sock) if sock.family == getattr(socket, "AF_UNIX", None) else None
