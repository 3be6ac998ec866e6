"""HttpProtocol: one HTTP/1.1 connection, from bytes to exchanges and back.

Owns the order of exchanges, and connects them to the parser and the transport. The receive path
never waits for an application. The parser has the grammar, the writer the framing of responses,
and `lifetime` the time limits and the close.
"""

import asyncio
from typing import Any, Final, assert_never

from tercel.h1.events import ContentReceived, Event, HeadReceived, MessageComplete, MessageFailed
from tercel.h1.lifetime import ConnectionLifetime, Phase
from tercel.h1.parser import RequestParser
from tercel.h1.refusal import refusal_of
from tercel.h1.stream import H1RequestStream
from tercel.h1.unsent import UnsentBytes
from tercel.shared.bytestream import ByteStream
from tercel.shared.errors import ConnectionClosed, ResetReason, ServerError, StreamAborted
from tercel.shared.stream import SendState

# Pipelined requests that are started in one loop iteration, so that other connections get theirs.
_PIPELINE_BATCH = 16

# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_EXCHANGE: Final = Phase.EXCHANGE
_IDLE: Final = Phase.IDLE
_UPGRADED: Final = Phase.UPGRADED
_LINGERING: Final = Phase.LINGERING
_CLOSED: Final = Phase.CLOSED
_ENDED: Final = SendState.ENDED


