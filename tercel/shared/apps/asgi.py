"""ASGI 3 applications on a RequestStream: one adapter for every HTTP version.

Owns the call of the application and the messages that it receives. The messages that it sends are
handled by `response`. Knows neither connections nor what goes on the wire.
"""

from contextlib import suppress
from http import HTTPStatus

from tercel.shared.apps.asgi_types import AsgiCallable, Message, Receive, Scope, Send
from tercel.shared.apps.endings import answer_status, is_from_outside, log_failure
from tercel.shared.apps.lifespan import Lifespan
from tercel.shared.apps.response import NOTHING, AsgiResponse
from tercel.shared.apps.scope import MountPoint, http_scope, offered_extensions
from tercel.shared.apps.websocket import AsgiWebSocketHandler
from tercel.shared.errors import LocalProtocolError, ResetReason, ServerError
from tercel.shared.flow import Wakeup
from tercel.shared.logs import logger
from tercel.shared.messages import Fields
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestHandler, RequestStream, SendState
from tercel.shared.tasks import TaskSet
from tercel.shared.websocket.negotiation import Handshake, HandshakeRefused

log = logger("tercel.asgi")


class AsgiApplication(Application):
    """Serves the ASGI 3 callable `app`. Each request runs in its own task of `tasks`.

    The task starts at once and runs until it first waits, possibly to its end.
    """

    def __init__(self, app: AsgiCallable, *, settings: Settings, tasks: TaskSet) -> None:
        self._app = app
        self._settings = settings
        self._tasks = tasks
        self._mount = MountPoint(settings.root_path.rstrip("/"), settings.root_path_in_target)
        self._offered = offered_extensions(pathsend=settings.pathsend)
        self._lifespan = Lifespan(app, settings=settings)

    def open(self, stream: RequestStream) -> "AsgiHandler | AsgiWebSocketHandler":
        """Start to handle the request with the head `stream.head`."""
        trailers: Fields = []
        scope = http_scope(
            stream,
            mount=self._mount,
            state=self._lifespan.state,
            trailers=trailers,
            offered=self._offered,
        )
        app = self._app
        if self._mount.in_target and not self._mount.includes(scope["path"]):
            app = _answering(HTTPStatus.NOT_FOUND, [])
        elif stream.head.protocol == b"websocket":
            websocket = self._open_websocket(stream, scope, trailers)
            self._tasks.spawn(websocket.run(), name="asgi websocket")
            return websocket
        handler = AsgiHandler(app, stream, scope, trailers, self._tasks)
        self._tasks.start(handler.run(), name="asgi http")
        if handler.expected is not NOTHING:
            handler.suspended()
        return handler

    def _open_websocket(
        self, stream: RequestStream, scope: Scope, trailers: Fields
    ) -> "AsgiHandler | AsgiWebSocketHandler":
        try:
            handshake = Handshake(stream.head, self._settings)
        except HandshakeRefused as refused:
            log.debug("WebSocket refused: %s", refused)
            app = _answering(HTTPStatus(refused.status), refused.fields)
            return AsgiHandler(app, stream, scope, trailers, self._tasks)
        return AsgiWebSocketHandler(
            self._app,
            stream,
            scope=scope,
            handshake=handshake,
            settings=self._settings,
            tasks=self._tasks,
        )

    async def startup(self) -> None:
        """Start the application's lifespan. Raises ServerError when startup fails."""
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """End the application's lifespan."""
        await self._lifespan.shutdown()


class AsgiHandler(AsgiResponse, RequestHandler):
    """One call of the application: an AsgiResponse with its request.

    One object for both, with positional parameters: together this saves 1.5 us per request.
    """

    __slots__ = (
        "_app",
        "_disconnected",
        "_request_read",
        "_request_trailers",
        "_scope",
        "_tasks",
    )

    def __init__(
        self,
        app: AsgiCallable,
        stream: RequestStream,
        scope: Scope,
        trailers: Fields,
        tasks: TaskSet,
    ) -> None:
        AsgiResponse.__init__(self, stream)
        self._app = app
        self._scope = scope
        self._request_trailers = trailers
        self._tasks = tasks
        self._request_read = False
        self._disconnected = False
        """Whether `receive` returns, or has returned, http.disconnect."""
        # Until the application first waits, content may follow the head at once, as it mostly does.
        self._head_due = False

    async def run(self) -> None:
        """Call the application, and end the exchange however the call ends."""
        try:
            await self._app(self._scope, self._receive, self.send)
        except BaseException as error:
            if is_from_outside(error, self._tasks):
                if self._stream.send_state is not SendState.ENDED:
                    self._stream.reset(ResetReason.REQUEST_CANCELLED)
                raise
            gone = self._disconnected or self._stream.aborted is not None
            log_failure(self._name(), error, gone=gone)
            self._give_up()
        else:
            if self.expected is not NOTHING and self._stream.aborted is None:
                self._returned_early()
        finally:
            if self.expected is not NOTHING:
                self.complete()

    def suspended(self) -> None:
        """The application waits for the first time: send the response head if there is one."""
        self._head_due = True
        self.release_head()

    # -- the stream's side ------------------------------------------------------------------

    def content_received(self) -> None:
        """Wake a `receive` that waits."""
        self._wake()

    def message_complete(self) -> None:
        """Wake a `receive` that waits."""
        self._wake()

    def aborted(self, error: ServerError) -> None:
        """Let `receive` return http.disconnect; the application is not cancelled."""
        self._wake()

    def response_aborted(self, error: ServerError) -> None:
        """Let `receive` return http.disconnect; the application is not cancelled."""
        self._wake()

    def client_ended(self) -> None:
        """Let `receive` return http.disconnect; the response is still sent."""
        self._disconnected = True
        self._wake()

    # -- the application's side -------------------------------------------------------------

    async def _receive(self) -> Message:
        stream = self._stream
        content = stream.content
        while self.expected is not NOTHING and stream.aborted is None:
            if not self._request_read:
                body = content.take()
                if body or content.ended:
                    more = content.size > 0 or not content.ended
                    if not more:
                        self._request_read = True
                        self._request_trailers.extend(content.trailers)
                    return {"type": "http.request", "body": body, "more_body": more}
                stream.want_content()
            elif self._disconnected:
                break
            if self._wakeup is None:
                self._wakeup = Wakeup()
            await self._wakeup.wait()
        self._disconnected = True
        return {"type": "http.disconnect"}

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()

    # -- an application that fails ----------------------------------------------------------

    def _returned_early(self) -> None:
        log.error("%s returned where %s was expected", self._name(), self.expected.value)
        with suppress(LocalProtocolError):
            if self.end_if_whole():
                return
        self._give_up()

    def _give_up(self) -> None:
        """End an exchange that the application left unfinished."""
        stream = self._stream
        if stream.aborted is not None or stream.send_state is SendState.ENDED:
            return
        if stream.send_state is SendState.CONTENT:
            stream.reset(ResetReason.INTERNAL_ERROR)
            return
        answer_status(stream, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _name(self) -> str:
        return f"{self._scope['method']} {self._scope['path']!r}"


def _answering(status: HTTPStatus, fields: Fields) -> AsgiCallable:
    """An application that answers with `status`, in place of the real one."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body = status.phrase.encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        start = {"type": "http.response.start", "status": status, "headers": headers + fields}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return answer
