"""One QUIC connection: QUIC events -> HTTP/3 events -> exchanges, and back.

Owns the table of exchanges and decides the scope of each error. The receive path never waits for an
application. `driver` handles datagrams and timers.
"""

from typing import Any

from aioquic.quic import events

from tercel.quic.driver import ConnectionProtocol
from tercel.quic.http3 import fields
from tercel.quic.http3.connection import H3Connection
from tercel.quic.http3.errors import ErrorCode, code_name, stream_error_code
from tercel.quic.http3.keep_alive import KeepAliveLimit, KeepAlivePings
from tercel.quic.http3.request_parser import (
    ContentReceived,
    MessageFailed,
    SectionReceived,
)
from tercel.quic.http3.request_timeouts import RequestTimeouts
from tercel.quic.http3.stream import H3RequestStream, check_served, refusal
from tercel.quic.transport.abuse_limits import DRIBBLE_BYTES, BudgetExceeded, Flood
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.errors import ApplicationCloseError
from tercel.shared.buffered import COUNTED_FROM_BYTES
from tercel.shared.connection import HttpProtocolMixin
from tercel.shared.errors import (
    ConnectionClosed,
    RemoteProtocolError,
    StreamAborted,
    TooEarly,
)
from tercel.shared.logs import logger
from tercel.shared.messages import ResponseHead
from tercel.shared.request_fields import with_early_data
from tercel.shared.stream import SendState

log = logger("tercel.quic")

H3_ALPN = "h3"

# RFC 9110 9.2.1: those that an attacker may send again.
_SAFE_METHODS = (b"GET", b"HEAD", b"OPTIONS")

# RFC 9001 4.2: no version before it.
_TLS_1_3 = 0x0304


