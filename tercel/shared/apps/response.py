"""Turns the messages that an ASGI application sends into a stream's response.

Owns the order and the types of the `http.response.*` messages. Knows neither how the application
is run nor what goes on the wire.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from tercel.shared.apps.asgi_types import Message
from tercel.shared.apps.files import FilePart
from tercel.shared.errors import LocalProtocolError, ServerError, StreamAborted
from tercel.shared.flow import Wakeup
from tercel.shared.messages import (
    BODILESS_STATUS,
    Field,
    Fields,
    ResponseHead,
    checked_fields,
    response_head,
)
from tercel.shared.request_fields import takes_trailers
from tercel.shared.stream import RequestStream, SendState

# An application that sends less than its client can take never waits in drain(). After this many
# bytes, with a fixed cost added for each message, it yields to the other exchanges.
_FAIR_SHARE_BYTES = 1_048_576
_MESSAGE_COST_BYTES = 1024

# From this size on the kernel sends files by itself where it can: 30 % less CPU for 200 MB over
# loopback, where the kernel has to copy them, too.
_TRANSFER_BYTES = 524_288


class Expected(Enum):
    """Which message the application has to send next."""

    START = "http.response.start"
    BODY = "http.response.body"
    TRAILERS = "http.response.trailers"
    NOTHING = "nothing"


# See tercel.shared.stream: looking a member up in its class costs 0.12 us on Python 3.11.
_START: Final = Expected.START
_BODY: Final = Expected.BODY
NOTHING: Final = Expected.NOTHING


class AsgiResponse:
    """One response. `wakeup`, if given, is set when the response is complete."""

    __slots__ = (
        "_burst",
        "_head",
        "_head_due",
        "_opening_file",
        "_stream",
        "_trailers",
        "_trailers_follow",
        "_wakeup",
        "expected",
    )

    def __init__(self, stream: RequestStream, wakeup: Wakeup | None = None) -> None:
        self._stream = stream
        self._wakeup = wakeup
        self.expected = _START
        self._head: ResponseHead | None = None
        """The head until it is sent. If the application fails before, the response is a 500."""
        self._head_due = True
        """Whether a head without content is sent in the next iteration of the event loop."""
        self._opening_file = False
        """Whether the head waits until the file for its content has been opened."""
        self._trailers: Fields | None = None
        self._trailers_follow = False
        self._burst = 0

    async def send(self, message: Message) -> None:
        """Handle `message`; wait while too much is unsent.

        Raises LocalProtocolError for a message that is invalid or out of order, StreamAborted (an
        OSError) when the client has disconnected, and OSError when a file cannot be read.
        """
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            raise LocalProtocolError("a message is a dict with a type") from None
        if kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = _octets(body)
            if message.get("more_body", False):
                self._send_content(body, more=True)
                await self._pace()
            elif self._head is not None and not self._trailers_follow:
                # Head and content at once, as in most responses: 2 us less than in two steps.
                if self.expected is not _BODY:
                    raise self._unexpected("http.response.body")
                # A response refused for a wrong length leaves the stream unchanged, for a 500.
                self._stream.send_response(self._head, body)
                self._head = None
                self.complete()
            else:
                self._send_content(body, more=False)
        elif kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.early_hint":
            self._send_early_hint(message)
        elif kind == "http.response.pathsend":
            await self._send_path(message)
        elif kind == "http.response.zerocopysend":
            await self._send_file(message)
        else:
            raise LocalProtocolError(f"{kind!r} is no message of an HTTP response")

    def release_head(self) -> None:
        """Send a head that has no content yet: a client may wait for the head alone."""
        if self._head is None or self._opening_file:
            return
        try:
            self._stream.send_head(self._head)
        except ServerError:
            return  # the application gets this error from its next message
        self._head = None

    def complete(self) -> None:
        """The response is complete: wake `receive` and discard the rest of the request's content.

        Idempotent.
        """
        if self.expected is not NOTHING:
            self.expected = NOTHING
            content = self._stream.content
            if content.size or not content.ended:
                content.discard()
            if self._wakeup is not None:
                self._wakeup.set()

    def end_if_whole(self) -> bool:
        """End a response of which its client misses nothing; return whether it is such a one.

        Such a response can have no content (RFC 9110 6.4.1), or lacks only trailers that its client
        does not take: middleware that does not know http.response.trailers drops them (brotli-asgi,
        asgi-gzip). No other response may appear complete. Raises LocalProtocolError for a head that
        cannot be sent.
        """
        if self.expected in (_START, NOTHING) or not (self._is_bodiless() or self._lacks_no_more()):
            return False
        if self._head is not None:
            self._stream.send_head(self._head, end_stream=True)
            self._head = None
        else:
            self._stream.send_content(b"", end_stream=True)
        self.complete()
        return True

    # -- one method per message -------------------------------------------------------------

    def _start(self, message: Message) -> None:
        if self.expected is not _START:
            raise self._unexpected("http.response.start")
        if self._stream.aborted is not None:
            raise StreamAborted(str(self._stream.aborted)) from self._stream.aborted
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise LocalProtocolError(f"{status!r} is not the status of a final response")
        try:
            self._head = response_head(status, message.get("headers", ()))
        except (TypeError, ValueError):
            raise _not_headers() from None
        self._trailers_follow = bool(message.get("trailers", False))
        self.expected = _BODY
        if self._head_due:
            asyncio.get_running_loop().call_soon(self.release_head)

    def _send_content(self, data: bytes, *, more: bool) -> None:
        """Send `data`, preceded by the head if that is not sent yet."""
        if self.expected is not _BODY:
            raise self._unexpected("http.response.body")
        last = not more and not self._trailers_follow
        head = self._head
        if head is not None:
            self._check_promise(len(data), more=more)
            self._stream.send_head(head, end_stream=last and not data)
            self._head = None
        if data or (last and head is None):
            self._stream.send_content(data, end_stream=last)
        if last:
            self.complete()
        elif more:
            self._burst += len(data)
        else:
            self.expected = Expected.TRAILERS

    def _send_trailers(self, message: Message) -> None:
        if self.expected is not Expected.TRAILERS:
            raise self._unexpected("http.response.trailers")
        fields = message_fields(message.get("headers", ()))
        self._trailers = fields if self._trailers is None else self._trailers + fields
        if message.get("more_trailers", False):
            return
        # ASGI: only a client that said `TE: trailers` gets them (RFC 9110 6.5.1).
        if self._trailers and takes_trailers(self._stream.head.fields):
            self._stream.send_trailers(self._trailers)
        else:
            self._stream.send_content(b"", end_stream=True)
        self.complete()

    def _send_early_hint(self, message: Message) -> None:
        if self.expected is NOTHING:
            raise LocalProtocolError("http.response.early_hint after the response")
        links = message.get("links", ())
        fields = message_fields((b"link", _octets(link)) for link in links)
        # ASGI allows hints until the last content, but once the head is out none can be sent.
        if fields and self._stream.send_state is SendState.HEAD:
            self._stream.send_informational(int(HTTPStatus.EARLY_HINTS), fields)

    async def _send_path(self, message: Message) -> None:
        if self.expected is not _BODY:
            raise self._unexpected("http.response.pathsend")
        path = message.get("path")
        # ASGI asks for an absolute path; frameworks pass on the path that their user gave.
        if not isinstance(path, str) or not path:
            raise LocalProtocolError(f"{path!r} is not a path")
        if self._is_bodiless():
            self._send_content(b"", more=False)
            return
        self._opening_file = True
        # The content-length limits the part: the file may have grown since the application read
        # its size.
        part = await FilePart.of_path(path, limit=self._promised_length())
        try:
            await self._send_part(part, more=False)
        finally:
            part.close()

    async def _send_file(self, message: Message) -> None:
        if self.expected is not _BODY:
            raise self._unexpected("http.response.zerocopysend")
        file: Any = message.get("file")
        if not isinstance(file, int) and not hasattr(file, "fileno"):
            raise LocalProtocolError(f"{file!r} is not an open file")
        offset = _size(message.get("offset"), "offset")
        count = _size(message.get("count"), "count")
        more = message.get("more_body", False)
        if self._is_bodiless():
            self._send_content(b"", more=more)
            return
        self._opening_file = True
        part = FilePart.of_file(file, offset=offset, count=count)
        try:
            await self._send_part(part, more=more)
            if offset is None:
                part.advance(file)
        finally:
            part.close()

    # -- what they share --------------------------------------------------------------------

    def _unexpected(self, kind: str) -> LocalProtocolError:
        return LocalProtocolError(f"{kind} where {self.expected.value} is expected")

    def _is_bodiless(self) -> bool:
        """Whether the stream omits the content anyway, so that no file need be read."""
        head = self._head or self._stream.response
        return self._stream.head.method == b"HEAD" or (
            head is not None and head.status in BODILESS_STATUS
        )

    def _lacks_no_more(self) -> bool:
        """Whether only trailers are missing, and the client does not take trailers."""
        return self.expected is Expected.TRAILERS and not takes_trailers(self._stream.head.fields)

    def _promised_length(self) -> int | None:
        return None if self._head is None else self._head.promised_length()

    def _check_promise(self, size: int, *, more: bool) -> None:
        # The stream checks the length, too. But once it has the head, it can only be reset;
        # a wrong length found before gives a 500.
        promised = self._promised_length()
        if promised is None or self._is_bodiless():
            return
        if size > promised or (size < promised and not more):
            raise LocalProtocolError(f"content of {size} bytes, content-length {promised}")

    async def _send_part(self, part: FilePart, *, more: bool) -> None:
        data = await part.read()
        while part.left and data:
            self._send_content(data, more=True)
            await self._pace()
            if part.left >= _TRANSFER_BYTES and self._stream.takes_transfers:
                await self._stream.send_transfer(part.transfer, part.left)
            data = await part.read()
        self._send_content(data, more=more)
        if more:
            await self._pace()

    async def _pace(self) -> None:
        await self._stream.drain()
        self._burst += _MESSAGE_COST_BYTES
        if self._burst >= _FAIR_SHARE_BYTES:
            self._burst = 0
            await asyncio.sleep(0)


def message_fields(headers: Iterable[Field]) -> Fields:
    """The checked header fields of a message. Raises LocalProtocolError for invalid ones."""
    try:
        return checked_fields(headers)
    except (TypeError, ValueError):
        raise _not_headers() from None


def _octets(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        # A copy: the application may write to it again before it is sent.
        return bytes(value)
    raise LocalProtocolError(f"bytes are expected, not {type(value).__name__}")


def _size(value: Any, name: str) -> int | None:
    if value is None or (isinstance(value, int) and value >= 0):
        return value
    raise LocalProtocolError(f"{name} {value!r} is not a number of bytes")


def _not_headers() -> LocalProtocolError:
    return LocalProtocolError("headers are pairs of bytes: (name, value)")
