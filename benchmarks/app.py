"""The ASGI application that every server in a comparison serves; Sanic gets `sanic_app.py`."""

import asyncio
import os
from typing import Any

import content

# "no" for a server that says it can send trailers, and cannot.
_TRAILERS = os.environ.get("BENCHMARK_TRAILERS") != "no"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """What `content.py` lists. A WebSocket anywhere echoes."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    if scope["type"] != "http":
        return
    path: str = scope["path"]
    if path == "/plaintext":
        await _answer(content.PLAINTEXT, send)
    elif path == "/json":
        await _answer(content.JSON, send, b"application/json")
    elif path.startswith("/bytes/"):
        await _download(int(path[len("/bytes/") :]), send)
    elif path == "/upload":
        await _answer(b"%d" % await _upload(receive), send)
    elif path == "/slow-upload":
        await _answer(b"%d" % await _upload(receive, content.SLOW_BYTES_PER_SECOND), send)
    elif path == "/wait":
        await _wait(receive, send)
    elif path.startswith(content.CALLS):
        await _call(scope, receive, send)
    else:
        received = await _upload(receive) if scope["method"] == "POST" else None
        fields, body = content.page(path, scope["query_string"], received)
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "bytes" if message.get("bytes") is not None else "text"
        await send({"type": "websocket.send", kind: message[kind]})


async def _answer(body: bytes, send: Any, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _call(scope: dict[str, Any], receive: Any, send: Any) -> None:
    fields, body = content.call(scope["path"], await _upload(receive))
    trailers = _TRAILERS and "http.response.trailers" in (scope.get("extensions") or ())
    start = {"type": "http.response.start", "status": 200, "headers": fields, "trailers": trailers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
    if trailers:
        await send({"type": "http.response.trailers", "headers": content.TRAILERS})


async def _upload(receive: Any, bytes_per_second: int = 0) -> int:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if bytes_per_second:
            await asyncio.sleep(len(message.get("body", b"")) / bytes_per_second)
        if not message.get("more_body", False):
            return size


async def _download(size: int, send: Any) -> None:
    headers = [(b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in content.chunks(size):
        size -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": size > 0})


async def _wait(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
