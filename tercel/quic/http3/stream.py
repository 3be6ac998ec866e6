"""One HTTP/3 exchange: a request stream (RFC 9114 4.1) as applications see it."""

from functools import partial
from typing import Any, Protocol

from tercel.quic.http3 import connection
from tercel.quic.http3.errors import ErrorCode, reset_code
from tercel.quic.http3.fields import Request
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.varint import encode_varint
from tercel.shared import control_data
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.content import NO_CONTENT, ContentBuffer
from tercel.shared.errors import (
    ContentTooLarge,
    MalformedMessage,
    RemoteProtocolError,
    ResetReason,
    StreamAborted,
    TargetTooLong,
)
from tercel.shared.flow import WriteGate
from tercel.shared.messages import Fields, RequestHead, ResponseHead
from tercel.shared.request_fields import check_expectations
from tercel.shared.settings import Settings
from tercel.shared.stream import RequestStream, SendState


class Owner(Protocol):
    """The interface of a connection that an exchange uses."""

    context: ServerContext
    info: ConnectionInfo
    quic: QuicServerConnection

    @property
    def http(self) -> connection.H3Connection | None:
        """The HTTP/3 state of the connection."""

    def write(self, stream: Any, data: bytes, end_stream: bool) -> None:
        """Queue bytes of a response."""

    def grant(self, stream_id: int, size: int) -> None:
        """Give credit for content that was consumed."""

    def flush_soon(self, stream: Any) -> None:
        """Write the held head of `stream` at the end of this loop iteration."""

    def abort_stream(self, stream: Any, error: StreamAborted, code: ErrorCode) -> None:
        """Abort an exchange in both directions."""

    def finish_upgraded(self, stream: Any) -> None:
        """Stop reading an upgraded exchange whose own side has ended."""


