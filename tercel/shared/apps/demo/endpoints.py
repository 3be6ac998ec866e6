"""The demo application: pages that show the protocol at work, and plain endpoints.

Pure ASGI 3. The endpoints are what tests and benchmarks call; README.md lists them.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from tercel.shared.apps.asgi_types import Receive, Scope, Send
from tercel.shared.apps.demo import chat
from tercel.shared.apps.demo.http import (
    BadRequest,
    content,
    number,
    parsed_number,
    respond,
    respond_json,
    respond_status,
    start,
)
from tercel.shared.apps.demo.pages import Page
from tercel.shared.apps.demo.pattern import pattern
from tercel.shared.apps.scope import REQUEST_TRAILERS
from tercel.shared.messages import field_value

_DEMO, _CHAT = Page("page.html"), Page("chat.html")
_MAX_BYTES = 10 * 1024**3
_MAX_EVENTS = 1_000_000
_MAX_PAUSE_MS = 60_000

_Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request, serve one WebSocket, or run the lifespan."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await _WEBSOCKETS.get(scope["path"], chat.no_such)(scope, receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(f"the demo application does not serve {scope['type']}")
    methods, endpoint = _route(scope["path"])
    if not methods:
        await respond_status(send, HTTPStatus.NOT_FOUND)
    elif scope["method"] not in methods:
        allow = [(b"allow", ", ".join(methods).encode())]
        await respond_status(send, HTTPStatus.METHOD_NOT_ALLOWED, fields=allow)
    else:
        try:
            await endpoint(scope, receive, send)
        except BadRequest as error:
            await respond(send, f"{error}\n".encode(), status=int(HTTPStatus.BAD_REQUEST))


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    page = _CHAT if scope["path"] == "/chat" else _DEMO
    await respond(
        send,
        page.over(scope["http_version"]),
        content_type=b"text/html; charset=utf-8",
        fields=page.fields,
    )


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(send, {"status": "ok"})


async def _plaintext(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"Hello, World!")


async def _json(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(send, {"message": "Hello, World!"})


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each part back before the next is read: backpressure reaches the sender."""
    length = field_value(scope["headers"], b"content-length")
    await start(
        send,
        content_type=field_value(scope["headers"], b"content-type") or b"application/octet-stream",
        fields=[] if length is None else [(b"content-length", length)],
    )
    async for part in content(receive):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def _upload(scope: Scope, receive: Receive, send: Send) -> None:
    size, digest = 0, hashlib.sha256()
    async for part in content(receive):
        size += len(part)
        digest.update(part)
    await respond_json(
        send,
        {"size": size, "sha256": digest.hexdigest(), "http_version": scope["http_version"]},
    )


async def _bytes(scope: Scope, receive: Receive, send: Send) -> None:
    size = parsed_number(scope["path"].removeprefix("/bytes/"), "n", _MAX_BYTES)
    await start(
        send,
        content_type=b"application/octet-stream",
        fields=[(b"content-length", str(size).encode()), (b"cache-control", b"no-store")],
    )
    if scope["method"] != "HEAD":
        for part in pattern(size):
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def _events(scope: Scope, receive: Receive, send: Send) -> None:
    """Server-sent events: a counter. The stream ends after `count` of them."""
    count = number(scope, "count", default=10, maximum=_MAX_EVENTS)
    pause = number(scope, "interval_ms", default=1000, maximum=_MAX_PAUSE_MS) / 1000
    await start(send, content_type=b"text/event-stream", fields=[(b"cache-control", b"no-store")])
    for index in range(1, count + 1) if scope["method"] != "HEAD" else ():
        if index > 1 and pause and await _gone_within(pause, receive):
            return
        data = json.dumps({"event": index, "of": count, "http_version": scope["http_version"]})
        event = f"id: {index}\ndata: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})


async def _gone_within(seconds: float, receive: Receive) -> bool:
    """Wait, but not for a client that goes away meanwhile; whether it did."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _protocol(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(
        send,
        {
            "http_version": scope["http_version"],
            "scheme": scope["scheme"],
            "client": scope["client"],
            "server": scope["server"],
            "headers": len(scope["headers"]),
        },
    )


async def _trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell the request's trailers in JSON, and its SHA-256 in a trailer of the response."""
    size = 0
    async for part in content(receive):
        size += len(part)
    received = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in scope["extensions"].get(REQUEST_TRAILERS, ())
    ]
    body = json.dumps({"size": size, "trailers": received}).encode()
    headers = [(b"content-type", b"application/json"), (b"trailer", b"x-content-sha256")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await send({"type": "http.response.body", "body": body})
    digest = hashlib.sha256(body).hexdigest().encode()
    await send({"type": "http.response.trailers", "headers": [(b"x-content-sha256", digest)]})


async def _early_hints(scope: Scope, receive: Receive, send: Send) -> None:
    if "http.response.early_hint" in scope["extensions"]:
        links = [b"</plaintext>; rel=preload; as=fetch"]
        await send({"type": "http.response.early_hint", "links": links})
    await respond(send, b"the hints came before\n")


async def _slow(scope: Scope, receive: Receive, send: Send) -> None:
    pause = number(scope, "ms", default=1000, maximum=_MAX_PAUSE_MS)
    await asyncio.sleep(pause / 1000)
    await respond(send, f"waited {pause} ms\n".encode())


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


_GET = ("GET", "HEAD")
_ROUTES: dict[str, tuple[tuple[str, ...], _Endpoint]] = {
    "/": (_GET, _page),
    "/chat": (_GET, _page),
    "/health": (_GET, _health),
    "/plaintext": (_GET, _plaintext),
    "/json": (_GET, _json),
    "/echo": (("POST", "PUT"), _echo),
    "/upload": (("POST", "PUT"), _upload),
    "/events": (_GET, _events),
    "/protocol": (_GET, _protocol),
    "/trailers": (("GET", "POST"), _trailers),
    "/early-hints": (_GET, _early_hints),
    "/slow": (_GET, _slow),
}
_WEBSOCKETS: dict[str, _Endpoint] = {"/chat": chat.chat, "/ws/echo": chat.echo}


def _route(path: str) -> tuple[tuple[str, ...], _Endpoint]:
    """The methods that `path` takes, none when there is nothing, and what answers them."""
    if path.startswith("/bytes/"):
        return _GET, _bytes
    return _ROUTES.get(path, ((), _page))
