"""A RequestStream without a transport: what the application writes is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tercel.shared.apps.asgi import AsgiApplication, AsgiHandler
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.content import ContentBuffer
from tercel.shared.errors import ResetReason, ServerError, StreamAborted
from tercel.shared.flow import WriteGate
from tercel.shared.messages import Fields, RequestHead, ResponseHead
from tercel.shared.settings import Settings
from tercel.shared.stream import RequestStream
from tercel.shared.tasks import TaskSet
from tests.support.asynchronous import PATIENCE_SECONDS

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"ok"}


async def respond(send: Callable[[Any], Awaitable[None]]) -> None:
    """Send a whole response, as an application would."""
    await send(START)
    await send(END)


def request_head(
    *,
    method: bytes = b"GET",
    target: bytes = b"/",
    fields: Fields | None = None,
    http_version: str = "3",
    scheme: bytes = b"https",
    authority: bytes = b"example.org",
    protocol: bytes | None = None,
) -> RequestHead:
    """A request's head; by default that of a GET over HTTP/3."""
    return RequestHead(
        method=method,
        scheme=scheme,
        authority=authority,
        target=target,
        fields=[] if fields is None else fields,
        http_version=http_version,
        protocol=protocol,
    )


class MemoryStream(RequestStream):
    """Records what is written in `written`: (what, value, whether it ended the stream)."""

    def __init__(
        self, head: RequestHead | None = None, *, connection: ConnectionInfo | None = None
    ) -> None:
        self.consumed = 0
        self.written: list[tuple[str, Any, bool]] = []
        self.resets: list[ResetReason] = []
        self.content_wanted = 0
        self.drains = 0
        self.gate = WriteGate(high=65_536, low=16_384)
        super().__init__(
            head or request_head(), ContentBuffer(self._consumed), connection or ConnectionInfo()
        )

    @property
    def status(self) -> int | None:
        """The status of the response, None before there is one."""
        return None if self.response is None else self.response.status

    @property
    def body(self) -> bytes:
        """All content that was written."""
        return b"".join(value for what, value, _ in self.written if what == "content")

    @property
    def ended(self) -> bool:
        """Whether the response is complete."""
        return any(end for _, _, end in self.written)

    @property
    def parts(self) -> list[str]:
        """The names of what was written, in order."""
        return [what for what, _, _ in self.written]

    def want_content(self) -> None:
        self.content_wanted += 1

    def reset(self, reason: ResetReason) -> None:
        self.resets.append(reason)
        self.receive_abort(StreamAborted("reset by this side"))

    def receive_abort(self, error: ServerError) -> None:
        super().receive_abort(error)
        self.gate.close(error)

    async def drain(self) -> None:
        self.drains += 1
        await self.gate.wait()

    def _consumed(self, size: int) -> None:
        self.consumed += size

    def _write_informational(self, status: int, fields: Fields) -> None:
        self.written.append(("informational", (status, fields), False))

    def _write_head(self, head: ResponseHead, end_stream: bool) -> None:
        self.written.append(("head", (head.status, head.fields), end_stream))

    def _write_content(self, data: bytes, end_stream: bool) -> None:
        self.written.append(("content", data, end_stream))

    def _write_trailers(self, fields: Fields) -> None:
        self.written.append(("trailers", fields, True))

    def _write_upgrade(self, fields: Fields) -> None:
        self.written.append(("upgrade", fields, False))

    @property
    def writable(self) -> bool:
        return not self.gate.paused

    @property
    def unsent(self) -> int:
        return 0

    def write_upgraded(self, data: bytes) -> None:
        self.written.append(("upgraded", data, False))

    def close_upgraded(self) -> None:
        self.written.append(("closed", b"", True))


class Exchange:
    """One request to an ASGI application, from a running loop."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        head: RequestHead | None = None,
        *,
        settings: Settings | None = None,
        connection: ConnectionInfo | None = None,
    ) -> None:
        self.stream = MemoryStream(head, connection=connection)
        self.tasks = TaskSet(asyncio.get_running_loop())
        self.application = AsgiApplication(app, settings=settings or Settings(), tasks=self.tasks)

    def open(self) -> AsgiHandler:
        """Start the application."""
        handler = self.application.open(self.stream)
        self.stream.handler = handler
        return handler

    def receive(self, *parts: bytes, trailers: Fields | None = None) -> None:
        """Let the request's content arrive, and end."""
        for part in parts:
            self.stream.receive_content(part)
        self.stream.receive_end(trailers or [])

    async def finish(self) -> MemoryStream:
        """Wait until the application has returned."""
        assert await self.tasks.wait(PATIENCE_SECONDS), "the application still runs"
        return self.stream


async def answer(
    app: Callable[..., Awaitable[None]],
    head: RequestHead | None = None,
    *parts: bytes,
    trailers: Fields | None = None,
    settings: Settings | None = None,
    connection: ConnectionInfo | None = None,
) -> MemoryStream:
    """Serve one whole request and return its stream."""
    exchange = Exchange(app, head, settings=settings, connection=connection)
    exchange.open()
    exchange.receive(*parts, trailers=trailers)
    return await exchange.finish()
