"""How long an HTTP/1.1 connection lives, and how it ends.

Owns its phase, its time limits, its buffer limits, and the handling of faults: an error response
where one is still possible, and the lingering close. Does not parse requests.
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

# After the last response a connection is read for this many seconds, and up to this many bytes are
# dropped: closing with unread data resets the connection, and the client might lose the response
# (RFC 9112 9.6).
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1_048_576

# Bytes that are written before the unsent ones are measured again: measuring takes up to a
# microsecond and a half.
_UNCOUNTED_BYTES = 16_384
# The minimum size of a window when all windows are narrowed.
_LEAST_WINDOW_BYTES = 16_384

# In these versions `writelines` of asyncio's transports never pauses the writer (CVE-2024-12254).
_HAS_ENDLESS_WRITELINES = (3, 12) <= sys.version_info < (3, 12, 9) or (
    (3, 13) <= sys.version_info < (3, 13, 2)
)


class Phase(Enum):
    """The state of the connection."""

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
    """Everything was written; received data is dropped until the client closes."""
    CLOSED = auto()


# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_IDLE: Final = Phase.IDLE
_LINGERING: Final = Phase.LINGERING
_CLOSED: Final = Phase.CLOSED
_ENDED: Final = SendState.ENDED


class ConnectionLifetime(HttpProtocolMixin, SanicProtocol):
    """The time limits and the end of an HTTP/1.1 connection. Parameters: SanicProtocol's."""

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
        """Bytes that were passed to the transport."""
        self._count_at = _UNCOUNTED_BYTES
        """The value of `_written` at which buffered bytes are counted next."""
        self._consumed = 0
        """Bytes of content that applications have read."""
        self._unsent_bytes: UnsentBytes | None = None
        self._unsent_counted = 0
        """Written bytes that the kernel had not accepted at the last count."""
        self._narrowing = 0
        self._deadline = Deadline(loop, clock=self.context.clock, check=self.check_timeouts)

    def write(self, buffers: list[bytes]) -> None:
        """Send `buffers` in order; does nothing when the connection is closing."""
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

    def write_one(self, data: bytes) -> None:
        """Send `data`, as `write` does: a frame of a WebSocket, which needs nothing joined."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        self._written += len(data)
        if self._written > self._count_at:
            self.count_buffers()

    # -- faults -----------------------------------------------------------------------------------

    def _fail(self, error: RemoteProtocolError) -> None:
        """Respond to a fault of the client where that is still possible, and close."""
        if self._phase in (_LINGERING, _CLOSED):
            return
        log.debug("%s: %s", self.info.client_name, error)
        self._refuse(error, error.status)

    def _abandon(self, error: ServerError) -> None:
        """End the exchange, if there is one, with `error` for the application."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.receive_abort(error)
            self._finish(stream.stream_id)

    def _refuse(self, error: ServerError, status: int | None) -> None:
        """End exchange and connection, with a response of `status` if nothing was written."""
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
        """Seconds since the first byte of the incomplete head arrived."""
        return self.context.clock() - self._head_since if self._phase is Phase.HEAD else 0.0

    def _truncate(self, framing: Framing) -> None:
        """Close so that the client sees that the response is incomplete."""
        if framing in (Framing.CLOSE, Framing.UPGRADED) and self.transport is not None:
            # This content ends with the connection, so only a reset shows that it is incomplete.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.abort()
        else:
            self.close()

    # -- the end of the connection --------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Begin no further exchange: the current response gets `connection: close`."""
        self._stopping = True
        self._tell_going_away()
        if self.transport is not None:
            self.close_if_idle()

    def close_if_idle(self) -> bool:
        """Close the connection unless it has a request or response in progress; True if closed."""
        if self._phase in (Phase.NEW, _IDLE) and not self._buffered():
            self.close()
        return self._phase is _CLOSED

    def close(self, timeout: float | None = None) -> None:
        """Close when all written data has been sent, or after `timeout` seconds."""
        self._phase = _CLOSED
        self._deadline.cancel()
        super().close(timeout)

    def _linger(self) -> None:
        """Close, but continue reading for a while so that the client can read the response."""
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
        """Drop `data` that arrives while lingering; close above the limit."""
        self._lingered += len(data)
        if self._lingered > _LINGER_BYTES:
            self.close()

    # -- time and memory ------------------------------------------------------------------------

    def check_timeouts(self) -> None:
        """Enforce the time limit of the current phase. Called by the deadline's timer."""
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
                # The last response is still being sent to a slow client.
                self._unsent_before = self._unsent()
                self._deadline.set(self._settings.send_timeout)
            case Phase.NEW | Phase.IDLE | Phase.LINGERING:
                self.close()
            case Phase.UPGRADED | Phase.CLOSED:
                pass
            case _:
                assert_never(self._phase)

    def count_buffers(self) -> None:
        """Update the account of buffered bytes, and apply the current size of windows."""
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
        """Abort the connection because of the memory that its buffers use."""
        # Not in the caller's stack: the caller may be this connection's own exchange.
        self.loop.call_soon(self._give_up_buffers)

    def _give_up_buffers(self) -> None:
        self._abandon(ConnectionClosed("too much waits for the client"))
        self._phase = _CLOSED
        self._deadline.cancel()
        self.abort()

    def _limit_reading(self) -> None:
        """Pause reading while too much data is not parsed, or not read by the application."""
        unread = self._unread()
        if unread >= COUNTED_FROM_BYTES or self.info.account.held:
            self._settle_account(unread)
        # An incomplete request has limits of its own.
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
        """Bytes that are not parsed yet, or not read by the application."""
        return self._buffered() + (0 if self._stream is None else self._stream.content.size)

    def _buffered(self) -> int:
        return 0 if self._parser is None else len(self._parser.unparsed)