class Http3Protocol(HttpProtocolMixin, ConnectionProtocol):
    """HTTP/3 on one QUIC connection."""

    def __init__(self, *args: Any, app: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = app
        self.info.protocol = self
        self.streams = {}
        self._http: H3Connection | None = None
        self._reader = fields.HeadReader()
        self._held: list[H3RequestStream] = []
        self._gated: set[H3RequestStream] = set()
        self._written = False
        self._stopping = False
        self._rejected_from: int | None = None
        self._failed = False
        self._patience = RequestTimeouts(self, self.context.settings)
        self._keep_alive = KeepAliveLimit(self, self.context.settings.unused_timeout)
        self._pings = KeepAlivePings(self) if self.context.settings.quic_keep_alive_pings else None
        self._connected = False
        self._account = self.info.account = self.context.limits.buffers.open(self)

    # -- what it is -------------------------------------------------------------------------------

    @property
    def http(self) -> H3Connection | None:
        return self._http

    @property
    def connection(self) -> H3Connection | None:
        """The HTTP/3 connection; None until the handshake has agreed on h3."""
        return self._http

    @property
    def version(self) -> int:
        return 3

    @property
    def requests_begun(self) -> int:
        """A number that grows with each request of the client."""
        return 0 if self._http is None else self._http.requests.next_id

    # -- QUIC events --------------------------------------------------------------------------

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Handle one QUIC event; an error of the peer closes the connection with its code."""
        if self._failed:
            return
        try:
            if isinstance(event, events.StreamDataReceived):
                self._stream_data_received(event)
            elif isinstance(event, events.StreamReset):
                self._stream_reset(event)
            elif isinstance(event, events.StopSendingReceived):
                self._stop_sending_received(event)
            elif isinstance(event, events.ProtocolNegotiated):
                self._http = H3Connection(self.quic, self.context.settings, self.quic.budgets)
                self._connected = True
                self.info.server_name = self.quic.server_name
                self.context.application.connected(self.info)
                if self._stopping:
                    self.stop_accepting()
            elif isinstance(event, events.HandshakeCompleted):
                self.info.tls = _tls_extension(self.quic)
                self._keep_alive.start()
            elif isinstance(event, events.ConnectionTerminated):
                reason = event.reason_phrase or code_name(event.error_code)
                if self.quic.exceeded:
                    self.context.limits.meet(self.quic.exceeded)
                    self.quic.exceeded = ""  # told once, although the event comes again
                self._connection_terminated(ConnectionClosed(reason))
        except ApplicationCloseError as error:
            if isinstance(error, BudgetExceeded):
                self.context.limits.meet(str(error))
            log.debug(
                "%s: closing the connection with %s: %s",
                self.info.client_name,
                code_name(error.code),
                error,
            )
            self._give_up_connection(error.code, str(error))

    def _stream_data_received(self, event: events.StreamDataReceived) -> None:
        http = self._http
        if http is None:
            return
        stream_id = event.stream_id
        if (
            self._rejected_from is not None
            and stream_id >= self._rejected_from
            and not stream_id & 2
        ):
            self.quic.grant(stream_id, len(event.data))
            self._reject(stream_id, http)
            return
        self._patience.watch()
        if not event.end_stream and len(event.data) < DRIBBLE_BYTES:
            self.quic.budgets.spend(Flood.DRIBBLE)
        for item in http.receive_data(stream_id, event.data, event.end_stream):
            if isinstance(item, SectionReceived) and not item.trailing:
                self._open(item)
            elif isinstance(item, MessageFailed):
                self._fail(item.stream_id, item.error)
            else:
                self._continue(item)

    def _continue(self, event: SectionReceived | ContentReceived) -> None:
        """Pass on what follows the header section of a request."""
        try:
            stream = self.streams.get(event.stream_id)
            if not isinstance(stream, H3RequestStream):
                if isinstance(event, ContentReceived):
                    # Its exchange has ended since the datagram arrived: nobody will take it.
                    self.quic.grant(event.stream_id, len(event.data))
                return
            self.answering = True
            if isinstance(event, ContentReceived):
                stream.accept_content(event.data)
                trailers = []
            else:
                trailers = fields.trailers(event.fields)
            if event.ended:
                stream.accept_end(trailers)
                self._finish_if_ended(stream)
        except RemoteProtocolError as error:
            if isinstance(event, SectionReceived):
                error.request_line = fields.request_line(event.fields)
            self._fail(event.stream_id, error)

    def _open(self, event: SectionReceived) -> None:
        """Open the exchange of a header section, or refuse the request."""
        try:
            request = self._reader.read(event.fields)
        except RemoteProtocolError as error:
            error.request_line = fields.request_line(event.fields)
            self._fail(event.stream_id, error)
            return
        head, content_length, expectations = request
        if not self.quic.can_send(event.stream_id):
            # The client stopped the response before the request came (RFC 9000 3.5).
            self.quic.budgets.spend(Flood.CANCELLATIONS)
            self._close_receiving(event.stream_id, event.ended, ErrorCode.REQUEST_CANCELLED)
            return
        early = self.quic.is_early(event.stream_id)
        if early:
            head.fields = with_early_data(head.fields)
        ended = event.ended
        stream = H3RequestStream(
            self,
            event.stream_id,
            head,
            content_length,
            expects_continue=bool(expectations) and not ended and content_length != 0,
            ended=ended,
        )
        try:
            if early and head.method not in _SAFE_METHODS:
                raise TooEarly("only safe methods are served in 0-RTT")
            check_served(request, self.context.settings)
            if ended and content_length:
                stream.accept_end([])
        except RemoteProtocolError as error:
            self.streams[event.stream_id] = stream
            self._fail(event.stream_id, error)
            return
        self._begin(stream.stream_id, stream)
        if stream.stream_id in self.streams:
            self.answering = True
            if self._pings is not None:
                self._pings.watch()
        if stream.handler is not None and stream.content.ended and not stream.aborted:
            stream.handler.message_complete()
            self._finish_if_ended(stream)

    def _stream_reset(self, event: events.StreamReset) -> None:
        if self._http is None:
            return
        if not event.stream_id & 2 and not self._http.requests.is_discarding(event.stream_id):
            # RFC 9000 3.5: a reset is also the answer to being asked to stop.
            self.quic.budgets.spend(Flood.CANCELLATIONS)
        self._http.receive_reset(event.stream_id)
        stream = self.streams.get(event.stream_id)
        if isinstance(stream, H3RequestStream):
            error = StreamAborted(f"the client reset the request: {code_name(event.error_code)}")
            self.abort_stream(stream, error, ErrorCode.REQUEST_CANCELLED)
        elif not event.stream_id & 2 and self.quic.can_send(event.stream_id):
            # No request ever came of it; the stream lasts until this side has ended, too.
            self.quic.reset_stream(event.stream_id, ErrorCode.REQUEST_CANCELLED)
        # Last: what was received and not read has given its credit back by now.
        self.quic.release(event.stream_id)

    def _stop_sending_received(self, event: events.StopSendingReceived) -> None:
        if self._http is None:
            return
        self._http.receive_stop_sending(event.stream_id)
        stream = self.streams.get(event.stream_id)
        if isinstance(stream, H3RequestStream):
            self.quic.budgets.spend(Flood.CANCELLATIONS)
            error = StreamAborted(f"the client stopped reading: {code_name(event.error_code)}")
            self.abort_stream(stream, error, ErrorCode.REQUEST_CANCELLED)

    def _connection_terminated(self, error: ConnectionClosed) -> None:
        for stream_id, stream in list(self.streams.items()):
            if isinstance(stream, H3RequestStream):
                stream.close_gate(error)
            stream.receive_abort(error)
            self._finish(stream_id)
        self._gated.clear()
        self._held.clear()
        self._patience.stop()
        self._keep_alive.stop()
        if self._pings is not None:
            self._pings.stop()
        self._account.close()
        if self._connected:
            self._connected = False
            self.context.application.disconnected(self.info)

    def _give_up_connection(self, code: int, reason: str) -> None:
        """Close the connection, and end all its exchanges at once."""
        self.close(code, reason)
        self._connection_terminated(ConnectionClosed(reason))
        self._failed = True

    # -- memory -----------------------------------------------------------------------------------

    def count_buffers(self) -> None:
        """Report the buffered bytes of the connection, and apply the window sizes allowed."""
        quic, account = self.quic, self._account
        buffered = quic.buffered()
        if self._http is not None:
            buffered += self._http.requests.held
        if buffered < COUNTED_FROM_BYTES and not account.held:
            return
        account.settle(buffered, quic.moved())
        narrowing = self.context.limits.buffers.narrowing
        if quic.narrowing != narrowing:
            quic.narrow_windows(narrowing)

    def give_up_buffers(self) -> None:
        """Close the connection because of the buffers that it holds."""
        # Not in the call stack of whoever needs the memory: it may be an exchange of this one.
        self.context.loop.call_soon(self._give_up_buffers)

    def _give_up_buffers(self) -> None:
        if not (self.terminated or self._failed):
            self._give_up_connection(ErrorCode.EXCESSIVE_LOAD, "too much waits for the client")
            self.quic.forget_streams()
            self._http = None

    # -- the end of an exchange -------------------------------------------------------------------

    def _finish_if_ended(self, stream: H3RequestStream) -> None:
        if stream.content.ended and stream.send_state is SendState.ENDED:
            self._finish(stream.stream_id)

    def abort_stream(self, stream: H3RequestStream, error: StreamAborted, code: ErrorCode) -> None:
        """Abort an exchange in both directions, whatever their state."""
        if self.streams.get(stream.stream_id) is not stream:
            return
        self.answering = True
        self._close_receiving(stream.stream_id, stream.content.ended, code)
        if self.quic.can_send(stream.stream_id):
            self.quic.reset_stream(stream.stream_id, code)
        stream.close_gate(error)
        stream.receive_abort(error)
        self._gated.discard(stream)
        self._finish(stream.stream_id)
        self.endpoint.flush_soon(self)

    def give_up(self, stream_id: int, error: StreamAborted, code: ErrorCode) -> None:
        """Reset an exchange, even if only the delivery of its response is left."""
        stream = self.streams.get(stream_id)
        if isinstance(stream, H3RequestStream):
            self.abort_stream(stream, error, code)
        else:
            self.quic.reset_stream(stream_id, code)
            self.endpoint.flush_soon(self)

    def awaits_head(self, stream_id: int) -> bool:
        """Whether a stream that the client opened has not received its request head."""
        return self._http is not None and self._http.requests.awaits_head(stream_id)

    def is_blocked(self, stream_id: int) -> bool:
        """Whether a field section of a request waits for the QPACK encoder stream."""
        return self._http is not None and self._http.requests.is_blocked(stream_id)

    def fail(self, stream_id: int, error: RemoteProtocolError, seconds: float) -> None:
        """Answer a request that has not arrived properly within `seconds`."""
        self._fail(stream_id, error, seconds)
        self.endpoint.flush_soon(self)

    def _close_receiving(self, stream_id: int, ended: bool, code: ErrorCode) -> None:
        if not ended and self._http is not None:
            self._http.requests.discard(stream_id)
            self.quic.stop(stream_id, code)

    def _fail(self, stream_id: int, error: RemoteProtocolError, seconds: float = 0.0) -> None:
        """Answer a message that cannot be served: by a response if possible, else a reset."""
        log.debug("%s stream %d: %s", self.info.client_name, stream_id, error)
        # Also a client that breaks its requests makes this side begin and end them in vain.
        self.quic.budgets.spend(Flood.CANCELLATIONS)
        stream = self.streams.get(stream_id)
        answered = refusal(error)
        if stream is None:
            self._log_refusal(error, status=error.status if answered else 0, seconds=seconds)
        if answered and (stream is None or stream.send_state is SendState.HEAD):
            self._refuse(stream_id, error)
            return
        code = stream_error_code(error)
        if isinstance(stream, H3RequestStream):
            self.abort_stream(stream, StreamAborted(str(error)), code)
            return
        self._close_receiving(stream_id, False, code)
        if self.quic.can_send(stream_id):
            self.quic.reset_stream(stream_id, code)

    def _refuse(self, stream_id: int, error: RemoteProtocolError) -> None:
        assert self._http is not None  # noqa: S101  # only its events lead here
        head = [(b":status", b"%d" % error.status), (b"content-length", b"0")]
        self.context.response_fields.complete(head)
        stream = self.streams.get(stream_id)
        if self.quic.can_send(stream_id):
            self.quic.send_stream_data(
                stream_id, self._http.sections.encode(stream_id, head), end_stream=True
            )
        # RFC 9114 4.1: the response is complete, so the rest of the request is not needed.
        self._close_receiving(
            stream_id, stream is not None and stream.content.ended, ErrorCode.NO_ERROR
        )
        if stream is not None:
            stream.response = ResponseHead(error.status, [])
            stream.send_state = SendState.ENDED
            stream.receive_abort(StreamAborted(str(error)))
            self._finish(stream_id)

    # -- sending --------------------------------------------------------------------------------

    def write(self, stream: H3RequestStream, data: bytes, end_stream: bool) -> None:
        """Queue bytes of a response; they are sent at the end of this loop iteration."""
        if not self.quic.write(stream.stream_id, data, end_stream):
            return  # stopped by the peer in this very batch; the abort is on its way
        self._written = True
        if end_stream and stream.upgraded is not None:
            self._finish_if_ended(stream)  # the peer may still have something to say
        elif end_stream:
            self.quic.work.answers += 1
            if not stream.content.ended:
                # RFC 9114 4.1: the response is complete, so the rest of the request is not needed.
                self._close_receiving(stream.stream_id, False, ErrorCode.NO_ERROR)
            stream.content.discard()
            self._gated.discard(stream)
            self._finish(stream.stream_id)
        elif stream.update_gate():
            self._gated.add(stream)
        self.endpoint.flush_soon(self)

    def finish_upgraded(self, stream: H3RequestStream) -> None:
        """Stop reading an upgraded exchange whose own side has ended."""
        self._close_receiving(stream.stream_id, stream.content.ended, ErrorCode.NO_ERROR)
        stream.content.discard()
        self._gated.discard(stream)
        self._finish(stream.stream_id)

    def flush_soon(self, stream: H3RequestStream) -> None:
        """Write the held head of `stream` at the end of this loop iteration."""
        self._held.append(stream)
        self.endpoint.flush_soon(self)

    def needs_transmit(self) -> bool:
        """Whether `transmit` may have anything to do after `process_events`."""
        # Every second packet of a client that asks for one thing after another only acknowledges.
        return (
            bool(self._gated or self._stopping or self._account.held)
            or not self.quic.has_nothing_to_do()
        )

    def transmit(self) -> None:
        """Send pending datagrams, then resume writers whose data was sent."""
        self.answering = False
        if self._held:
            held, self._held = self._held, []
            for stream in held:
                stream.release_head()
        if self._http is not None:
            self._http.send_instructions()
        if self._written:
            self._written = False
            self.quic.hasten_acknowledgement(self.context.clock())
        ConnectionProtocol.transmit(self)
        if self._gated:
            self._gated = {stream for stream in self._gated if stream.update_gate()}
        self.count_buffers()
        if self._stopping:
            self.endpoint.drained_soon(self)

    def grant(self, stream_id: int, size: int) -> None:
        """Give credit for content that was consumed."""
        self.quic.grant(stream_id, size)
        self.endpoint.flush_soon(self)

    # -- shutdown ---------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Send GOAWAY: requests not seen yet are rejected, the others go on (RFC 9114 5.2)."""
        if not self._stopping:
            self._tell_going_away()
        self._stopping = True
        if self.quic.close_event is not None:
            return
        if self._http is not None and self._rejected_from is None:
            self._rejected_from = self._http.requests.next_id
            self._http.send_goaway()
        self.endpoint.flush_soon(self)

    @property
    def idle(self) -> bool:
        """Whether no exchange runs, and the client has all of every response, or has gone."""
        return not self.streams and (self.quic.is_delivered() or self.quic.is_unresponsive())

    def _reject(self, stream_id: int, http: H3Connection) -> None:
        if self.quic.can_send(stream_id):
            self.quic.stop(stream_id, ErrorCode.REQUEST_REJECTED)
            self.quic.reset_stream(stream_id, ErrorCode.REQUEST_REJECTED)
            http.requests.forget(stream_id)
            self.endpoint.flush_soon(self)


def _tls_extension(quic: QuicServerConnection) -> dict[str, Any]:
    """The ASGI `tls` extension (0.2). Client certificates are not requested."""
    return {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _TLS_1_3,
        "cipher_suite": quic.cipher_suite,
    }