class HttpProtocol(ConnectionLifetime):
    """HTTP/1.1 on one connection. The parameters are SanicProtocol's.

    `state` is a dict for the caller's use; the protocol does not use it.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        app: Any,
        signal: Any = None,
        connections: set[Any] | None = None,
        state: dict[str, Any] | None = None,
        unix: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            loop=loop, app=app, signal=signal, connections=connections, unix=unix, **kwargs
        )
        self.state = {} if state is None else state
        self._opening: H1RequestStream | None = None
        self._requests = 0
        self._receiving = False
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._discarded_from = 0

    # -- what it is -------------------------------------------------------------------------------

    @property
    def http(self) -> RequestParser | None:
        """The parser of the requests; None before the connection is made."""
        return self._parser

    @property
    def version(self) -> int:
        """1."""
        return 1

    @property
    def byte_stream(self) -> ByteStream:
        """The byte stream of an upgraded connection. Raises ServerError before the upgrade."""
        upgraded = None if self._stream is None else self._stream.upgraded
        if upgraded is None:
            raise ServerError("the connection is not another protocol's")
        return upgraded

    async def connection_task(self) -> None:
        """Return when the connection has closed. Exchanges run independently of it."""
        await self._closed.wait()

    # -- the transport's calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request."""
        super().connection_made(transport)
        assert self.transport is not None  # noqa: S101  # it was just taken over
        self.info.protocol = self
        self.info.account = self.context.limits.buffers.open(self)
        self._unsent_bytes = UnsentBytes(self.transport, secure=self.info.secure)
        scheme = b"https" if self.info.secure else b"http"
        self._parser = RequestParser(self._settings, scheme=scheme)
        self._deadline.set(self._settings.header_timeout)
        self.context.application.connected(self.info)

    def data_received(self, data: bytes) -> None:
        """Parse `data` and handle the events."""
        if self._received is not None:
            self._received.set()
        if self._phase is _LINGERING:
            self._drop(data)
            return
        if self._phase is _UPGRADED and self._stream is not None:
            upgraded = self._stream.upgraded
            if upgraded is None or not upgraded.pass_on(data):
                self._stream.receive_content(data)
                self._limit_reading()
            return
        parser = self._parser
        if self._phase is _CLOSED or parser is None:
            return
        self._receiving = True
        for event in parser.feed(data):
            if type(event) is HeadReceived:  # most data has no other event
                self._open(event)
            else:
                self._apply(event)
        if self._opening is not None:
            self._begin_exchange(self._opening)
        self._receiving = False
        stream = self._stream
        if parser.unparsed or (stream is not None and stream.content.size):
            self._advance()

    def eof_received(self) -> bool | None:
        """Finish complete requests: a client may end sending and still read."""
        self._half_closed = True
        stream = self._stream
        if stream is not None and self._phase is _UPGRADED:
            stream.receive_end([])
            # The other protocol ends this side, unless it already has, or TLS ends both at once.
            if self.info.secure or stream.send_state is _ENDED:
                self.close()
            return self._phase is _UPGRADED
        waits = stream is not None or (self._phase is _IDLE and self._buffered())
        if stream is not None and (
            not stream.content.ended or stream.head.protocol == b"websocket"
        ):
            # A WebSocket does not work with a client that has ended sending.
            what = "in the middle of its request" if stream.upgraded is None else "the connection"
            self._abandon(ConnectionClosed(f"the client closed {what}"))
            waits = False
        # asyncio cannot keep the sending half of a TLS connection open.
        if waits and not self.info.secure:
            if stream is not None and stream.handler is not None:
                stream.handler.client_ended()
            return True
        self.close()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current exchange."""
        super().connection_lost(exc)
        self._phase = _CLOSED
        self._deadline.cancel()
        self.info.account.close()
        self._abandon(ConnectionClosed("the client closed the connection"))
        self.context.application.disconnected(self.info)

    def resume_writing(self) -> None:
        """Let writers continue, and start requests that waited for earlier responses to be sent."""
        super().resume_writing()
        self.count_buffers()
        self._advance()

    # -- events ---------------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        if isinstance(event, HeadReceived):
            self._open(event)
        elif isinstance(event, ContentReceived):
            self._receive_content(event.data)
        elif isinstance(event, MessageComplete):
            if self._stream is not None:
                self._stream.content.end(event.trailers)
                self._complete_request(self._stream)
        elif isinstance(event, MessageFailed):
            self._fail(event.error)
        else:
            assert_never(event)

    def _advance(self) -> None:
        """Start the requests that wait in the parser, and limit reading if too much waits."""
        if self._parser is None or self._receiving:
            return
        for _ in range(_PIPELINE_BATCH):
            if self._phase is not _IDLE or self.write_gate.paused or not self._buffered():
                break
            self._receiving = True
            for event in self._parser.resume():
                self._apply(event)
            if self._opening is not None:
                self._begin_exchange(self._opening)
            self._receiving = False
            if self._parser.started:
                break
        else:
            self.loop.call_soon(self._advance)
        if self._phase in (Phase.NEW, _IDLE) and self._parser.started:
            if self._half_closed:
                self.close()
                return
            self._phase = Phase.HEAD
            self._head_since = self.context.clock()
            self._deadline.set(self._settings.header_timeout)
        self._limit_reading()

    def _open(self, event: HeadReceived) -> None:
        self._phase = _EXCHANGE
        self._deadline.at = None
        self._requests += 1
        self._waited = 0.0
        stream = self._stream = H1RequestStream(event, self, self._requests)
        if event.has_content:
            # It may fail before the application gets it, and has to be logged then, too.
            self.streams[self._requests] = stream
            stream.opened_at = self.context.clock()
        else:
            stream.content.ended = True
            stream.request_complete = True
        self._opening = stream

    def _begin_exchange(self, stream: H1RequestStream) -> None:
        """Start the application, after all events of the data that arrived with the head.

        So a small request is already complete, and the application does not wait: 6 us less.
        """
        self._opening = None
        if stream is self._stream:
            self._begin(stream.stream_id, stream)
            handler = stream.handler
            if handler is not None:
                if stream.content.size:
                    handler.content_received()
                if stream.request_complete:
                    handler.message_complete()
                if self._half_closed:
                    handler.client_ended()

    def _receive_content(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        stream.receive_content(data)
        if stream.send_state is not _ENDED:
            self._stop_waiting()
        elif stream.content.received - self._discarded_from > self._settings.max_drain_bytes:
            self._abandon(ConnectionClosed("too much unread content"))
            self._linger()

    def _complete_request(self, stream: H1RequestStream) -> None:
        if self._waiting_since is not None:
            self._stop_waiting()
        stream.request_complete = True
        if stream.handler is not None:
            stream.handler.message_complete()
        if stream.send_state is _ENDED and stream is self._stream:
            self._end_exchange(stream)

    # -- the stream's calls ---------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that are not sent yet."""
        return self._unsent()

    @property
    def leaves_too_much(self) -> bool:
        """Whether more content is still to come than the server reads to discard it.

        False for chunked content, whose length only the client knows.
        """
        left = None if self._parser is None else self._parser.content_left
        return left is not None and left > self._settings.max_drain_bytes

    def response_ended(self, stream: H1RequestStream) -> None:
        """Continue with the next request, once the rest of this one is received or discarded."""
        if stream is not self._stream:
            return
        if self._phase is _UPGRADED:
            self._end_sending()
            return
        if stream.request_complete:
            self._end_exchange(stream)
            return
        stream.content.discard()
        if not stream.writer.keep_alive or self.leaves_too_much:
            self._stream = None
            self._finish(stream.stream_id)
            self._linger()
            return
        self._discarded_from = stream.content.received
        self._deadline.set(self._settings.content_timeout)

    def upgraded(self, stream: H1RequestStream) -> None:
        """Pass all bytes from here on to `stream` as its content."""
        assert self._parser is not None  # noqa: S101  # there is a stream, so there was a head
        self._phase = _UPGRADED
        self._deadline.at = None
        stream.content.ended = self._half_closed
        if rest := self._parser.take_unparsed():
            stream.content.append(rest)

    def close_upgraded(self, stream: H1RequestStream) -> None:
        """Close when all written data has been sent."""
        if stream is self._stream:
            self.close()

    def content_wanted(self, stream: H1RequestStream) -> None:
        """Start to measure how long the application waits for content."""
        if stream is not self._stream or self._waiting_since is not None:
            return
        self._waiting_since = self.context.clock()
        seconds = self._settings.content_timeout
        if rate := self._settings.min_content_rate:
            # content_timeout is also the grace period; received content extends the time to wait.
            seconds = min(seconds, seconds + stream.content.received / rate - self._waited)
        self._deadline.set(seconds)

    def content_consumed(self, size: int) -> None:
        """Resume reading if it was paused because of too much unread content."""
        self._consumed += size
        if self._reading_paused or self.info.account.held:
            self._limit_reading()

    def give_up(self, stream: H1RequestStream, reason: ResetReason) -> None:
        """Abort the exchange, with an error status if nothing was written yet."""
        if stream is not self._stream:
            return
        self._refuse(StreamAborted(reason.value), refusal_of(reason))

    def _stop_waiting(self) -> None:
        if self._waiting_since is not None:
            self._waited += self.context.clock() - self._waiting_since
            self._waiting_since = None
            self._deadline.at = None

    # -- the end of an exchange -------------------------------------------------------------------

    def _end_exchange(self, stream: H1RequestStream) -> None:
        assert self._parser is not None  # noqa: S101  # there is a stream, so there was a head
        self._stream = None
        self._finish(stream.stream_id)
        self._phase = _IDLE
        signal = self.signal
        if not stream.keep_alive or self._stopping or (signal is not None and signal.stopped):
            if self._buffered():
                self._linger()
            else:
                self.close()
            return
        self._unsent_before = 0
        self._deadline.set(self._settings.keep_alive_timeout)
        if not self._parser.unparsed:
            self._parser.resume()
            if self._half_closed:
                self.close()
        elif not self._receiving:
            # In the application's call stack: the next exchange must not begin inside it.
            self.loop.call_soon(self._advance)

    def _end_sending(self) -> None:
        """End this side of an upgraded connection, and the connection if the peer has ended too."""
        transport = self.transport
        if self._half_closed or transport is None or not transport.can_write_eof():
            self.close()
        elif not transport.is_closing():
            transport.write_eof()
