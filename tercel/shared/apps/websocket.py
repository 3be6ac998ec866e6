"""The ASGI `websocket` scope on a RequestStream, for an Upgrade and for an extended CONNECT alike.

Owns the order of the `websocket.*` messages. The protocol itself is in `tercel.shared.websocket`.
"""

from contextlib import suppress
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final

from tercel.shared.apps.asgi_types import AsgiCallable, Message, Scope
from tercel.shared.apps.endings import answer_status, is_from_outside, log_failure
from tercel.shared.apps.response import AsgiResponse, Expected, message_fields
from tercel.shared.errors import LocalProtocolError, ResetReason, ServerError, StreamAborted
from tercel.shared.flow import Wakeup
from tercel.shared.logs import logger
from tercel.shared.settings import Settings
from tercel.shared.stream import RequestHandler, RequestStream, SendState
from tercel.shared.tasks import TaskSet
from tercel.shared.upgrade import upgrade
from tercel.shared.websocket import ConnectionClosed as WebSocketClosed
from tercel.shared.websocket import ProtocolError
from tercel.shared.websocket.impl import WebsocketImplProtocol
from tercel.shared.websocket.negotiation import Handshake
from tercel.shared.websocket.unfinished import MessageLimits

log = logger("tercel.asgi")

_NORMAL = 1000
_ABNORMAL = 1006
_INTERNAL_ERROR = 1011


class _Step(Enum):
    """The state of the WebSocket, as the application sees it."""

    OPENING = auto()
    OPEN = auto()
    DENYING = auto()
    """Answered with an HTTP response (extension websocket.http.response)."""
    CLOSED = auto()


# See tercel.shared.stream: looking a member up in its class costs 0.12 us on Python 3.11.
_OPEN: Final = _Step.OPEN


