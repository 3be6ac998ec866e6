"""The base class of protocols on a stream transport: transport, back-pressure, closing.

Knows no HTTP. `HttpProtocol` and users' own protocols derive from it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tercel.h1.tls import tls_extension
from tercel.h1.transfer import SUPPORTED, past_transport
from tercel.shared.apps.loader import wrap
from tercel.shared.bytestream import ByteStream
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.errors import ConfigurationError, ConnectionClosed, StreamAborted
from tercel.shared.flow import Wakeup, WriteGate
from tercel.shared.settings import Settings
from tercel.shared.sockets import unacknowledged_bytes
from tercel.shared.stream import Transfer
from tercel.shared.tasks import TaskSet

if TYPE_CHECKING:
    from tercel.shared.signals import Signal

# The interval at which a closing connection is checked. It is also the time that the peer has to
# close TLS on its side once it has received everything: clients that pool connections do so at
# their next request only, and need not (RFC 8446 6.1).
_CLOSE_LOOK_SECONDS = 0.5


class SanicProtocol(asyncio.Protocol):
    """One connection on TCP, TLS or a unix socket.

    `app` is the application as the server was given it. `connections` is the set of open
    connections. `unix` is the path of the listening unix socket, None on TCP. The server passes its
    `context` in `kwargs`; the other `kwargs` are for subclasses. Without a context the settings are
    the defaults, and `app` is served if it is an application of any kind.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        app: Any,
        signal: "Signal | None" = None,
        connections: set[Any] | None = None,
        unix: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.loop = loop
        self.app = app
        self.signal = signal
        self.connections: set[Any] = set() if connections is None else connections
        self.unix = unix
        context: ServerContext | None = kwargs.get("context")
        self.context = context or _own_context(app, loop)
        self.info = ConnectionInfo()
        self.transport: asyncio.Transport | None = None
        self.recv_buffer = bytearray()
        """Received data, for protocols that do not override `data_received`."""
        settings = self.context.settings
        self.write_gate = WriteGate(
            high=settings.max_unsent_bytes, low=settings.max_unsent_bytes // 4
        )
        """Writers wait here while too much data is unsent."""
        self._reading_paused = False
        self._received: Wakeup | None = None
        self._closed = asyncio.Event()
        self._abort_timer: asyncio.TimerHandle | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called when the connection is lost."""

    @property
    def ctx(self) -> SimpleNamespace:
        """A namespace for the application's own data about the connection."""
        return self.info.ctx

    # -- the transport's calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over `transport`."""
        self.transport = cast(asyncio.Transport, transport)
        self.info = _connection_info(self.transport, self.unix)
        self._limit_writing(self.context.settings.max_unsent_bytes)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone; `exc` is None for a regular end."""
        self.connections.discard(self)
        if self.on_lost is not None:
            self.on_lost()
        self.write_gate.close(ConnectionClosed("the connection is closed"))
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self._received is not None:
            self._received.set()
        self._closed.set()

    def data_received(self, data: bytes) -> None:
        """Keep `data` in `recv_buffer`; reading pauses above `max_receive_buffer_bytes`."""
        self.recv_buffer += data
        if len(self.recv_buffer) > self.context.settings.max_receive_buffer_bytes:
            self._pause_reading()
        if self._received is not None:
            self._received.set()

    def eof_received(self) -> bool | None:
        """Let the transport close: a peer that ends sending expects no more data."""
        return None

    def pause_writing(self) -> None:
        """Make writers wait: too much data is unsent."""
        self.write_gate.pause()

    def resume_writing(self) -> None:
        """Let writers continue."""
        self.write_gate.resume()

    # -- the application's side -----------------------------------------------------------------

    @property
    def byte_stream(self) -> ByteStream:
        """The connection as the byte stream of a WebSocket.

        A subclass has to pass received data on: `data_received`, `eof_received` and
        `connection_lost` have no receiver here.
        """
        return _ConnectionBytes(self)

    async def send(self, data: bytes) -> None:
        """Write `data` after `drain`. Raises as `drain` does."""
        await self.drain()
        assert self.transport is not None  # noqa: S101  # else drain had nothing to wait for
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until more may be written.

        Raises ConnectionClosed when the connection is closed. When the peer accepts no data for
        `send_timeout` seconds, aborts the connection and raises StreamAborted.
        """
        while True:
            unsent = self._unsent()
            if await self.write_gate.wait(self.context.settings.send_timeout):
                return
            if self._unsent() >= unsent:
                self.abort()
                raise StreamAborted("the client took nothing for send_timeout seconds")

    @property
    def takes_transfers(self) -> bool:
        """Whether `transfer` is available: not under TLS, and not on every system."""
        return SUPPORTED and not self.info.secure

    def transfer(self, transfer: Transfer, size: int) -> AsyncIterator[int]:
        """Let `transfer` send `size` bytes past the transport; yields the bytes sent each time."""
        assert self.transport is not None  # noqa: S101  # there is an exchange
        return past_transport(
            transfer,
            size,
            loop=self.loop,
            transport=self.transport,
            gate=self.write_gate,
            drain=self.drain,
        )

    async def receive_more(self) -> None:
        """Wait until more data arrives or the connection closes; resumes reading if paused."""
        if not self._closed.is_set():
            self._resume_reading()
            if self._received is None:
                self._received = Wakeup()
            await self._received.wait()

    def stop_accepting(self) -> None:
        """Finish the current exchange, then close. In this class there is none to finish."""
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """Close when all written data has been sent.

        The connection is aborted when that takes longer than `timeout` seconds. Without a `timeout`
        it is aborted when the peer accepts no data for `send_timeout` seconds, or has received
        everything and does not close TLS.
        """
        if self.transport is None or self._closed.is_set():
            return
        if not self.transport.is_closing():
            # A second call would make asyncio's TLS transport drop the state that is read below.
            self.transport.close()
        if timeout is not None:
            self._set_abort_timer(timeout, self.abort)
        elif self._abort_timer is None:
            # Encrypting the waiting data makes it larger, so the first check cannot be compared.
            self._watch_close(math.inf)

    def abort(self) -> None:
        """Close at once; unsent data is lost."""
        if self.transport is not None:
            self.transport.abort()

    def _watch_close(self, unsent_before: float, stalled: float = 0.0) -> None:
        """Check the closing connection repeatedly; `stalled` is the seconds without progress."""
        unsent = self._unsent()
        if unsent < unsent_before:
            stalled = 0.0
        limit = self.context.settings.send_timeout
        if stalled >= limit or (stalled and self._is_delivered()):
            self.abort()
            return
        seconds = min(_CLOSE_LOOK_SECONDS, limit - stalled)
        self._set_abort_timer(seconds, lambda: self._watch_close(unsent, stalled + seconds))

    def _is_delivered(self) -> bool:
        if self.transport is None or self._unsent():
            return False
        return unacknowledged_bytes(self.transport.get_extra_info("socket")) == 0

    def _set_abort_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._abort_timer = self.loop.call_later(seconds, callback)

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _limit_writing(self, limit: int) -> None:
        """Make writers wait while the transport buffers more than `limit` bytes."""
        # Not during a transfer, which has set the limit to 0 to get an empty buffer.
        if self.transport is not None and self.transport.get_write_buffer_limits()[1]:
            self.transport.set_write_buffer_limits(high=limit, low=limit // 4)

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()


class _ConnectionBytes(ByteStream):
    """A connection, seen as a stream of bytes."""

    def __init__(self, protocol: SanicProtocol) -> None:
        self.connection = protocol.info
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    @property
    def writable(self) -> bool:
        return not self._protocol.write_gate.paused

    @property
    def unsent(self) -> int:
        return self._protocol._unsent()

    async def drain(self) -> None:
        await self._protocol.drain()

    def pause_reading(self) -> None:
        self._protocol._pause_reading()

    def resume_reading(self) -> None:
        self._protocol._resume_reading()

    def write_eof(self) -> None:
        transport = self._protocol.transport
        if transport is None or not transport.can_write_eof():
            self.close()
        elif not transport.is_closing():
            transport.write_eof()

    def close(self) -> None:
        self._protocol.close()

    def abort(self) -> None:
        self._protocol.abort()


def _own_context(app: Any, loop: asyncio.AbstractEventLoop) -> ServerContext:
    """The context of a connection that a program has created itself, without a server."""
    settings, tasks = Settings(), TaskSet(loop)
    try:
        application = wrap(app, settings=settings, tasks=tasks, background=TaskSet(loop))
    except ConfigurationError:
        # A protocol other than HTTP may have any object as its app.
        return ServerContext(loop=loop, settings=settings, application=app)
    return ServerContext(
        loop=loop,
        settings=application.configure(settings),
        application=application,
        tasks=tasks,
    )


def _connection_info(transport: asyncio.Transport, unix: str | None) -> ConnectionInfo:
    peer = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    tls = transport.get_extra_info("ssl_object")
    # The name of a unix socket is a path or empty; an IP address is a tuple.
    is_ip = isinstance(local, tuple)
    return ConnectionInfo(
        client=peer[:2] if isinstance(peer, tuple) else None,
        server=local[:2] if is_ip else (unix or _path(local), None),
        secure=tls is not None,
        server_name=getattr(tls, "server_name", None) or "",
        tls=None if tls is None else tls_extension(tls),
        transport=transport,
    )


def _path(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name or "")
