"""What connections of every HTTP version have in common."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from tercel.shared import accesslog
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.errors import RemoteProtocolError, ResetReason
from tercel.shared.limits import Limits
from tercel.shared.messages import ResponseHead
from tercel.shared.response_fields import ResponseFields
from tercel.shared.settings import Settings
from tercel.shared.stream import Application, RequestStream
from tercel.shared.tasks import TaskSet
from tercel.shared.token_bucket import TokenBucket

# RFC 9110 10.2.3, in seconds: overload is a matter of moments.
_RETRY_AFTER = (b"retry-after", b"1")


class ServerContext:
    """What all connections of one worker share."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        application: Application,
        response_fields: ResponseFields | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        tasks: TaskSet | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.application = application
        self.response_fields = response_fields or ResponseFields()
        self.clock = clock
        """Monotonic seconds; measures every timeout."""
        self.wall_clock = wall_clock
        """Seconds since 1970; only for values that other or later processes read."""
        self.tasks = TaskSet(loop) if tasks is None else tasks
        """The calls of the application: a request's begins when its head is there, and ends when
        the application has returned, whatever has become of the exchange."""
        self.limits = limits or Limits(settings, clock, calls=self.tasks)


class HttpProtocolMixin:
    """One HTTP connection: opens exchanges for the application and accounts for their end.

    A subclass owns the transport. It calls `_begin` for each request, and `_finish` once for each
    when both directions have ended or the exchange was given up.
    """

    context: ServerContext
    info: ConnectionInfo
    streams: dict[int, RequestStream]
    _request_rate: TokenBucket | None = None
    _stopping: bool

    @property
    def going_away(self) -> bool:
        """Whether the server is shutting down: endless exchanges should end."""
        return self._stopping

    @property
    def http(self) -> Any:
        """The sans-I/O half of the connection, which parses; None before there is one."""
        raise NotImplementedError

    @property
    def version(self) -> int:
        """The major HTTP version: 1 or 3."""
        raise NotImplementedError

    async def websocket_handshake(
        self, request: Any, subprotocols: Sequence[str] | None = None
    ) -> Any:
        """Accept the WebSocket that `request`, a Sanic application's, asks for.

        Chooses the first of `subprotocols` that the client offers. If the WebSocket cannot be
        accepted, raises the error that the application answers with.
        """
        return await request.stream.websocket_handshake(subprotocols)

    def _begin(self, stream_id: int, stream: RequestStream) -> None:
        """Add `stream` to the table and pass it to the application."""
        self.streams[stream_id] = stream
        stream.opened_at = self.context.clock()
        context = self.context
        settings = context.settings
        if (settings.max_request_rate or settings.max_concurrency) and (
            status := self._overload(stream)
        ):
            # Without a handler: the application never hears of it.
            stream.send_response(ResponseHead(status, [_RETRY_AFTER]), b"")
            return
        try:
            handler = context.application.open(stream)
        except Exception:
            accesslog.log.exception("the application adapter failed")
            stream.reset(ResetReason.INTERNAL_ERROR)
            return
        if stream_id in self.streams:
            # Else the exchange is over already, and nobody would take them apart again.
            stream.handler = handler

    def _overload(self, stream: RequestStream) -> int:
        """The status to refuse a request with, 0 to serve it."""
        most = self.context.settings.max_request_rate
        if most:
            if self._request_rate is None:
                self._request_rate = TokenBucket(most)
            if not self._request_rate.admit(stream.opened_at):
                self.context.limits.meet("max_request_rate")
                stream.refused = "max_request_rate"
                return 429  # RFC 6585 4
        if self.context.limits.may_call():
            return 0
        stream.refused = "max_concurrency"
        return 503

    def _tell_going_away(self) -> None:
        """Tell every exchange that the server is shutting down."""
        for stream in list(self.streams.values()):
            if stream.handler is not None:
                stream.handler.going_away()

    def _finish(self, stream_id: int) -> None:
        """Remove the stream from the table and log the exchange."""
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        # The adapter knows its stream: a cycle, which the garbage collector would have to find.
        # Without it a small request costs the adapter 20 to 45 % less CPU.
        stream.handler = None
        error = stream.aborted
        upgraded = stream.upgraded
        if upgraded is not None:
            # Where this side has ended it, it is no news that the connection goes then.
            note = upgraded.lost(None if upgraded.closed else error)
        else:
            note = stream.refused if error is None else str(error)
        if not self.context.settings.access_log:
            return
        accesslog.log_exchange(
            stream.head,
            client=self.info.client_name,
            status=0 if stream.response is None else stream.response.status,
            size=stream.content_sent,
            seconds=self.context.clock() - stream.opened_at,
            note=note,
        )

    def _log_refusal(
        self, error: RemoteProtocolError, *, status: int = 0, size: int = 0, seconds: float = 0.0
    ) -> None:
        """Log a request that was refused before there was an exchange.

        `seconds` is how long it was waited for; status 0 is a reset.
        """
        if self.context.settings.access_log:
            accesslog.log_refusal(
                error.request_line,
                client=self.info.client_name,
                status=status,
                size=size,
                seconds=seconds,
                note=str(error),
            )
