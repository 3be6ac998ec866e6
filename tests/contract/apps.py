"""The smallest applications that a case needs."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Fields = Iterable[tuple[bytes, bytes]]


def http_only(app: App) -> App:
    """`app` without a lifespan."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await app(scope, receive, send)

    return wrapped


async def start(send: Send, fields: Fields = (), *, status: int = 200, **more: Any) -> None:
    """Send a response's head."""
    await send({"type": "http.response.start", "status": status, "headers": list(fields), **more})


async def body(send: Send, data: bytes = b"", *, more: bool = False) -> None:
    """Send content, the last unless there is `more`."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def respond(send: Send, data: bytes = b"", fields: Fields = (), *, status: int = 200) -> None:
    """Send a whole response."""
    await start(send, fields, status=status)
    await body(send, data)


async def respond_json(send: Send, value: Any) -> None:
    """Send `value` as JSON."""
    await respond(send, json.dumps(value).encode(), [(b"content-type", b"application/json")])


async def content(receive: Receive) -> AsyncIterator[bytes]:
    """The request's content as it comes."""
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        more = message["more_body"]
        if message["body"]:
            yield message["body"]


async def read(receive: Receive) -> bytes:
    """The whole content of a request."""
    return b"".join([part async for part in content(receive)])


@http_only
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Say hello without looking at the request."""
    await respond(send, b"hello")


@http_only
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each part of the content back before the next is read."""
    await start(send)
    async for part in content(receive):
        await body(send, part, more=True)
    await body(send)
