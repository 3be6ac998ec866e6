"""How long an HTTP/1.1 connection lives, and how it ends.

Owns its phase, its time limits, how much may wait on it, and what a fault brings about: an answer
where one is still possible, and the lingering close. Knows nothing of how requests are received.
"""

import asyncio
import socket
import struct
import sys
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, assert_never

from tercel.h1.base import SanicProtocol
from tercel.h1.deadline import Deadline
from tercel.h1.refusal import refusal_response
from tercel.h1.writer import JOIN_BYTES, Framing
from tercel.shared.buffered import COUNTED_FROM_BYTES
from tercel.shared.connection import HttpProtocolMixin
from tercel.shared.errors import (
    ConnectionClosed,
    RemoteProtocolError,
    RequestTimeout,
    ServerError,
)
from tercel.shared.logs import logger
from tercel.shared.messages import ResponseHead
from tercel.shared.stream import SendState

if TYPE_CHECKING:
    from tercel.h1.parser import RequestParser
    from tercel.h1.stream import H1RequestStream
    from tercel.h1.unsent import UnsentBytes

log = logger("tercel.h1")

# How much longer than the last answer a connection is read, and how many bytes are read and
# dropped then: closing with unread data resets the connection, and the client might lose the
# answer (RFC 9112 9.6).
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1_048_576

# How many bytes are written before it is asked again whether they are still here: that takes up to
# a microsecond and a half.
_UNCOUNTED_BYTES = 16_384
# What is left of a window at the least when all of them are narrow.
_LEAST_WINDOW_BYTES = 16_384

# There `writelines` of asyncio's transports never pauses who writes (CVE-2024-12254).
_HAS_ENDLESS_WRITELINES = (3, 12) <= sys.version_info < (3, 12, 9) or (
    (3, 13) <= sys.version_info < (3, 13, 2)
)


class Phase(Enum):
    """What the connection is doing."""

    NEW = auto()
    """Nothing was received yet."""
    HEAD = auto()
    """A request's head is arriving."""
    EXCHANGE = auto()
    IDLE = auto()
    """Between exchanges."""
    UPGRADED = auto()
    """The bytes are another protocol's (RFC 9110 7.8), and the exchange is the last."""
    LINGERING = auto()
    """Everything was written; what arrives is dropped until the client closes."""
    CLOSED = auto()


# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_IDLE: Final = Phase.IDLE
_LINGERING: Final = Phase.LINGERING
_CLOSED: Final = Phase.CLOSED
_ENDED: Final = SendState.ENDED


