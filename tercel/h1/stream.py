"""H1RequestStream: one request and its response on an HTTP/1.1 connection.

Turns the parts of a response into writes; head and content that are sent together become one write.
Knows its connection only as an `Owner`, and no parser.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from tercel.h1.events import HeadReceived
from tercel.h1.writer import Framing, ResponseWriter
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.content import NO_CONTENT, ContentBuffer
from tercel.shared.errors import LocalProtocolError, ResetReason, StreamAborted
from tercel.shared.flow import WriteGate
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.stream import RequestStream, SendState, Transfer


class Owner(Protocol):
    """The interface of a connection that an exchange uses."""

    loop: asyncio.AbstractEventLoop
    context: ServerContext
    info: ConnectionInfo
    write_gate: WriteGate
    """Tells whether more may be written; `drain` waits at it."""

    def write(self, buffers: list[bytes]) -> None:
        """Send `buffers` in order; does nothing when the connection is closing."""

    def write_one(self, data: bytes) -> None:
        """Send `data`, as `write` does."""

    def may_persist(self) -> bool:
        """Whether another request may follow on the connection."""

    @property
    def leaves_too_much(self) -> bool:
        """Whether more content is still to come than the server reads to discard it."""

    def response_ended(self, stream: Any) -> None:
        """The response is complete."""

    def content_wanted(self, stream: Any) -> None:
        """The application waits for content."""

    def upgraded(self, stream: Any) -> None:
        """The connection belongs to another protocol from the next byte on."""

    def close_upgraded(self, stream: Any) -> None:
        """The upgraded protocol has ended."""

    def content_consumed(self, size: int) -> None:
        """The application has read `size` bytes of content."""

    def give_up(self, stream: Any, reason: ResetReason) -> None:
        """Abort the exchange."""

    @property
    def unsent(self) -> int:
        """Bytes that are not sent yet."""

    async def drain(self) -> None:
        """Wait until more may be written."""

    @property
    def takes_transfers(self) -> bool:
        """Whether `transfer` is available."""

    def transfer(self, transfer: Transfer, size: int) -> AsyncIterator[int]:
        """Send `size` bytes past this process; yields what was sent, piece by piece."""


class H1RequestStream(RequestStream):
    """One exchange. `stream_id` counts the requests of the connection."""

    __slots__ = (
        "_expect_continue",
        "_held",
        "_keep_alive",
        "_owner",
        "_writer",
        "request_complete",
        "stream_id",
    )

    def __init__(self, event: HeadReceived, owner: Owner, stream_id: int) -> None:
        head = event.head
        content = NO_CONTENT
        if event.has_content or head.protocol is not None:
            content = ContentBuffer(owner.content_consumed)
        RequestStream.__init__(self, head, content, owner.info)
        self.stream_id = stream_id
        self.request_complete = False
        """The request is complete, and the handler was notified."""
        self._owner = owner
        self._keep_alive = event.keep_alive
        self._writer: ResponseWriter | None = None
        self._expect_continue = event.expect_continue
        self._held: ResponseHead | None = None

    @property
    def writer(self) -> ResponseWriter:
        """The response's writer, which knows its framing and whether the connection persists."""
        writer = self._writer
        if writer is None:
            owner = self._owner
            writer = self._writer = ResponseWriter(
                self.head, self._keep_alive, owner.context.response_fields, owner.info.secure
            )
        return writer

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may persist after this exchange."""
        return self._keep_alive if self._writer is None else self._writer.keep_alive

    def want_content(self) -> None:
        """Send 100 Continue if the client waits for it (RFC 9110 10.1.1), and start the timer."""
        if self.content.ended or self.aborted is not None:
            return
        if self._expect_continue:
            self._expect_continue = False
            # A final response satisfies the expectation as well, and content that has arrived shows
            # that the client does not wait.
            if self.send_state is SendState.HEAD and not self.content.received:
                self._owner.write([self.writer.informational(100, [])])
        self._owner.content_wanted(self)

    def reset(self, reason: ResetReason) -> None:
        """Abort the exchange: send an error status if nothing was written, else close."""
        self._owner.give_up(self, reason)

    async def drain(self) -> None:
        """Wait until more may be sent.

        Raises StreamAborted when the peer has closed, or accepted no data for `send_timeout`
        seconds.
        """
        if self.aborted is not None:
            raise StreamAborted(str(self.aborted)) from self.aborted
        await self._owner.drain()

    @property
    def takes_transfers(self) -> bool:
        """Whether the kernel could send content by itself: in cleartext, of a known length."""
        return self.writer.framing is Framing.LENGTH and self._owner.takes_transfers

    async def send_transfer(self, transfer: Transfer, size: int) -> None:
        """Let `transfer` send the next `size` bytes of content without copying them through Python.

        Fewer if its source ends before. Raises as `send_content` and `drain` do.
        """
        if self.send_state is not SendState.CONTENT or self._suppress_content:
            raise LocalProtocolError("no content can be sent now")
        self._check_alive()
        if size > (self._content_left or 0):
            raise LocalProtocolError("more content than its content-length says")
        async for sent in self._owner.transfer(transfer, size):
            self._content_left = (self._content_left or 0) - sent
            self.content_sent += sent

    # -- the wire -------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether `drain` would return at once."""
        return not self._owner.write_gate.paused

    @property
    def unsent(self) -> int:
        """Bytes of the connection that the kernel has not accepted yet."""
        return self._owner.unsent

    def close_upgraded(self) -> None:
        """End both sides of an upgraded exchange: close when all written data has been sent."""
        self._owner.close_upgraded(self)

    def write_upgraded(self, data: bytes) -> None:
        """Send bytes of the upgraded protocol."""
        self.content_sent += len(data)
        self._owner.write_one(data)

    def _write_informational(self, status: int, fields: Fields) -> None:
        data = self.writer.informational(status, fields)
        if data:
            self._owner.write([data])

    def _write_head(self, head: ResponseHead, end_stream: bool) -> None:
        owner = self._owner
        if end_stream:
            owner.write([self._head_bytes(head, 0)])
            owner.response_ended(self)
        else:
            # Most responses are one head and one piece of content: one write for both. A head
            # without content must not wait longer than this loop iteration.
            self._held = head
            owner.loop.call_soon(self._release_head)

    def _write_response(self, head: ResponseHead, content: bytes) -> None:
        owner = self._owner
        self._decide_persistence(whole=True)
        owner.write(self.writer.whole(head, content))
        owner.response_ended(self)

    def _write_content(self, data: bytes, end_stream: bool) -> None:
        buffers = []
        if self._held is not None:
            head, self._held = self._held, None
            buffers.append(self._head_bytes(head, len(data) if end_stream else None))
        buffers += self.writer.content(data)
        if end_stream and (end := self.writer.end([])):
            buffers.append(end)
        if buffers:
            self._owner.write(buffers)
        if end_stream:
            self._owner.response_ended(self)

    def _write_trailers(self, fields: Fields) -> None:
        self._release_head()
        if end := self.writer.end(fields):
            self._owner.write([end])
        self._owner.response_ended(self)

    def _write_upgrade(self, fields: Fields) -> None:
        assert self.head.protocol is not None  # noqa: S101  # accept_upgrade has checked it
        self.response = ResponseHead(101, fields)
        self._owner.write([self.writer.upgrade(self.head.protocol, fields)])
        self._owner.upgraded(self)

    def _release_head(self) -> None:
        if self._held is not None and self.aborted is None:
            head, self._held = self._held, None
            self._owner.write([self._head_bytes(head, None)])

    def _head_bytes(self, head: ResponseHead, content_length: int | None) -> bytes:
        self._decide_persistence(whole=content_length is not None)
        return self.writer.head(head, content_length)

    def _decide_persistence(self, *, whole: bool) -> None:
        """Decide whether the head says `close`; `whole` if the complete response is known.

        With `whole`, the rest of the request will not be read (RFC 9112 9.6).
        """
        # Without 100 Continue it is unknown whether the content will arrive (RFC 9110 10.1.1), so
        # it is unknown where the next request would begin.
        if (
            not self._owner.may_persist()
            or (self._expect_continue and not self.content.received)
            or (whole and not self.request_complete and self._owner.leaves_too_much)
        ):
            self.writer.keep_alive = False
