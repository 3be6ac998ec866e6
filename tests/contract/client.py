"""One client for every HTTP version, so that a case is written once.

A client begins exchanges; whether they share a connection is its version's affair. Knows neither
the wire nor the server.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from tercel.server import AsyncioServer

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Interim:
    """A 1xx response."""

    status: int
    fields: Fields


class Exchange(ABC):
    """One request and what has come back so far."""

    def __init__(self) -> None:
        self.interim: list[Interim] = []
        self.status: int | None = None
        self.fields: Fields = []
        self.content = bytearray()
        self.trailers: Fields = []
        self.ended = False
        """The response is whole."""
        self.broken = False
        """The response will never be whole: its stream was reset, or its connection closed."""

    # -- the request ----------------------------------------------------------------------------

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send content, and wait while too much of it waits here."""

    @abstractmethod
    async def end(self, trailers: Fields | None = None) -> None:
        """End the request."""

    @abstractmethod
    def abort(self) -> None:
        """Give up the exchange without a further word."""

    @property
    @abstractmethod
    def accepted(self) -> int:
        """How many bytes of the request have left the client."""

    # -- the response ---------------------------------------------------------------------------

    @property
    def header(self) -> dict[bytes, bytes]:
        """The response's fields, where each comes once."""
        names = [name for name, _ in self.fields]
        assert len(names) == len(set(names)), f"a field comes twice: {names}"
        return dict(self.fields)

    @property
    def sha256(self) -> str:
        """Of the content so far."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def done(self) -> bool:
        """Whether nothing more can come."""
        return self.ended or self.broken

    @abstractmethod
    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, or nothing more can come; then it must hold."""

    async def head(self) -> Self:
        """Wait for the final response's head."""
        await self.until(lambda: self.status is not None)
        return self

    async def received(self, size: int) -> Self:
        """Wait until `size` bytes of content are here."""
        await self.until(lambda: len(self.content) >= size)
        return self

    async def whole(self) -> Self:
        """Wait for the end of the response."""
        await self.until(lambda: self.ended)
        return self

    async def over(self) -> Self:
        """Wait until nothing more can come, however it ends."""
        await self.until(lambda: self.done)
        return self


class Client(ABC):
    """A client of one server on the loopback interface.

    `window` is how many bytes of responses it takes while it does not read, about.
    """

    http_version: str
    most_on_the_way: int
    """Bytes of content that may be in buffers, the kernel's included, when windows are small."""

    def __init__(self, server: AsyncioServer, *, window: int = 1_048_576) -> None:
        self.server = server
        self.port = int(server.addresses[0].rpartition(":")[2])
        self.window = window
        self.connections = 0
        """How many connections were made."""

    @abstractmethod
    async def begin(
        self,
        method: str,
        target: str,
        fields: Iterable[tuple[bytes, bytes]] = (),
        *,
        end: bool = False,
    ) -> Exchange:
        """Send a request's head. With `end` it has no content, else that and its end follow.

        Without a content-length in `fields` the content's length is open.
        """

    @abstractmethod
    def pause(self) -> None:
        """Read nothing more for now."""

    @abstractmethod
    def resume(self) -> None:
        """Go on reading."""

    @abstractmethod
    async def still(self, value: Callable[[], int]) -> int:
        """Wait until `value` no longer changes; the last one."""

    @abstractmethod
    async def closed(self) -> None:
        """Wait until the server has closed every connection."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""

    async def open(
        self,
        method: str,
        target: str = "/",
        fields: Iterable[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
    ) -> Exchange:
        """Send a whole request. `content` None is a request that has none."""
        fields = list(fields)
        if content is not None:
            fields.append((b"content-length", b"%d" % len(content)))
        exchange = await self.begin(method, target, fields, end=content is None)
        if content is not None:
            if content:
                await exchange.send(content)
            await exchange.end()
        return exchange

    async def request(
        self,
        method: str,
        target: str = "/",
        fields: Iterable[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
    ) -> Exchange:
        """Send a whole request, and wait for the end of its response."""
        return await (await self.open(method, target, fields, content)).whole()

    async def get(self, target: str = "/", *fields: tuple[bytes, bytes]) -> Exchange:
        """A whole GET."""
        return await self.request("GET", target, fields)
