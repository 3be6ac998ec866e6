"""One request/response exchange (RFC 9114 4.1) and the interfaces on its two sides.

Implements, once, the rules for a response on every HTTP version: the order of its parts, content
that must not be sent, the announced length. Subclasses write to the wire.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.content import ContentBuffer
from tercel.shared.errors import LocalProtocolError, ResetReason, ServerError, StreamAborted
from tercel.shared.messages import (
    BODILESS_STATUS,
    Fields,
    RequestHead,
    ResponseHead,
)
from tercel.shared.settings import Settings

if TYPE_CHECKING:
    from tercel.shared.bytestream import UpgradedExchange


class SendState(Enum):
    """The progress of the response."""

    HEAD = auto()
    CONTENT = auto()
    ENDED = auto()


# Python 3.11 takes 0.12 us to find a member of an enumeration by its class, 3.12 a quarter of
# that: a small request over HTTP/1.1 asked some twenty times. Modules that every request runs
# through name the members once.
_HEAD: Final = SendState.HEAD
_CONTENT: Final = SendState.CONTENT
_ENDED: Final = SendState.ENDED


Transfer = Callable[[int], Awaitable[int]]
"""Sends bytes through the descriptor of a non-blocking socket, as many as it accepts now; returns
how many. 0 means "none now", a negative number that there are no more."""


class RequestHandler(ABC):
    """The events of one exchange, for an application adapter.

    `content_received` any number of times, then exactly one of `message_complete` and `aborted`.
    After `message_complete`, `response_aborted` may follow once when the response cannot be
    finished. A handler whose exchange is over when `Application.open` returns is not called at all.
    None of the methods may block or raise.
    """

    @abstractmethod
    def content_received(self) -> None:
        """New content is in `stream.content`."""

    @abstractmethod
    def message_complete(self) -> None:
        """The request is complete: `stream.content.ended` is set, with its trailers."""

    @abstractmethod
    def aborted(self, error: ServerError) -> None:
        """The request will not be complete: the peer reset it, or its connection is gone."""

    @abstractmethod
    def response_aborted(self, error: ServerError) -> None:
        """The request was complete, but the peer no longer accepts the response."""

    def client_ended(self) -> None:  # noqa: B027  (most exchanges just end)
        """The client has closed its side of a cleartext connection, after the request.

        It may have gone, or may still read the response: TCP shows which only when data is sent.
        """

    def going_away(self) -> None:  # noqa: B027  (most exchanges just end)
        """The server is shutting down: endless exchanges should end."""


class Application(ABC):
    """An application of any interface, as the connections see it."""

    @abstractmethod
    def open(self, stream: "RequestStream") -> RequestHandler:
        """Start to answer the request that `stream.head` opens. Must not block.

        Later work runs in the connection's `ServerContext.tasks`: `max_concurrency` counts those
        tasks.
        """

    def configure(self, settings: Settings) -> Settings:
        """The settings to serve with: `settings`, completed by the application's own."""
        return settings

    def connected(self, info: ConnectionInfo) -> None:  # noqa: B027 (most do not care)
        """A connection was opened. Must not block."""

    def disconnected(self, info: ConnectionInfo) -> None:  # noqa: B027 (most do not care)
        """A connection has ended, with all its exchanges. Must not block."""

    async def before_start(self) -> None:  # noqa: B027 (most have nothing to do)
        """Run between `startup` and the first connection. An exception ends the start."""

    async def after_start(self) -> None:  # noqa: B027 (most have nothing to do)
        """Run when connections are accepted."""

    async def before_stop(self) -> None:  # noqa: B027 (most have nothing to do)
        """Run when the server begins to stop, before it waits for running exchanges."""

    @abstractmethod
    async def startup(self) -> None:
        """Run before the first connection is accepted.

        Raises ServerError when the application refuses to start.
        """

    @abstractmethod
    async def shutdown(self) -> None:
        """Run after the last exchange has ended."""


