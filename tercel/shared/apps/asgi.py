"""ASGI 3 applications on a RequestStream: one adapter for every HTTP version.

Owns the call of the application and what it receives; what it sends is `response`'s. Knows
neither connections nor what goes on the wire.
"""

import logging
from http import HTTPStatus

from tercel.shared.apps.asgi_types import AsgiCallable, Message, Receive, Scope, Send
from tercel.shared.apps.lifespan import Lifespan
from tercel.shared.apps.response import AsgiResponse, Expected
from tercel.shared.apps.scope import http_scope
from tercel.shared.errors import ResetReason, ServerError, StreamAborted
from tercel.shared.flow import Wakeup
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestHandler, RequestStream, SendState
from tercel.shared.tasks import TaskSet

log = logging.getLogger("tercel.asgi")

# What frameworks raise when `receive` tells them that the client has gone; no error of theirs.
_DISCONNECT_ERRORS = frozenset(("ClientDisconnect", "ClientDisconnected", "RequestAborted"))


class AsgiApplication(Application):
    """Serves the ASGI 3 callable `app`. Its requests run in `tasks`, each in a task of its own."""

    def __init__(self, app: AsgiCallable, *, settings: Settings, tasks: TaskSet) -> None:
        self._app = app
        self._tasks = tasks
        self._root_path = settings.root_path.rstrip("/")
        self._lifespan = Lifespan(app, settings=settings)

    def open(self, stream: RequestStream) -> "AsgiHandler":
        """Start to answer the request that `stream.head` opens."""
        trailers: Fields = []
        scope = http_scope(
            stream, root_path=self._root_path, state=self._lifespan.state, trailers=trailers
        )
        # RFC 9110 9.3.6, RFC 9220: neither tunnels nor WebSocket over HTTP/3 are served here.
        app = _not_implemented if stream.head.method == b"CONNECT" else self._app
        handler = AsgiHandler(app, stream, scope=scope, trailers=trailers)
        self._tasks.spawn(handler.run(), name="asgi request")
        return handler

    async def startup(self) -> None:
        """Start the application's lifespan. Raises ServerError when it refuses."""
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """End the application's lifespan."""
        await self._lifespan.shutdown()


class AsgiHandler(RequestHandler):
    """One call of the application."""

    __slots__ = (
        "_app",
        "_request_read",
        "_request_trailers",
        "_response",
        "_scope",
        "_stream",
        "_wakeup",
    )

    def __init__(
        self, app: AsgiCallable, stream: RequestStream, *, scope: Scope, trailers: Fields
    ) -> None:
        self._app = app
        self._stream = stream
        self._scope = scope
        self._request_trailers = trailers
        self._request_read = False
        self._wakeup = Wakeup()
        self._response = AsgiResponse(stream, self._wakeup)

    async def run(self) -> None:
        """Call the application, and end the exchange whatever it does."""
        try:
            await self._app(self._scope, self._receive, self._response.send)
        except Exception as error:
            self._log_failure(error)
            self._give_up()
        except BaseException:
            # Cancelled: the server stops and its grace period is over.
            if self._stream.send_state is not SendState.ENDED:
                self._stream.reset(ResetReason.REQUEST_CANCELLED)
            raise
        else:
            expected = self._response.expected
            if expected is not Expected.NOTHING and self._stream.aborted is None:
                log.error("%s returned where %s was expected", self._name(), expected.value)
                self._give_up()
        finally:
            self._response.complete()

    # -- the stream's side ------------------------------------------------------------------

    def content_received(self) -> None:
        """Wake a `receive` that waits."""
        self._wakeup.set()

    def message_complete(self) -> None:
        """Wake a `receive` that waits."""
        self._wakeup.set()

    def aborted(self, error: ServerError) -> None:
        """Let `receive` return http.disconnect; the application is not cancelled."""
        self._wakeup.set()

    def response_aborted(self, error: ServerError) -> None:
        """Let `receive` return http.disconnect; the application is not cancelled."""
        self._wakeup.set()

    # -- the application's side -------------------------------------------------------------

    async def _receive(self) -> Message:
        stream, response = self._stream, self._response
        content = stream.content
        while response.expected is not Expected.NOTHING and stream.aborted is None:
            if not self._request_read:
                body = content.take()
                if body or content.ended:
                    more = content.size > 0 or not content.ended
                    if not more:
                        self._request_read = True
                        self._request_trailers.extend(content.trailers)
                    return {"type": "http.request", "body": body, "more_body": more}
                stream.want_content()
            await self._wakeup.wait()
        return {"type": "http.disconnect"}

    # -- an application that fails ----------------------------------------------------------

    def _give_up(self) -> None:
        """End an exchange that the application left unfinished."""
        stream = self._stream
        if stream.aborted is not None or stream.send_state is SendState.ENDED:
            return
        if stream.send_state is SendState.CONTENT:
            stream.reset(ResetReason.INTERNAL_ERROR)
            return
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        stream.send_head(ResponseHead(int(status), _text_fields(status)))
        stream.send_content(status.phrase.encode(), end_stream=True)

    def _log_failure(self, error: Exception) -> None:
        if is_disconnect(error):
            log.debug("%s ended when its client had gone: %r", self._name(), error)
        else:
            log.error("%s failed", self._name(), exc_info=error)

    def _name(self) -> str:
        return f"{self._scope['method']} {self._scope['path']!r}"


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` left an application only because its client had gone.

    That is StreamAborted, or what a framework made of it or of http.disconnect.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_disconnect(part) for part in error.exceptions)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StreamAborted) or type(cause).__name__ in _DISCONNECT_ERRORS:
            return True
        cause = cause.__cause__
    return False


def _text_fields(status: HTTPStatus) -> Fields:
    return [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(status.phrase)).encode()),
    ]


async def _not_implemented(scope: Scope, receive: Receive, send: Send) -> None:
    status = HTTPStatus.NOT_IMPLEMENTED
    await send({"type": "http.response.start", "status": status, "headers": _text_fields(status)})
    await send({"type": "http.response.body", "body": status.phrase.encode()})
