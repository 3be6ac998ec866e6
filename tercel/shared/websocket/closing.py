"""How a WebSocket ends (RFC 6455 7): the closing handshake, its time limit, and every other way.

Owns the state of both sides and the reason of the end. Does not decide to close: the application,
the peer or a protocol error does.
"""

from functools import partial
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.protocol import State
from websockets.server import ServerProtocol

from tercel.shared.errors import ServerError
from tercel.shared.flow import Wakeup
from tercel.shared.logs import logger
from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.input import FrameInput
from tercel.shared.websocket.pings import PendingPings
from tercel.shared.websocket.timers import CloseTimer, Keepalive

if TYPE_CHECKING:
    from tercel.shared.websocket.output import FrameOutput

log = logger("tercel.websocket")

NORMAL = 1000
GOING_AWAY = 1001
NO_STATUS = 1005
ABNORMAL = 1006
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011

_REGULAR = frozenset((NORMAL, GOING_AWAY, NO_STATUS))


class Closing:
    """The closing of one connection, from its start until the byte stream is closed."""

    def __init__(
        self,
        protocol: ServerProtocol,
        *,
        assembler: WebsocketFrameAssembler,
        input: FrameInput,
        keepalive: Keepalive,
        pings: PendingPings,
        timeout: float,
    ) -> None:
        self.begun = False
        """Whether a close frame was sent, or this side has ended."""
        self.lost = False
        """Whether the byte stream is closed."""
        self.reading = True
        """Whether the application may still read the peer's messages."""
        self.changed = Wakeup()
        """Set when `begun` or `lost` is."""
        self.output: FrameOutput | None = None
        """Set by the owner when there is a byte stream."""
        self._protocol = protocol
        self._assembler = assembler
        self._input = input
        self._keepalive = keepalive
        self._pings = pings
        self._timeout = timeout
        self._timer: CloseTimer | None = None

    @property
    def open(self) -> bool:
        """Whether the application may send."""
        output = self.output
        return output is not None and output.open

    def error(self) -> ConnectionClosed:
        """The exception for an application that uses the connection after its end."""
        return _error_of(self._protocol)

    def ending(self, lost: ServerError | None) -> str:
        """The close code and reason, for the access log; empty for a regular end.

        `lost` is the reason of the byte stream's end, where neither side has closed it.
        """
        error = self.error()
        if isinstance(error, ConnectionClosedOK):
            return ""
        first = error.rcvd if error.rcvd_then_sent or error.sent is None else error.sent
        if first is None or (error.rcvd is None and first.code in _REGULAR):
            # RFC 6455 7.1.5: the close code of the connection is the one that the peer sent.
            code, reason = ABNORMAL, "no close frame" if lost is None else str(lost)
        else:
            code, reason = first.code, first.reason
        return f"closed with {code}: {reason}" if reason else f"closed with {code}"

    def begin(self, output: "FrameOutput") -> None:
        """A close frame was sent: limit the peer's time for the rest of the handshake."""
        if self.begun:
            return
        self.begun = True
        self._keepalive.stop()
        self._timer = CloseTimer(
            output.stream, timeout=self._timeout, loop=output.loop, overdue=self._overdue
        )
        self.changed.set()

    def read_no_more(self) -> None:
        """Drop messages that nobody will read: the peer's close frame follows them."""
        self.reading = False
        if self._input.paused:
            self._assembler.discard()

    def output_ended(self, output: "FrameOutput") -> None:
        """This side sends nothing more; the peer may still close regularly (RFC 6455 7.1.1)."""
        self._finish_input()
        output.stream.write_eof()
        self.begin(output)
        if self._input.paused:
            self._input.paused = False
            output.stream.resume_reading()

    def input_ended(self) -> None:
        """The peer's side has ended, and all received bytes are parsed."""
        if self._protocol.state is State.CLOSED:
            return
        regular = self._input.over
        self._protocol.receive_eof()
        self._protocol.data_to_send()
        self._finish_input()
        if not self.lost:
            if regular and self.output is not None:
                self.output.stream.close()
            else:
                self.drop_output()
        self._let_go()
        self.changed.set()

    def drop_output(self) -> None:
        """Abort the byte stream. Data received before it is closed is still processed."""
        self._keepalive.stop()
        if self.output is not None and not self.lost:
            self.output.stop()
            self.output.stream.abort()

    def abort(self, reason: str = "") -> None:
        """End both sides without a close frame (close code 1006)."""
        protocol = self._protocol
        if protocol.state is not State.CLOSED:
            protocol.fail(ABNORMAL, reason)
            protocol.receive_eof()
            protocol.data_to_send()
        self._finish_input()
        self._stop_timers()
        self.drop_output()
        self.changed.set()

    def connection_lost(self) -> None:
        """The byte stream is closed. Messages received before can still be read."""
        if self.lost:
            return
        self.lost = True
        self._stop_timers()
        if self.output is not None:
            self.output.stop()
        if not self._input.blocked:
            self.input_ended()
        self._pings.abort(self.error)
        self._let_go()
        self.changed.set()

    def _finish_input(self) -> None:
        self._input.stop()
        # Not the method: that would be a reference cycle.
        self._assembler.end(partial(_error_of, self._protocol))

    def _overdue(self) -> bool:
        if self._input.paused and self.reading:
            return False  # its close frame may follow messages the application is still reading
        log.info("the peer did not complete the closing handshake in %s seconds", self._timeout)
        self.abort()
        return True

    def _stop_timers(self) -> None:
        self._keepalive.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        """Break the library's reference cycles, once it gets no further bytes.

        Its parser is a generator that refers to the protocol, and so do the tracebacks of the
        parser's exceptions. These would keep the protocol and its compression buffers in memory
        until the garbage collector runs.
        """
        protocol = self._protocol
        if self.lost and protocol.state is State.CLOSED:
            protocol.parser.close()
            error: BaseException | None = protocol.parser_exc
            while error is not None:
                error.__traceback__ = None
                error = error.__context__


def _error_of(protocol: ServerProtocol) -> ConnectionClosed:
    """The exception that tells an application of the end of `protocol`."""
    received, sent = protocol.close_rcvd, protocol.close_sent
    if received is None or sent is None:
        error: ConnectionClosed = ConnectionClosedError(received, sent)
    else:
        regular = received.code in _REGULAR and sent.code in _REGULAR
        kind = ConnectionClosedOK if regular else ConnectionClosedError
        error = kind(received, sent, bool(protocol.close_rcvd_then_sent))
    error.__cause__ = protocol.parser_exc
    return error