class RequestStream(ABC):
    """One exchange, seen from the application's side.

    The `send_*` methods never block; `drain` waits while too much is unsent. They raise
    LocalProtocolError when the application breaks the rules of a message and StreamAborted when the
    peer has gone.
    """

    __slots__ = (
        "_content_left",
        "_suppress_content",
        "aborted",
        "connection",
        "content",
        "content_sent",
        "handler",
        "head",
        "opened_at",
        "refused",
        "response",
        "send_state",
        "upgraded",
    )

    def __init__(
        self, head: RequestHead, content: ContentBuffer, connection: ConnectionInfo
    ) -> None:
        self.head = head
        self.content = content
        self.connection = connection
        self.handler: RequestHandler | None = None
        self.response: ResponseHead | None = None
        """The head that was sent, for the access log."""
        self.send_state = _HEAD
        self.aborted: ServerError | None = None
        self.content_sent = 0
        """Content bytes of the response sent so far."""
        self.opened_at = 0.0
        """When the request's head arrived, by the context's clock."""
        self.refused = ""
        """The limit that kept the application from being called, for the access log."""
        self._content_left: int | None = None
        self._suppress_content = False
        self.upgraded: UpgradedExchange | None = None
        """The protocol stream of an upgraded exchange."""

    # -- the application's side -------------------------------------------------------------

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send an interim response (RFC 9110 15.2), for example 103 with its links.

        `status` is 100 to 199 but not 101. HTTP/1.0 clients get nothing.
        """
        if self.send_state is not _HEAD:
            raise LocalProtocolError(f"status {status} after the final response has begun")
        if not 100 <= status <= 199 or status == 101:
            raise LocalProtocolError(f"{status} is not the status of an interim response")
        self._check_alive()
        self._write_informational(status, fields)

    def send_head(self, head: ResponseHead, *, end_stream: bool = False) -> None:
        """Send the final response's head; with `end_stream` there is no content."""
        if self.send_state is not _HEAD:
            raise LocalProtocolError("the response has begun already")
        if not 200 <= head.status <= 599:
            raise LocalProtocolError(f"{head.status} is not the status of a final response")
        self._check_alive()
        self._content_left = head.promised_length()
        # RFC 9110 9.3.2, 6.4.1: these have no content, but may say what length it would have.
        self._suppress_content = self.head.method == b"HEAD" or head.status in BODILESS_STATUS
        if end_stream:
            self._check_length_kept()
        self.response = head
        self.send_state = _ENDED if end_stream else _CONTENT
        try:
            self._write_head(head, end_stream)
        except LocalProtocolError:
            self._unsend(_HEAD)
            raise

    def send_content(self, data: bytes, *, end_stream: bool = False) -> None:
        """Send the next content; with `end_stream` it is the last.

        Content of a response that may have none (HEAD, 204, 304) is left out.
        """
        if self.send_state is not _CONTENT:
            raise LocalProtocolError(f"content while the response is at its {self.send_state.name}")
        self._check_alive()
        if self._suppress_content:
            data = b""
        elif self._content_left is not None:
            self._content_left -= len(data)
            if self._content_left < 0:
                raise LocalProtocolError("more content than its content-length says")
        if end_stream:
            self._check_length_kept()
            self.send_state = _ENDED
        if data or end_stream:
            self.content_sent += len(data)
            self._write_content(data, end_stream)

    def send_response(self, head: ResponseHead, content: bytes) -> None:
        """Send the whole response: as `send_head` and the last `send_content`, but cheaper."""
        status = head.status
        if self.send_state is not _HEAD:
            raise LocalProtocolError("the response has begun already")
        if not 200 <= status <= 599:
            raise LocalProtocolError(f"{status} is not the status of a final response")
        if self.aborted is not None:
            self._check_alive()
        length = head.promised_length()
        if self.head.method == b"HEAD" or status in BODILESS_STATUS:
            self._suppress_content = True
            content = b""
        elif length is not None and length != len(content):
            raise LocalProtocolError(f"content of {len(content)} bytes, content-length {length}")
        self.response = head
        self.send_state = _ENDED
        self.content_sent = len(content)
        try:
            self._write_response(head, content)
        except LocalProtocolError:
            self._unsend(_HEAD)
            raise

    def send_trailers(self, fields: Fields) -> None:
        """Send the trailer section, which ends the response (RFC 9110 6.5)."""
        if self.send_state is not _CONTENT:
            raise LocalProtocolError(
                f"trailers while the response is at its {self.send_state.name}"
            )
        self._check_alive()
        self._check_length_kept()
        self.send_state = _ENDED
        if self._suppress_content:
            # RFC 9110 6.4.1: without content there is nothing that trailers could follow.
            self._write_content(b"", True)
        else:
            try:
                self._write_trailers(fields)
            except LocalProtocolError:
                self._unsend(_CONTENT)
                raise

    def accept_upgrade(self, fields: Fields) -> None:
        """Accept the protocol that `head.protocol` names; content is that protocol's from now on.

        Sends 101 (RFC 9110 15.2.2), or 200 to an extended CONNECT (RFC 9220 3), with `fields`.
        `tercel.shared.upgrade.upgrade` is what adapters call.
        """
        if self.head.protocol is None:
            raise LocalProtocolError("the client did not ask for another protocol")
        if self.send_state is not _HEAD:
            raise LocalProtocolError("the response has begun already")
        self._check_alive()
        self.send_state = _CONTENT
        try:
            self._write_upgrade(fields)
        except LocalProtocolError:
            self._unsend(_HEAD)
            raise

    @property
    def can_send_content(self) -> bool:
        """Whether `send_content` would neither raise nor be without effect."""
        return self.send_state is _CONTENT and self.aborted is None

    def want_content(self) -> None:  # noqa: B027 (most streams have nothing to do)
        """The application waits for content now: HTTP/1.1 sends 100 Continue (RFC 9110 10.1.1)."""

    @abstractmethod
    def reset(self, reason: ResetReason) -> None:
        """Abort the exchange at once. HTTP/1.1 closes the connection; idempotent."""

    @property
    def takes_transfers(self) -> bool:
        """Whether `send_transfer` is available for the next content."""
        return False

    async def send_transfer(self, transfer: Transfer, size: int) -> None:
        """Let `transfer` send the next `size` bytes of content directly, not through this process.

        Raises as `send_content` and `drain` do.
        """
        raise NotImplementedError

    @abstractmethod
    async def drain(self) -> None:
        """Wait until more may be sent.

        Raises StreamAborted when the peer is gone, or accepted no data for `send_timeout` seconds.
        """

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether `drain` would return at once."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes of the response that are not sent yet."""

    @abstractmethod
    def write_upgraded(self, data: bytes) -> None:
        """Send bytes of an upgraded exchange; only while `can_send_content`."""

    @abstractmethod
    def close_upgraded(self) -> None:
        """End both sides of an upgraded exchange after the written data."""

    # -- the connection's side --------------------------------------------------------------

    def receive_content(self, data: bytes) -> None:
        """Pass on the next content of the request."""
        self.content.append(data)
        if self.handler is not None:
            self.handler.content_received()

    def receive_end(self, trailers: Fields) -> None:
        """Pass on the end of the request."""
        self.content.end(trailers)
        if self.handler is not None:
            self.handler.message_complete()

    def receive_abort(self, error: ServerError) -> None:
        """Pass on that the exchange was aborted, by either side; later calls have no effect."""
        if self.aborted is not None:
            return
        self.aborted = error
        if self.handler is not None:
            if self.content.ended:
                self.handler.response_aborted(error)
            else:
                self.handler.aborted(error)
        self.content.discard()

    # -- the wire, a subclass's -------------------------------------------------------------

    @abstractmethod
    def _write_informational(self, status: int, fields: Fields) -> None: ...

    @abstractmethod
    def _write_head(self, head: ResponseHead, end_stream: bool) -> None: ...

    @abstractmethod
    def _write_content(self, data: bytes, end_stream: bool) -> None: ...

    @abstractmethod
    def _write_trailers(self, fields: Fields) -> None: ...

    @abstractmethod
    def _write_upgrade(self, fields: Fields) -> None: ...

    def _write_response(self, head: ResponseHead, content: bytes) -> None:
        """Write head, content and end; a subclass may do it in a single step."""
        self._write_head(head, not content)
        if content:
            self._write_content(content, True)

    def _unsend(self, state: SendState) -> None:
        """Return to `state`: nothing was written, as this HTTP version cannot express the response.

        The application gets the error and may still answer; so may its substitute.
        """
        self.send_state = state
        if state is _HEAD:
            self.response = None
            self.content_sent = 0
            self._suppress_content = False

    def _check_alive(self) -> None:
        if self.aborted is not None:
            raise StreamAborted(str(self.aborted)) from self.aborted

    def _check_length_kept(self) -> None:
        if self._content_left and not self._suppress_content:
            raise LocalProtocolError(
                f"the content ended {self._content_left} bytes before its content-length"
            )
