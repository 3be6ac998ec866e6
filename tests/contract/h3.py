"""The contract's client on HTTP/3: one connection for all exchanges."""

import asyncio
from collections.abc import Callable, Iterable

from tercel.server import AsyncioServer
from tests.contract.client import Client, Exchange, Fields, Interim
from tests.support.h3_client import DATA, HEADERS, ClientStream, H3Client, frame, headers, section

_REQUEST_CANCELLED = 0x10C


class H3Exchange(Exchange):
    """One exchange, on a stream of its own."""

    def __init__(self, connection: H3Client, stream: ClientStream) -> None:
        super().__init__()
        self._connection = connection
        self._stream = stream

    async def send(self, data: bytes) -> None:
        # aioquic takes whatever it is given, and sends it as it may.
        if self._stream.stop_code is None:
            self._connection.send(self._stream, frame(DATA, data))

    async def end(self, trailers: Fields | None = None) -> None:
        if self._stream.stop_code is None:
            data = frame(HEADERS, section(trailers)) if trailers else b""
            self._connection.send(self._stream, data, end=True)

    def abort(self) -> None:
        self._connection.stop(self._stream, _REQUEST_CANCELLED)
        self._connection.reset(self._stream, _REQUEST_CANCELLED)
        self.broken = True

    @property
    def accepted(self) -> int:
        return self._connection.sent(self._stream)

    async def until(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            self._take()
            return condition() or self.done

        await self._connection.until(holds)
        assert condition(), (
            f"the response ended before: {self.status}, {bytes(self.content[:99])!r}"
        )

    def _take(self) -> None:
        stream = self._stream
        self.interim = [
            Interim(status, fields) for status, fields in _statuses(stream) if status < 200
        ]
        for status, fields in _statuses(stream):
            if status >= 200:
                self.status, self.fields = status, fields
        self.content = stream.content
        self.trailers = stream.trailers or []
        self.ended = stream.ended
        lost = self._connection.close_code is not None and not stream.ended
        self.broken = self.broken or stream.reset_code is not None or lost


class H3ContractClient(Client):
    """Makes its one connection with the first exchange."""

    http_version = "3"
    most_on_the_way = 262_144

    def __init__(self, server: AsyncioServer, *, window: int = 1_048_576) -> None:
        super().__init__(server, window=window)
        self._connection: H3Client | None = None
        self._connecting = asyncio.Lock()

    async def begin(
        self,
        method: str,
        target: str,
        fields: Iterable[tuple[bytes, bytes]] = (),
        *,
        end: bool = False,
    ) -> H3Exchange:
        connection = await self.connection()
        fields = list(fields)
        authority = next((value for name, value in fields if name == b"host"), b"localhost")
        data = headers(method.encode(), target.encode(), *fields, authority=authority)
        return H3Exchange(connection, connection.send(connection.open(), data, end=end))

    def pause(self) -> None:
        self._opened.quic.withhold_credit = True

    def resume(self) -> None:
        self._opened.quic.withhold_credit = False
        self._opened.flush()

    async def still(self, value: Callable[[], int]) -> int:
        last = -1
        while (now := value()) != last:
            last = now
            # Two round trips: what the first one's acknowledgement lets go arrives in the second.
            await self._opened.settled()
            await self._opened.settled()
        return last

    async def closed(self) -> None:
        await self._opened.close_reason()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.__aexit__()

    async def connection(self) -> H3Client:
        """The connection, made on first use."""
        async with self._connecting:
            if self._connection is None:
                # The window of the connection is larger: one full stream must not fill it.
                self._connection = H3Client(
                    self.port, max_stream_data=self.window, max_data=8 * self.window
                )
                self.connections += 1
                await self._connection.__aenter__()
        return self._connection

    @property
    def _opened(self) -> H3Client:
        assert self._connection is not None, "there was no exchange yet"
        return self._connection


def _statuses(stream: ClientStream) -> list[tuple[int, Fields]]:
    """Status and fields of each response on a stream, interim ones first."""
    heads = [(dict(head), head) for head in stream.heads]
    return [(int(byname[b":status"]), head[1:]) for byname, head in heads if b":status" in byname]
