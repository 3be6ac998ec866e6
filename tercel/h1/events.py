"""The events of the HTTP/1.1 parser: heads, content, ends of messages and faults."""

from dataclasses import dataclass, field

from tercel.shared.errors import RemoteProtocolError
from tercel.shared.messages import Fields, RequestHead


@dataclass(slots=True)
class HeadReceived:
    """A request begins. Everything derived from its fields is decided here and nowhere else.

    Without content the request is complete, and no MessageComplete follows.
    """

    head: RequestHead
    keep_alive: bool
    """The client wants the connection to persist (RFC 9112 9.3)."""
    has_content: bool
    """Content may follow: it is chunked, or its length is not zero."""
    content_length: int | None
    """None for chunked content, and without content."""
    expect_continue: bool
    """The client waits for 100 Continue before it sends content (RFC 9110 10.1.1)."""


@dataclass(slots=True)
class ContentReceived:
    """The next content of the request, without its framing; never empty."""

    data: bytes


@dataclass(slots=True)
class MessageComplete:
    """The content has ended."""

    trailers: Fields = field(default_factory=list)


@dataclass(slots=True)
class MessageFailed:
    """The peer violated the protocol; the parser returns no further events."""

    error: RemoteProtocolError


Event = HeadReceived | ContentReceived | MessageComplete | MessageFailed