class AsgiWebSocketHandler(RequestHandler):
    """One call of the application for one WebSocket."""

    __slots__ = (
        "_app",
        "_client_left",
        "_connect_received",
        "_denial",
        "_handshake",
        "_scope",
        "_settings",
        "_step",
        "_stream",
        "_tasks",
        "_wakeup",
        "_websocket",
    )

    def __init__(
        self,
        app: AsgiCallable,
        stream: RequestStream,
        *,
        scope: Scope,
        handshake: Handshake,
        settings: Settings,
        tasks: TaskSet,
    ) -> None:
        self._app = app
        self._stream = stream
        self._scope = websocket_scope(scope, handshake.subprotocols)
        self._handshake = handshake
        self._settings = settings
        self._tasks = tasks
        self._step = _Step.OPENING
        self._connect_received = False
        self._wakeup = Wakeup()
        self._websocket: WebsocketImplProtocol | None = None
        self._denial: AsgiResponse | None = None
        self._client_left = False
        """Whether the application was told that the client, or the server, has closed."""

    async def run(self) -> None:
        """Call the application, and end the WebSocket however the call ends."""
        try:
            await self._app(self._scope, self._receive, self._send)
        except BaseException as error:
            if is_from_outside(error, self._tasks):
                self._abort()
                raise
            never_open = self._websocket is None and self._stream.aborted is not None
            log_failure(self._name(), error, gone=self._client_left or never_open)
            await self._end(_INTERNAL_ERROR)
        else:
            if self._step in (_Step.OPENING, _Step.DENYING) and self._stream.aborted is None:
                log.error("%s returned where %s was expected", self._name(), self._expected())
            if not self._denied_without_content():
                await self._end(_NORMAL)

    # -- the stream's side, until the upgrade ---------------------------------------------------

    def content_received(self) -> None:
        """Data that arrives before the WebSocket is accepted stays in the stream."""

    def message_complete(self) -> None:
        """Ignored: a WebSocket's request has no end, and that of an Upgrade ends with its head."""

    def aborted(self, error: ServerError) -> None:
        """The client went before the application had answered."""
        self._wakeup.set()

    def response_aborted(self, error: ServerError) -> None:
        """The client went before the application had answered."""
        self._wakeup.set()

    # -- the application's side -------------------------------------------------------------

    async def _receive(self) -> Message:
        websocket = self._websocket
        if websocket is None or not self._connect_received:
            early = await self._receive_early()
            websocket = self._websocket
            if early is not None:
                return early
            if websocket is None:
                self._client_left = True
                return _disconnect(_ABNORMAL)
        try:
            data = await websocket.assembler.get()
        except WebSocketClosed:
            self._step = _Step.CLOSED
            self._client_left = True
            return _disconnect(websocket.close_code or _ABNORMAL, websocket.close_reason)
        if isinstance(data, str):
            return {"type": "websocket.receive", "text": data}
        return {"type": "websocket.receive", "bytes": data}

    async def _receive_early(self) -> Message | None:
        """The next message before the WebSocket is open; None once it is, or never can be."""
        if not self._connect_received:
            self._connect_received = True
            return {"type": "websocket.connect"}
        while self._step in (_Step.OPENING, _Step.DENYING) and self._stream.aborted is None:
            await self._wakeup.wait()
        return None

    async def _send(self, message: Message) -> None:
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise LocalProtocolError("a message is a dict with a type") from None
        if kind == "websocket.send":
            websocket = self._websocket
            if websocket is None or self._step is not _OPEN:
                raise self._not_open()
            text, data = message.get("text"), message.get("bytes")
            if (text is None) is (data is None):
                raise LocalProtocolError("websocket.send has either text or bytes")
            content: Any = data if text is None else text
            try:
                if not websocket.send_now(content):
                    await websocket.send(content)
            except WebSocketClosed as error:
                self._client_left = True
                raise StreamAborted("the WebSocket is closed") from error
            except (TypeError, UnicodeEncodeError) as error:
                raise LocalProtocolError(str(error)) from error
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            await self._close(message)
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            await self._deny(message)
        else:
            raise LocalProtocolError(f"{kind!r} is no message of a WebSocket")

    def _accept(self, message: Message) -> None:
        if self._step is not _Step.OPENING:
            raise LocalProtocolError("websocket.accept after the WebSocket was answered")
        negotiated = self._handshake.accept(
            message.get("subprotocol"), message_fields(message.get("headers", ()))
        )
        settings = self._settings
        websocket = WebsocketImplProtocol(
            negotiated.protocol,
            max_queue=settings.ws_max_queue,
            ping_interval=settings.ws_ping_interval,
            ping_timeout=settings.ws_ping_timeout,
            close_timeout=settings.ws_close_timeout,
        )
        websocket.attach(
            upgrade(self._stream, negotiated.fields, websocket), limits=MessageLimits.of(settings)
        )
        self._websocket = websocket
        self._step = _Step.OPEN
        self._wakeup.set()

    def _not_open(self) -> ServerError:
        """The error for a `websocket.send` while the WebSocket is not open."""
        if self._websocket is None:
            return LocalProtocolError("websocket.send before websocket.accept")
        return StreamAborted("the WebSocket is closed")

    async def _close(self, message: Message) -> None:
        if self._step is _Step.OPENING:
            # ASGI: a close before the accept is a refusal.
            self._step = _Step.CLOSED
            answer_status(self._stream, HTTPStatus.FORBIDDEN)
            self._wakeup.set()
        elif self._step is _Step.OPEN and self._websocket is not None:
            code, reason = _close_parts(message)
            try:
                self._websocket.end_connection(code, reason)
            except (ProtocolError, UnicodeEncodeError) as error:
                raise _not_of_a_close(code, reason) from error
            self._step = _Step.CLOSED
            await self._websocket.wait_for_connection_lost()
        elif self._step is _Step.DENYING:
            raise LocalProtocolError("websocket.close after websocket.http.response.start")

    async def _deny(self, message: Message) -> None:
        if self._step is _Step.OPENING:
            self._step = _Step.DENYING
            self._denial = AsgiResponse(self._stream, self._wakeup)
        if self._step is not _Step.DENYING or self._denial is None:
            raise LocalProtocolError(f"{message['type']} after the WebSocket was answered")
        await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})
        if self._denial.expected is Expected.NOTHING:
            self._step = _Step.CLOSED

    # -- an application that ends -----------------------------------------------------------

    def _denied_without_content(self) -> bool:
        """Whether the application returned after the head of a denial that can have no content."""
        if self._denial is None or self._stream.aborted is not None:
            return False
        with suppress(LocalProtocolError):
            return self._denial.end_if_whole()
        return False

    async def _end(self, code: int) -> None:
        """End the WebSocket or the response, if the application has not done it."""
        if self._websocket is not None:
            self._step = _Step.CLOSED
            await self._websocket.close(code)
        elif self._stream.aborted is None and self._stream.send_state is SendState.HEAD:
            answer_status(self._stream, HTTPStatus.INTERNAL_SERVER_ERROR)
        elif self._stream.aborted is None and self._stream.send_state is SendState.CONTENT:
            self._stream.reset(ResetReason.INTERNAL_ERROR)
        self._stream.content.discard()

    def _expected(self) -> str:
        """The message that the application had to send next."""
        if self._denial is None:
            return "websocket.accept or websocket.close"
        return f"websocket.{self._denial.expected.value}"

    def _name(self) -> str:
        return f"websocket {self._scope['path']!r}"

    def _abort(self) -> None:
        if self._websocket is not None:
            self._websocket.fail_connection(_INTERNAL_ERROR)
        elif self._stream.aborted is None:
            self._stream.reset(ResetReason.REQUEST_CANCELLED)


def websocket_scope(scope: Scope, subprotocols: list[str]) -> Scope:
    """The `websocket` scope, made from the `http` scope of its request."""
    changed: dict[str, Any] = {
        "type": "websocket",
        "scheme": "wss" if scope["scheme"] == "https" else "ws",
        "subprotocols": subprotocols,
        "extensions": {
            "websocket.http.response": {},
            **{name: value for name, value in scope["extensions"].items() if name == "tls"},
        },
    }
    return {name: value for name, value in {**scope, **changed}.items() if name != "method"}


def _close_parts(message: Message) -> tuple[int, str]:
    """Code and reason of a close frame; the protocol checks whether a frame may have them."""
    code, reason = message.get("code"), message.get("reason")
    code = _NORMAL if code is None else code
    reason = "" if reason is None else reason
    # RFC 6455 7.4.1: 1006 is never sent. The library takes it for an end without a close frame.
    if not isinstance(code, int) or code == _ABNORMAL or not isinstance(reason, str):
        raise _not_of_a_close(code, reason)
    return code, reason


def _not_of_a_close(code: object, reason: object) -> LocalProtocolError:
    return LocalProtocolError(f"no close frame has the code {code!r} and the reason {reason!r}")


def _disconnect(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
