"""Accepts connections on one listening socket, within the limits of the server.

The loop's own server would complete every TLS handshake before a limit could be checked, and log
a line a second while no file descriptor is left. Knows no application protocol.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tercel.h1.base import SanicProtocol
from tercel.shared.connection import ServerContext
from tercel.shared.logs import logger
from tercel.shared.tasks import TaskSet

log = logger("tercel.h1")

# Connections accepted in one loop iteration.
_BATCH = 64
# Resources that are exhausted for all sockets of the process, until other connections close.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
PAUSE_SECONDS = 0.5
# RFC 8446 5.1: the content type of the record that a TLS connection begins with.
_TLS_HANDSHAKE = b"\x16"


class Accepting:
    """Accepts connections on `sock` and calls `factory` for the protocol of each.

    `arguments` go to the loop's `connect_accepted_socket`.
    """

    def __init__(
        self,
        context: ServerContext,
        sock: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        *,
        backlog: int,
        arguments: Mapping[str, Any],
        cleartext: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        """`cleartext` is the factory for connections that do not begin with a TLS handshake.

        They get none of the `arguments`. Without `cleartext` the first byte is not checked.
        """
        self._context = context
        self._sock = sock
        self._factory = factory
        self._arguments = arguments
        self._cleartext = cleartext
        self._tasks = TaskSet(context.loop)
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(backlog)
        self._resume()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._sock.fileno() >= 0

    def close(self) -> None:
        """Accept no more connections; handshakes in progress continue."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._sock.fileno() >= 0:
            self._context.loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def wait_closed(self) -> None:
        """Cancel the handshakes in progress, and wait until they have ended."""
        await self._tasks.cancel_all()

    def _resume(self) -> None:
        self._pause = None
        self._context.loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._context.limits.meet("file descriptors")
                    self._rest()
                    return
                continue  # the client has gone meanwhile (accept(2): treat it like EAGAIN)
            except MemoryError:
                self._context.limits.memory_ran_out()
                self._rest()
                return
            self._accept(sock, address[0] if isinstance(address, tuple) else None)

    def _rest(self) -> None:
        """Leave new connections in the kernel's backlog until others have closed."""
        loop = self._context.loop
        loop.remove_reader(self._sock.fileno())
        self._pause = loop.call_later(PAUSE_SECONDS, self._resume)

    def _accept(self, sock: socket.socket, host: str | None) -> None:
        if not self._context.limits.open_connection(host):
            # After a reset neither side keeps state (TIME_WAIT) for the connection.
            if host is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            return
        sock.setblocking(False)
        leave = _Once(partial(self._context.limits.close_connection, host))
        self._tasks.spawn(self._connect(sock, leave), name="accept")

    async def _connect(self, sock: socket.socket, leave: "_Once") -> None:
        """Perform the TLS handshake, if any, and start the connection."""
        counted = False
        try:
            factory, arguments = self._factory, self._arguments
            if self._cleartext is not None and not await self._begins_tls(sock):
                factory, arguments = self._cleartext, {}
            protocol = factory()
            if isinstance(protocol, SanicProtocol):
                counted = True
                protocol.on_lost = leave
            await self._context.loop.connect_accepted_socket(lambda: protocol, sock, **arguments)
        except OSError as error:
            leave()
            sock.close()
            log.debug("handshake failed: %s", error)
        except BaseException as error:
            # Cancelled, or out of memory.
            leave()
            sock.close()
            if not isinstance(error, MemoryError):
                raise
            self._context.limits.memory_ran_out()
        else:
            if not counted:
                leave()  # no callback will report its end

    async def _begins_tls(self, sock: socket.socket) -> bool:
        """Whether the first byte is that of a TLS handshake. The byte is peeked, not consumed.

        Raises TimeoutError, an OSError, when none has arrived within `header_timeout`.
        """
        loop = self._context.loop
        async with asyncio.timeout(self._context.settings.header_timeout):
            while True:
                try:
                    return sock.recv(1, socket.MSG_PEEK) in (_TLS_HANDSHAKE, b"")
                except (BlockingIOError, InterruptedError):
                    pass
                readable = asyncio.Event()
                loop.add_reader(sock.fileno(), readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(sock.fileno())


class _Once:
    """Calls its callback the first time only."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
