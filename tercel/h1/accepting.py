"""Accepts connections on one listening socket, within the limits of the server.

The loop's own server would shake hands with whoever comes before anybody is asked, and log a line
a second while no file descriptor is left. Knows nothing of what is said on a connection.
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

# Connections taken before other work gets its turn.
_BATCH = 64
# What is missing then is missing for all sockets of the process, and comes back when others close.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
PAUSE_SECONDS = 0.5


class Accepting:
    """Makes a connection by `factory` for each that comes in on `sock`.

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
    ) -> None:
        self._context = context
        self._sock = sock
        self._factory = factory
        self._arguments = arguments
        self._tasks = TaskSet(context.loop)
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(backlog)
        self._resume()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._sock.fileno() >= 0

    def close(self) -> None:
        """Accept no more; handshakes that are under way go on."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._sock.fileno() >= 0:
            self._context.loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def wait_closed(self) -> None:
        """End the handshakes that are under way, too."""
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
        """Let connections wait in the kernel until others have closed."""
        loop = self._context.loop
        loop.remove_reader(self._sock.fileno())
        self._pause = loop.call_later(PAUSE_SECONDS, self._resume)

    def _accept(self, sock: socket.socket, host: str | None) -> None:
        if not self._context.limits.open_connection(host):
            # A reset costs neither side a state to wait for.
            if host is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            return
        sock.setblocking(False)
        leave = _Once(partial(self._context.limits.close_connection, host))
        self._tasks.spawn(self._connect(sock, leave), name="accept")

    async def _connect(self, sock: socket.socket, leave: "_Once") -> None:
        """Shake hands, and begin the connection."""
        counted = False
        try:
            protocol = self._factory()
            if isinstance(protocol, SanicProtocol):
                counted = True
                protocol.on_lost = leave
            await self._context.loop.connect_accepted_socket(
                lambda: protocol, sock, **self._arguments
            )
        except OSError as error:
            leave()
            sock.close()
            log.debug("handshake failed: %s", error)
        except BaseException as error:
            # Cancelled, or without the memory for it.
            leave()
            sock.close()
            if not isinstance(error, MemoryError):
                raise
            self._context.limits.memory_ran_out()
        else:
            if not counted:
                leave()  # nobody will say when it ends


class _Once:
    """Calls back the first time only."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
