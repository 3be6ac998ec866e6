"""H1RequestStream: one request and its response on an HTTP/1.1 connection.

Turns the parts of a response into writes, one for head and content together where they come
together. Knows its connection only as an `Owner`, and no parser.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from tercel.h1.events import HeadReceived
from tercel.h1.writer import Framing, ResponseWriter, repeated_response
from tercel.shared.connection import ConnectionInfo, ServerContext
from tercel.shared.content import NO_CONTENT, ContentBuffer
from tercel.shared.errors import LocalProtocolError, ResetReason, StreamAborted
from tercel.shared.flow import WriteGate
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.stream import RequestStream, SendState, Transfer


class Owner(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    context: ServerContext
    info: ConnectionInfo
    write_gate: WriteGate
    """Says whether more may be written; `drain` waits at it."""

    def write(self, buffers: list[bytes]) -> None:
        """Send `buffers` in order; nothing happens when the connection is closing."""

    def may_persist(self) -> bool:
        """Whether the connection has a use for another request."""

    @property
    def leaves_too_much(self) -> bool:
        """Whether more content is still to come than is read when nobody wants it."""

    def response_ended(self, stream: Any) -> None:
        """The response is whole."""

    def content_wanted(self, stream: Any) -> None:
        """The application waits for content."""

    def upgraded(self, stream: Any) -> None:
        """The connection is another protocol's from the next byte on."""

    def close_upgraded(self, stream: Any) -> None:
        """That protocol is done."""

    def content_consumed(self, size: int) -> None:
        """The application took `size` bytes of content."""

    def give_up(self, stream: Any, reason: ResetReason) -> None:
        """End the exchange unfinished."""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""

    async def drain(self) -> None:
        """Wait until more may be written."""

    @property
    def takes_transfers(self) -> bool:
        """Whether `transfer` is there."""

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
        """The request is whole, and the handler knows."""
        self._owner = owner
        self._keep_alive = event.keep_alive
        self._writer: ResponseWriter | None = None
        self._expect_continue = event.expect_continue
        self._held: ResponseHead | None = None

    @property
    def writer(self) -> ResponseWriter:
        """Says whether the head was written, how it is framed, and if the connection persists."""
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
        """Send 100 Continue if the client waits for it (RFC 9110 10.1.1), and start the clock."""
        if self.content.ended or self.aborted is not None:
            return
        if self._expect_continue:
            self._expect_continue = False
            # The final response would answer the expectation as well, and content that has come
            # already shows that the client does not wait.
            if self.send_state is SendState.HEAD and not self.content.received:
                self._owner.write([self.writer.informational(100, [])])
        self._owner.content_wanted(self)

    def reset(self, reason: ResetReason) -> None:
        """Give up the exchange: an error status if nothing was written, else the connection."""
        self._owner.give_up(self, reason)

    async def drain(self) -> None:
        """Wait until more may be sent.

        Raises StreamAborted when the peer is gone, or took nothing for `send_timeout` seconds.
        """
        if self.aborted is not None:
            raise StreamAborted(str(self.aborted)) from self.aborted
        await self._owner.drain()

    @property
    def takes_transfers(self) -> bool:
        """Whether the kernel could send content by itself: in cleartext, of a known length."""
        return self.writer.framing is Framing.LENGTH and self._owner.takes_transfers

    async def send_transfer(self, transfer: Transfer, size: int) -> None:
        """Have `transfer` send the next `size` bytes of content past this process.

        Fewer where what it sends from ends before. Raises as `send_content` and `drain` do.
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
        """Bytes of the connection that the kernel has not taken yet."""
        return self._owner.unsent

    def close_upgraded(self) -> None:
        """End both sides of an upgraded exchange: close the connection after what was written."""
        self._owner.close_upgraded(self)

    def write_upgraded(self, data: bytes) -> None:
        """Send bytes of the protocol that the connection has become."""
        self.content_sent += len(data)
        self._owner.write([data])

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
            # without content must not wait longer than this turn of the loop.
            self._held = head
            owner.loop.call_soon(self._release_head)

    def _write_response(self, head: ResponseHead, content: bytes) -> None:
        owner = self._owner
        if (
            head.repeated
            and self._keep_alive
            and self.request_complete
            and self._writer is None
            and not self._suppress_content
            and self.head.http_version == "1.1"
            and owner.may_persist()
        ):
            buffers = repeated_response(
                head, content, owner.context.response_fields, owner.info.secure
            )
            if buffers is not None:
                owner.write(buffers)
                owner.response_ended(self)
                return
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
        assert self.head.protocol is not None  # noqa: S101  # accept_upgrade has seen to it
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
        """Let the head say whether the connection closes; `whole` if all of the response is known.

        Then nobody reads what of the request is still to come (RFC 9112 9.6).
        """
        # Without 100 Continue nobody knows whether the content will come (RFC 9110 10.1.1), so
        # nobody knows where the next request would begin.
        if (
            not self._owner.may_persist()
            or (self._expect_continue and not self.content.received)
            or (whole and not self.request_complete and self._owner.leaves_too_much)
        ):
            self.writer.keep_alive = False
