"""One WebSocket client for every HTTP version, so that a case is written once.

Knows neither the wire nor the server. Compression is off unless a case asks for it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Self

from tercel.server import AsyncioServer
from tests.contract.client import Client, Exchange, Fields

Data = str | bytes

BROKEN_FRAME = b"\x83\x80" + bytes(4)
"""A whole frame with an opcode that has no meaning (RFC 6455 5.2)."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a client asks for in its opening handshake."""

    subprotocols: Sequence[str] = ()
    compression: bool = False
    fields: Fields = field(default_factory=list)


@dataclass(frozen=True)
class End:
    """How a WebSocket ended: the code and reason that the client got, 1006 for none."""

    code: int
    reason: str = ""


class Refused(Exception):
    """The server did not grant the WebSocket."""

    def __init__(self, status: int, fields: dict[str, str], content: bytes) -> None:
        super().__init__(f"{status}: {content!r}")
        self.status = status
        self.fields = fields
        self.content = content


class Conversation(ABC):
    """One open WebSocket, from the client's side. It answers pings and close frames by itself."""

    status: int
    fields: dict[str, str]
    """Of the response that granted it."""
    subprotocol: str | None
    pings: int
    """How many pings came from the server."""

    @abstractmethod
    async def send(self, message: Data) -> None:
        """Send a message in one frame, and wait while too much waits here."""

    @abstractmethod
    async def send_parts(self, parts: Sequence[Data]) -> None:
        """Send a message in as many frames, all text or all binary."""

    @abstractmethod
    async def raw(self, data: bytes) -> None:
        """Send bytes that need not be frames."""

    @abstractmethod
    async def recv(self) -> Data:
        """The next message; ConnectionError when none comes any more."""

    @abstractmethod
    async def ping(self, data: bytes) -> None:
        """Send a ping, and wait for its pong."""

    @abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> End:
        """Close with a handshake; how it ended."""

    @abstractmethod
    async def end(self) -> End:
        """Wait until the byte stream is gone; how it ended."""

    @property
    @abstractmethod
    def ended_in_peace(self) -> bool:
        """Whether the server ended its side of the byte stream, and did not abort it."""

    @abstractmethod
    def vanish(self) -> None:
        """Be gone without a close frame."""

    @abstractmethod
    def deaf(self) -> None:
        """Answer nothing any more, pings least of all, though bytes are taken."""

    @abstractmethod
    def pause(self) -> None:
        """Read nothing more for now."""

    @abstractmethod
    def resume(self) -> None:
        """Go on reading."""

    @property
    @abstractmethod
    def accepted(self) -> int:
        """How many bytes have left the client."""

    @abstractmethod
    def drop(self) -> None:
        """Clean up at the end of a case."""

    async def echo(self, message: Data) -> Data:
        """Send, and receive one message."""
        await self.send(message)
        return await self.recv()


class WebSocketClient(ABC):
    """A client of one server on the loopback interface; plain requests go through `http`."""

    http_version: ClassVar[str]
    secure: ClassVar[bool]

    def __init__(self, http: Client) -> None:
        self.http = http
        self._conversations: list[Conversation] = []

    @property
    def server(self) -> AsyncioServer:
        return self.http.server

    @property
    def most_on_the_way(self) -> int:
        """Bytes that may be in buffers, the kernel's included, when windows are small."""
        return self.http.most_on_the_way

    async def still(self, value: Callable[[], int]) -> int:
        """Wait until `value` no longer changes; the last one."""
        return await self.http.still(value)

    async def connect(
        self,
        target: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        compression: bool = False,
        fields: Fields | None = None,
    ) -> Conversation:
        """Open a WebSocket. Raises Refused when the server answers with anything else."""
        offer = Offer(subprotocols=subprotocols, compression=compression, fields=fields or [])
        conversation = await self._connect(target, offer)
        self._conversations.append(conversation)
        return conversation

    async def refusal(self, target: str = "/", **offer: object) -> Refused:
        """Ask for a WebSocket that the server does not grant."""
        try:
            conversation = await self.connect(target, **offer)  # type: ignore[arg-type]
        except Refused as refused:
            return refused
        raise AssertionError(f"granted with {conversation.status}")

    @asynccontextmanager
    async def another(self) -> AsyncIterator[Self]:
        """A second client of the same server, with connections of its own."""
        other = type(self)(type(self.http)(self.server))
        try:
            yield other
        finally:
            await other.close()

    async def close(self) -> None:
        """Clean up at the end of a case."""
        for conversation in self._conversations:
            conversation.drop()
        await self.http.close()

    @abstractmethod
    async def _connect(self, target: str, offer: Offer) -> Conversation: ...

    @abstractmethod
    async def ask(self, method: str, fields: Fields, *, protocol: bytes = b"websocket") -> Exchange:
        """Ask for an upgrade with `fields` and nothing else of a handshake; the whole response."""