class ConnectionLifetime(HttpProtocolMixin, SanicProtocol):
    """What of an HTTP/1.1 connection is about its time and its end. Parameters: SanicProtocol's."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, app: Any, **kwargs: Any) -> None:
        super().__init__(loop=loop, app=app, **kwargs)
        self.streams = {}
        self._settings = self.context.settings
        self._parser: RequestParser | None = None
        self._stream: H1RequestStream | None = None
        self._phase = Phase.NEW
        self._stopping = False
        self._half_closed = False
        self._unsent_before = 0
        self._lingered = 0
        self._head_since = 0.0
        self._written = 0
        """Bytes that were given to the transport."""
        self._count_at = _UNCOUNTED_BYTES
        """How many of them make it worth to count what is buffered."""
        self._consumed = 0
        """Bytes of content that applications have taken."""
        self._unsent_bytes: UnsentBytes | None = None
        self._unsent_counted = 0
        """What of the written bytes was not in the kernel's hands then."""
        self._narrowing = 0
        self._deadline = Deadline(loop, clock=self.context.clock, check=self.check_timeouts)

    def write(self, buffers: list[bytes]) -> None:
        """Send `buffers` in order; nothing happens when the connection is closing."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if len(buffers) == 1:
            size = len(buffers[0])
            transport.write(buffers[0])
        elif _HAS_ENDLESS_WRITELINES or (size := sum(map(len, buffers))) <= JOIN_BYTES:
            data = b"".join(buffers)
            size = len(data)
            transport.write(data)
        else:
            transport.writelines(buffers)
        self._written += size
        if self._written > self._count_at:
            self.count_buffers()

    def may_persist(self) -> bool:
        """Whether another request may follow on this connection (RFC 9112 9.3)."""
        return not (
            self._stopping
            or not self._settings.keep_alive_timeout
            or (self._half_closed and not self._buffered())
            or (self.signal is not None and self.signal.stopped)
        )

    # -- faults -----------------------------------------------------------------------------------

    def _fail(self, error: RemoteProtocolError) -> None:
        """Answer a fault of the client where that is still possible, and close."""
        if self._phase in (_LINGERING, _CLOSED):
            return
        log.debug("%s: %s", self.info.client_name, error)
        self._refuse(error, error.status)

    def _abandon(self, error: ServerError) -> None:
        """End the exchange, if there is one, and tell the application why."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.receive_abort(error)
            self._finish(stream.stream_id)

    def _refuse(self, error: ServerError, status: int | None) -> None:
        """End the exchange by an answer of `status` if nothing was written, and the connection."""
        stream = self._stream
        if stream is not None and stream.writer.framing is not None:
            ended, framing = stream.send_state is _ENDED, stream.writer.framing
            self._abandon(error)
            if ended:
                self._linger()
            else:
                self._truncate(framing)
            return
        if status is None:
            self._abandon(error)
            self.close()
            return
        response, size = refusal_response(
            status,
            request=None if stream is None else stream.head,
            response_fields=self.context.response_fields,
            advertise=self.info.secure,
        )
        if stream is not None:
            stream.response, stream.content_sent = ResponseHead(status, []), size
        elif isinstance(error, RemoteProtocolError):
            self._log_refusal(error, status=status, size=size, seconds=self._head_seconds())
        self._abandon(error)
        self.write(response)
        self._linger()

    def _head_seconds(self) -> float:
        """How long the head that arrives has been arriving."""
        return self.context.clock() - self._head_since if self._phase is Phase.HEAD else 0.0

    def _truncate(self, framing: Framing) -> None:
        """Close so that the client sees that the response is not whole."""
        if framing in (Framing.CLOSE, Framing.UPGRADED) and self.transport is not None:
            # The end of the connection is what ends this content: only a reset is none.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.abort()
        else:
            self.close()

    # -- the end of the connection --------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Begin no further exchange: the response under way says `connection: close`."""
        self._stopping = True
        self._tell_going_away()
        if self.transport is not None:
            self.close_if_idle()

    def close_if_idle(self) -> bool:
        """Close the connection unless a request or its response is under way; True if closed."""
        if self._phase in (Phase.NEW, _IDLE) and not self._buffered():
            self.close()
        return self._phase is _CLOSED

    def close(self, timeout: float | None = None) -> None:
        """Close when what was written has been sent, or after `timeout` seconds."""
        self._phase = _CLOSED
        self._deadline.cancel()
        super().close(timeout)

    def _linger(self) -> None:
        """Close, but go on reading for a while so that the client can read the answer."""
        transport = self.transport
        if transport is None or self._phase in (_LINGERING, _CLOSED):
            return
        if self._half_closed or transport.is_closing():
            self.close()
            return
        self._phase = _LINGERING
        self._deadline.set(_LINGER_SECONDS)
        self._resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def _drop(self, data: bytes) -> None:
        """Read on, for no more than the limit, what nobody wants any more."""
        self._lingered += len(data)
        if self._lingered > _LINGER_BYTES:
            self.close()

    # -- time and memory ------------------------------------------------------------------------

    def check_timeouts(self) -> None:
        """Enforce the time limit of what is going on. Runs by itself when one may be over."""
        if self._deadline.expired():
            self._deadline.at = None
            self._time_out()
        self._deadline.rearm()

    def _time_out(self) -> None:
        match self._phase:
            case Phase.HEAD:
                error = RequestTimeout("the head did not arrive within header_timeout")
                if self._parser is not None:
                    error.request_line = self._parser.request_line
                self._fail(error)
            case Phase.EXCHANGE:
                self._fail(RequestTimeout("the content did not arrive within content_timeout"))
            case Phase.IDLE if 0 < self._unsent() != self._unsent_before:
                # The last response is still on its way to a slow client.
                self._unsent_before = self._unsent()
                self._deadline.set(self._settings.send_timeout)
            case Phase.NEW | Phase.IDLE | Phase.LINGERING:
                self.close()
            case Phase.UPGRADED | Phase.CLOSED:
                pass
            case _:
                assert_never(self._phase)

    def count_buffers(self) -> None:
        """Say what the connection makes the server hold, and follow what windows may be."""
        if self._unsent_bytes is None:
            return
        self._unsent_counted = self._unsent_bytes.measure(self._written)
        self._settle_account(self._unread())

    def _settle_account(self, unread: int) -> None:
        unsent = self._unsent_counted
        account = self.info.account
        account.settle(unsent + unread, self._written - unsent + self._consumed)
        self._count_at = self._written + (0 if account.held else _UNCOUNTED_BYTES)
        narrowing = self.context.limits.buffers.narrowing
        if narrowing != self._narrowing and self.transport is not None:
            self._narrowing = narrowing
            most = max(self._settings.max_unsent_bytes >> narrowing, _LEAST_WINDOW_BYTES)
            self._limit_writing(min(most, self._settings.max_unsent_bytes))

    def give_up_buffers(self) -> None:
        """Abort the connection for what it makes the server hold."""
        # Not in the call stack of whoever needs the memory: it may be this one's exchange.
        self.loop.call_soon(self._give_up_buffers)

    def _give_up_buffers(self) -> None:
        self._abandon(ConnectionClosed("too much waits for the client"))
        self._phase = _CLOSED
        self._deadline.cancel()
        self.abort()

    def _limit_reading(self) -> None:
        """Pause reading while too much waits to be parsed or to be read by the application."""
        unread = self._unread()
        if unread >= COUNTED_FROM_BYTES or self.info.account.held:
            self._settle_account(unread)
        # What has come of a request that is not whole has limits of its own.
        waiting = 0 if self._parser is None else self._parser.waiting
        if self._stream is not None:
            waiting += self._stream.content.size
        most = self._settings.max_receive_buffer_bytes
        limit = max(most >> self._narrowing, min(most, _LEAST_WINDOW_BYTES))
        if waiting > limit:
            self._pause_reading()
        elif self._reading_paused and waiting <= limit // 2:
            self._resume_reading()

    def _unread(self) -> int:
        """Bytes that wait to be parsed, or to be read by the application."""
        return self._buffered() + (0 if self._stream is None else self._stream.content.size)

    def _buffered(self) -> int:
        return 0 if self._parser is None else len(self._parser.unparsed)
