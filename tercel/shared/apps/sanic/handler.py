"""One call of a Sanic application: its `Request`, the task that handles it, and its end.

Owns the order of what happens to a request; what is read and sent is the exchange's.
"""

import asyncio
from typing import TYPE_CHECKING

from sanic.compat import Header
from sanic.exceptions import RequestCancelled
from sanic.exceptions import ServerError as SanicServerError
from sanic.http.constants import Stage
from sanic.log import error_logger

from tercel.shared.apps.endings import APPLICATION_ERRORS
from tercel.shared.apps.sanic.connection import SanicConnection
from tercel.shared.apps.sanic.exchange import SanicExchange
from tercel.shared.apps.sanic.types import SanicRequest
from tercel.shared.errors import ResetReason, ServerError
from tercel.shared.logs import logger, printable
from tercel.shared.messages import Fields, RequestHead
from tercel.shared.stream import RequestHandler, RequestStream, SendState

if TYPE_CHECKING:
    from tercel.shared.apps.sanic.service import Service

log = logger("tercel.sanic")


class SanicHandler(RequestHandler):
    """The stream's side of an exchange, and the task that runs the application."""

    __slots__ = ("_connection", "_exchange", "_lost", "_running", "_service", "_stream")

    def __init__(
        self, stream: RequestStream, service: "Service", connection: SanicConnection
    ) -> None:
        self._stream = stream
        self._service = service
        self._connection = connection
        self._exchange = SanicExchange(stream, service)
        self._lost = False
        self._running = False

    @property
    def exchange(self) -> SanicExchange:
        """What the application knows as `request.stream`."""
        return self._exchange

    # -- the stream's side ------------------------------------------------------------------

    def content_received(self) -> None:
        """Wake a `read` that waits."""
        self._exchange.content_arrived()

    def message_complete(self) -> None:
        """Wake a `read` that waits."""
        self._exchange.content_arrived()

    def aborted(self, error: ServerError) -> None:
        """Cancel the handler: its client has gone."""
        self._client_left()

    def response_aborted(self, error: ServerError) -> None:
        """Cancel the handler: its client has gone."""
        self._client_left()

    def client_ended(self) -> None:
        """Cancel the handler, if it has begun: as a rule its client has gone."""
        if self._running:
            self._client_left()

    def _client_left(self) -> None:
        self._lost = True
        if self._exchange.task is not None:
            self._exchange.task.cancel()

    # -- the application's task -----------------------------------------------------------------

    async def run(self) -> None:
        """Let the application handle the request, and end the exchange whatever it does."""
        self._service.timeouts.watch(self._exchange)
        self._running = True
        try:
            await self._handle()
        except asyncio.CancelledError as error:
            await self._cancelled(error)
        except APPLICATION_ERRORS as error:
            await self._answer(error)
        finally:
            self._end()

    async def _handle(self) -> None:
        if self._connection.beginning is not None:
            await self._connection.beginning
        exchange, signals = self._exchange, self._service.signals
        head = self._stream.head
        fields = head.fields
        raw_head = _raw_head(head, fields)
        if signals.read_head:
            await signals.dispatch("read_head", head=raw_head)
        request = self._request(head, fields, raw_head)
        exchange.request, request.stream = request, exchange
        if signals.request:
            await signals.dispatch("request", request=request)
        await self._service.app.handle_request(request)
        if exchange.stage is Stage.HANDLER and not exchange.upgrade_websocket:
            raise SanicServerError("Handler produced no response")
        if exchange.stage is Stage.RESPONSE and exchange.response is not None:
            await exchange.response.send(end_stream=True)

    def _request(self, head: RequestHead, fields: Fields, raw_head: bytes) -> SanicRequest:
        request_class = self._service.request_class
        method = head.method
        if method == b"CONNECT" and head.protocol is not None:
            # RFC 9220 3 is what an Upgrade is elsewhere: the application routes it as such.
            method = b"GET"
            fields = [*fields, (b"connection", b"upgrade"), (b"upgrade", head.protocol)]
        request = request_class(
            url_bytes=head.target,
            headers=_header(fields),
            version=head.http_version,
            method=method.decode("latin-1"),
            transport=self._connection.transport,
            app=self._service.app,
            head=raw_head,
        )
        request._stream_id = getattr(self._stream, "stream_id", 0)
        self._connection.count_request()
        request.conn_info = self._connection.conn_info
        request_class._current.set(request)
        return request

    # -- its end --------------------------------------------------------------------------------

    async def _cancelled(self, error: asyncio.CancelledError) -> None:
        exchange, task = self._exchange, self._exchange.task
        cause: BaseException = error
        if self._lost:
            cause = RequestCancelled()
        elif exchange.exception is not None:
            cause, exchange.exception = exchange.exception, None
        elif task is not None and task.cancelling():
            raise error  # the server stops, and its grace period is over
        while task is not None and task.cancelling():
            # This one is dealt with; another must count again.
            task.uncancel()
        exchange.keep_alive = False
        await self._answer(cause)

    async def _answer(self, error: BaseException) -> None:
        exchange = self._exchange
        if exchange.request is None:
            exchange.request = self._bogus_request()
        try:
            await exchange.error_response(error)
        except RequestCancelled:
            log.debug("nobody is there for the answer to %r", error)
        except Exception:
            log.exception("the application failed to answer for %r", error)

    def _bogus_request(self) -> SanicRequest:
        """What error handlers get where the request itself could not be made."""
        target = self._stream.head.target.decode("latin-1").encode("ascii", "backslashreplace")
        request = self._service.request_class(
            url_bytes=b"*" if len(target) > _SHOWN_TARGET_BYTES else target.replace(b"\\", b""),
            headers=Header({}),
            version="1.1",
            method="NONE",
            transport=self._connection.transport,
            app=self._service.app,
        )
        request.stream = self._exchange
        request.conn_info = self._connection.conn_info
        return request

    def _end(self) -> None:
        """End the exchange if the application has not, and untie what refers to each other."""
        exchange, stream = self._exchange, self._stream
        self._service.timeouts.forget(exchange)
        request, response = exchange.request, exchange.response
        if stream.upgraded is None:
            if exchange.unread and response is not None and 200 <= response.status < 300:
                error_logger.error("%s body not consumed.", printable(repr(request)))
            if stream.send_state is not SendState.ENDED and stream.aborted is None:
                stream.reset(ResetReason.INTERNAL_ERROR)
            stream.content.discard()
        exchange.task = None
        if request is not None:
            request.stream = None
        if response is not None:
            response.stream = None


_SHOWN_TARGET_BYTES = 1024


def _header(fields: Fields) -> Header:
    return Header(
        [
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
            for name, value in fields
        ]
    )


def _raw_head(head: RequestHead, fields: Fields) -> bytes:
    """The head as HTTP/1.1 would have sent it, whatever version it came by."""
    lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.http_version.encode())]
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join(lines)
