"""`request.stream` of a Sanic application: the request's body in, the response out.

What Sanic calls on it is the interface of its own `Http`; `request` and `response` objects use it
on every HTTP version alike. Framing is the stream's below. Knows no routing and no handlers.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from sanic.exceptions import PayloadTooLarge, RequestCancelled, ServerError, ServiceUnavailable
from sanic.headers import format_http1_response
from sanic.http.constants import Stage
from sanic.http.stream import Stream
from sanic.log import logger

from tercel.shared.apps.sanic import accesslog, websocket
from tercel.shared.errors import LocalProtocolError, StreamAborted
from tercel.shared.flow import Wakeup
from tercel.shared.messages import (
    BODILESS_STATUS,
    ResponseHead,
    checked_fields,
    field_value,
    parse_content_length,
)
from tercel.shared.stream import RequestStream

if TYPE_CHECKING:
    import asyncio

    from sanic.response import BaseHTTPResponse

    from tercel.shared.apps.sanic.service import Service
    from tercel.shared.apps.sanic.types import SanicRequest

Send = Callable[[bytes, bool], Awaitable[None]]


class SanicExchange(Stream):
    """One request and its response."""

    __slots__ = (
        "_length",
        "_loop",
        "_opened_at",
        "_service",
        "_stream",
        "_wakeup",
        "active_at",
        "exception",
        "head_only",
        "keep_alive",
        "protocol",
        "request",
        "request_body",
        "request_bytes",
        "response",
        "response_func",
        "response_size",
        "stage",
        "task",
        "upgrade_websocket",
        "url",
    )

    def __init__(self, stream: RequestStream, service: "Service") -> None:
        head, content = stream.head, stream.content
        self._stream = stream
        self._service = service
        self._loop = service.loop
        self._wakeup = Wakeup()
        self._length = _content_length(stream)
        self.active_at = self._opened_at = self._loop.time()
        """When something was received or sent last, by the loop's clock."""
        self.task: asyncio.Task[None] | None = None
        """What runs the application."""
        self.protocol = stream.connection.protocol
        self.stage = Stage.HANDLER
        self.url: str | None = head.target.decode("latin-1")
        self.request: SanicRequest | None = None
        self.response: BaseHTTPResponse | None = None
        self.head_only = head.method == b"HEAD"
        self.keep_alive = service.keep_alive
        """Whether another request may follow on an HTTP/1.1 connection."""
        self.exception: Exception | None = None
        """Why the task was cancelled, if it was not the client."""
        self.upgrade_websocket = False
        # What a WebSocket sends before it is granted is none of the request's.
        empty = head.protocol is not None or (content.ended and not content.size)
        self.request_body: Any = None if empty else True
        """Whether content of the request has not been read yet."""
        self.request_max_size: int | float = service.request_max_size
        self.request_bytes = 0
        """Bytes that were read."""
        self.response_size = 0
        """Bytes that were sent."""
        self.response_func: Send | None = self._send_first
        """What sends the next content; None when the response is whole."""

    def __bool__(self) -> bool:
        """Whether the request is being handled."""
        return self.stage in (Stage.HANDLER, Stage.RESPONSE)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._loop.time() - self._opened_at

    # -- the request's body -----------------------------------------------------------------------

    async def read(self) -> bytes | None:
        """The next content of the request as it came, None after the last.

        Raises PayloadTooLarge above `request_max_size` and RequestCancelled when the client has
        gone.
        """
        if self._length is not None and self._length > self.request_max_size:
            raise self._too_large()
        stream, content = self._stream, self._stream.content
        while True:
            if stream.aborted is not None:
                raise RequestCancelled
            data = content.take()
            if data:
                break
            if content.ended:
                self.request_body = None
                return None
            stream.want_content()
            await self._wakeup.wait()
        self.request_bytes += len(data)
        if self.request_bytes > self.request_max_size:
            raise self._too_large()
        if self._service.signals.read_body:
            await self._service.signals.dispatch("read_body", body=data)
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read until nothing follows."""
        while self.request_body:
            data = await self.read()
            if data:
                yield data

    def content_arrived(self) -> None:
        """Something is new in the request's content, its end perhaps."""
        self.active_at = self._loop.time()
        self._wakeup.set()

    @property
    def unread(self) -> bool:
        """Whether the handler has left content unread."""
        content = self._stream.content
        return bool(self.request_body) and not (content.ended and not content.size)

    # -- the response -----------------------------------------------------------------------------

    def respond(self, response: "BaseHTTPResponse") -> "BaseHTTPResponse":
        """Make `response` the one to be sent; nothing is sent before its first `send`.

        Raises RuntimeError once another has begun.
        """
        if self.stage is not Stage.HANDLER:
            self.stage = Stage.FAILED
            raise RuntimeError("Response already started")
        if self.response is not None:
            self.response.stream = None
        self.response, response.stream = response, self  # type: ignore[assignment]
        return response

    @property
    def send(self) -> Send | None:
        """Sends the next content: `await send(data, end_stream)`; None when there can be none."""
        return self.response_func

    async def error_response(self, exception: BaseException) -> None:
        """Let the application answer for `exception`; once the response has begun, only log it."""
        if self.stage is not Stage.HANDLER:
            self.keep_alive = False
            return
        app = self._service.app
        middleware = not isinstance(exception, ServiceUnavailable | RequestCancelled)
        try:
            await app.handle_exception(self.request, exception, middleware)
        except Exception as error:
            await app.handle_exception(self.request, error, False)

    async def websocket_handshake(
        self, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Grant the WebSocket that is asked for. See `websocket.accept`."""
        self._service.timeouts.forget(self)
        if self.request is not None:
            # Remembered by the request: what its handler does to the headers later is too late.
            self.url = self.request.url
        ws = websocket.accept(
            self._stream, self._service.settings, subprotocols, lost=self._cancel, **options
        )
        self.upgrade_websocket = True
        self.response_func = None
        return ws

    def time_out(self) -> None:
        """Nothing was received or sent for RESPONSE_TIMEOUT seconds."""
        self.exception = ServiceUnavailable("Response Timeout")
        self._cancel()

    async def _send_first(self, data: bytes, end_stream: bool) -> None:
        """Send the head, and `data`."""
        response = self.response
        if response is None:
            raise ServerError("there is no response to be sent")
        if not data and response.body:
            data, end_stream = response.body, True
        head, data, end_stream = self._head(response, data, end_stream)
        if self._service.signals.send:
            raw = format_http1_response(head.status, head.fields)
            await self._service.signals.dispatch("send", data=raw + data)
        if self._service.access_log:
            accesslog.log_response(self.request, response, self.seconds)
        try:
            if end_stream:
                self._stream.send_response(head, data)
            else:
                self._stream.send_head(head)
                if data:
                    self._stream.send_content(data)
        except StreamAborted as error:
            raise RequestCancelled from error
        except LocalProtocolError as error:
            raise ServerError(str(error)) from error
        self.response_size = len(data)
        self._sent(end_stream)
        await self._pace()

    async def _send_next(self, data: bytes, end_stream: bool) -> None:
        """Send further content."""
        if self._service.signals.send and data:
            await self._service.signals.dispatch("send", data=data)
        try:
            self._stream.send_content(data, end_stream=end_stream)
        except StreamAborted as error:
            raise RequestCancelled from error
        except LocalProtocolError as error:
            raise ServerError(f"Response does not match its content-length: {error}") from error
        self.response_size += len(data)
        self._sent(end_stream)
        await self._pace()

    def _head(
        self, response: "BaseHTTPResponse", data: bytes, end_stream: bool
    ) -> tuple[ResponseHead, bytes, bool]:
        """The response's head, and what of `data` and of its end goes with it."""
        status, headers = response.status, response.headers
        if not isinstance(status, int) or status < 200:
            raise RuntimeError(f"Invalid response status {status!r}")
        if status in BODILESS_STATUS:
            if data or not end_stream or "content-length" in headers:
                headers.pop("content-length", None)
                logger.warning(
                    "Message body set in response on %s. A %s response may only have headers, "
                    "no body.",
                    self.request.path if self.request is not None else self.url,
                    status,
                )
            data, end_stream = b"", True
        elif end_stream and not (self.head_only and "content-length" in headers):
            headers["content-length"] = len(data)
        headers.pop("transfer-encoding", None)
        fields = checked_fields(response.processed_headers)
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        if self._service.alt_svc is not None and self._stream.head.http_version != "3":
            fields.append((b"alt-svc", self._service.alt_svc))
        return ResponseHead(status, fields), b"" if self.head_only else data, end_stream

    def _sent(self, end_stream: bool) -> None:
        self.active_at = self._loop.time()
        self.stage = Stage.IDLE if end_stream else Stage.RESPONSE
        self.response_func = None if end_stream else self._send_next

    async def _pace(self) -> None:
        if not self._stream.writable:
            try:
                await self._stream.drain()
            except StreamAborted as error:
                raise RequestCancelled from error
            self.active_at = self._loop.time()

    def _too_large(self) -> PayloadTooLarge:
        self.keep_alive = False
        return PayloadTooLarge("Request body exceeds the size limit")

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


def _content_length(stream: RequestStream) -> int | None:
    value = field_value(stream.head.fields, b"content-length")
    return None if value is None else parse_content_length(value)