class H3RequestStream(RequestStream):
    """Writes frames into the QUIC stream; the protocol sends them once per loop iteration."""

    __slots__ = (
        "_content_length",
        "_expects_continue",
        "_gate",
        "_held",
        "_protocol",
        "stream_id",
        "waited",
        "waiting_since",
    )

    def __init__(
        self,
        protocol: Owner,
        stream_id: int,
        head: RequestHead,
        content_length: int | None,
        *,
        expects_continue: bool = False,
        ended: bool = False,
    ) -> None:
        """With `ended` the request is complete: nothing follows its head."""
        content = NO_CONTENT if ended else ContentBuffer(partial(protocol.grant, stream_id))
        RequestStream.__init__(self, head, content, protocol.info)
        self.stream_id = stream_id
        self._protocol = protocol
        self._content_length = content_length
        self._gate: WriteGate | None = None
        """Created when too much is unsent for the first time, which is rare."""
        self._held = b""
        self._expects_continue = expects_continue
        self.waiting_since: float | None = None
        """Since when the application has been waiting for content."""
        self.waited = 0.0
        """Seconds that it waited before that."""

    # -- the application's side -----------------------------------------------------------------

    def want_content(self) -> None:
        """Send 100 Continue to a client that waits for it before it sends content."""
        if self.waiting_since is None:
            self.waiting_since = self._protocol.context.clock()
        if self._expects_continue and self.send_state is SendState.HEAD and not self.aborted:
            self._expects_continue = False
            if not self.content.received:
                self._write_informational(100, [])

    async def drain(self) -> None:
        timeout = self._protocol.context.settings.send_timeout
        while self._gate is not None and self._gate.paused:
            taken = self._protocol.quic.progress(self.stream_id)
            if await self._gate.wait(timeout):
                return
            if self._protocol.quic.progress(self.stream_id) > taken:
                continue  # slow, but not stalled
            error = StreamAborted("the client took nothing of the response in its time")
            self._protocol.abort_stream(self, error, ErrorCode.REQUEST_CANCELLED)
            raise error

    @property
    def writable(self) -> bool:
        return self._gate is None or not self._gate.paused

    @property
    def unsent(self) -> int:
        return self._protocol.quic.backlog(self.stream_id)

    def close_upgraded(self) -> None:
        if self.can_send_content:
            self.send_content(b"", end_stream=True)
        self._protocol.finish_upgraded(self)

    def write_upgraded(self, data: bytes) -> None:
        self.content_sent += len(data)
        self._protocol.write(self, b"\x00" + encode_varint(len(data)) + data, False)

    def reset(self, reason: ResetReason) -> None:
        self.send_state = SendState.ENDED
        self._held = b""
        self._protocol.abort_stream(self, StreamAborted(reason.value), reset_code(reason))

    # -- the connection's side --------------------------------------------------------------

    def accept_content(self, data: bytes) -> None:
        """Check the next content against the announced length, and pass it on.

        Raises MalformedMessage or ContentTooLarge.
        """
        if data:
            if self.waiting_since is not None:
                self.waited += self._protocol.context.clock() - self.waiting_since
                self.waiting_since = None
            if self.upgraded is not None and self.upgraded.pass_on(data):
                self._protocol.grant(self.stream_id, len(data))
                return
            try:
                self._check_content_size(self.content.received + len(data))
            except RemoteProtocolError:
                self._protocol.grant(self.stream_id, len(data))
                raise
            self.receive_content(data)

    def accept_end(self, trailers: Fields) -> None:
        """Check that the content is complete, and pass on its end."""
        if self._content_length is not None and self.content.received != self._content_length:
            raise MalformedMessage("less content than its content-length says")
        self.receive_end(trailers)

    def update_gate(self) -> bool:
        """Resume writers once little enough is unsent; True while they are still held back."""
        backlog = self._protocol.quic.backlog(self.stream_id)
        if self._gate is None:
            if backlog <= self._protocol.context.settings.max_unsent_bytes:
                return False
            self._gate = self._new_gate()
        self._gate.update(backlog)
        return self._gate.paused

    def close_gate(self, error: StreamAborted) -> None:
        """Fail all waiting writers."""
        if self._gate is None:
            self._gate = self._new_gate()
        self._gate.close(error)

    def _new_gate(self) -> WriteGate:
        high = self._protocol.context.settings.max_unsent_bytes
        return WriteGate(high=high, low=high // 2)

    def release_head(self) -> None:
        """Write the head that was held back to be sent together with content."""
        if self._held:
            held, self._held = self._held, b""
            self._protocol.write(self, held, False)

    # -- the wire -------------------------------------------------------------------------------

    def _write_informational(self, status: int, fields: Fields) -> None:
        self._protocol.write(self, self._section([(b":status", b"%d" % status), *fields]), False)

    def _write_head(self, head: ResponseHead, end_stream: bool) -> None:
        frame = self._head_frame(head)
        if end_stream:
            self._protocol.write(self, frame, True)
        else:
            # Most responses are one head and one piece of content: one write for both.
            self._held = frame
            self._protocol.flush_soon(self)

    def _write_content(self, data: bytes, end_stream: bool) -> None:
        frames = [self._held] if self._held else []
        self._held = b""
        if data:
            frames += (b"\x00", encode_varint(len(data)), data)
        self._protocol.write(self, b"".join(frames), end_stream)

    def _write_response(self, head: ResponseHead, content: bytes) -> None:
        frame = self._head_frame(head)
        if content:
            frame = b"".join((frame, b"\x00", encode_varint(len(content)), content))
        self._protocol.write(self, frame, True)

    def _write_trailers(self, fields: Fields) -> None:
        frame = self._section(fields) if fields else b""
        held, self._held = self._held, b""
        self._protocol.write(self, held + frame, True)

    def _write_upgrade(self, fields: Fields) -> None:
        self.response = ResponseHead(200, fields)
        section = [(b":status", b"200"), *fields]
        self._protocol.context.response_fields.complete(section)
        self._protocol.write(self, self._section(section), False)

    def _head_frame(self, head: ResponseHead) -> bytes:
        fields = [(b":status", b"%d" % head.status), *head.fields]
        if head.status == 204:
            # RFC 9110 8.6: there is no length to tell where there can be no content.
            fields = [line for line in fields if line[0] != b"content-length"]
        self._protocol.context.response_fields.complete(fields)
        return self._section(fields)

    def _section(self, fields: Fields) -> bytes:
        http = self._protocol.http
        assert isinstance(http, connection.H3Connection)  # noqa: S101  # a stream exists, so h3 does
        return http.sections.encode(self.stream_id, fields)

    def _check_content_size(self, received: int) -> None:
        if self._content_length is not None and received > self._content_length:
            # RFC 9114 4.1.2: the sum of the DATA frames is the content length.
            raise MalformedMessage("more content than its content-length says")
        limit = self._protocol.context.settings.max_content_bytes
        if self.upgraded is None and limit and received > limit:
            raise ContentTooLarge(f"content over {limit} bytes")


def refusal(error: RemoteProtocolError) -> bool:
    """Whether `error` is answered with a response; a malformed message is reset instead."""
    return not isinstance(error, MalformedMessage) or isinstance(error, TargetTooLong)


def check_served(request: Request, settings: Settings) -> None:
    """Raise the RemoteProtocolError that answers a request which this server does not serve."""
    head, content_length, expectations = request
    control_data.check_served(head, b"https")  # there is no QUIC without TLS
    if len(head.target) > settings.max_target_bytes:
        raise TargetTooLong("the request target is over max_target_bytes")
    limit = settings.max_content_bytes
    if limit and (content_length or 0) > limit:
        raise ContentTooLarge(f"{content_length} bytes of content, {limit} are allowed")
    if expectations:
        check_expectations(expectations)
