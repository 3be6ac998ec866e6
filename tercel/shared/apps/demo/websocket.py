"""The little that the demo application needs of a framework for WebSockets."""

from http import HTTPStatus

from tercel.shared.apps.asgi_types import Receive, Scope, Send
from tercel.shared.messages import field_value


async def accept(send: Send) -> None:
    """Accept the WebSocket."""
    await send({"type": "websocket.accept"})


async def hear(receive: Receive) -> str | bytes | None:
    """The next message, None when the client has gone."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    return message["bytes"] if text is None else text


async def close(send: Send, code: int = 1000, reason: str = "") -> None:
    """Close the WebSocket; before it was accepted that is a refusal, 403."""
    try:
        await send({"type": "websocket.close", "code": code, "reason": reason})
    except OSError:
        pass  # gone already


async def refuse(scope: Scope, send: Send) -> None:
    """Answer 404 where that can be told, 403 elsewhere."""
    if "websocket.http.response" not in scope["extensions"]:
        await close(send)
        return
    body = f"{HTTPStatus.NOT_FOUND.phrase}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    start = {"type": "websocket.http.response.start", "status": 404, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


def is_same_origin(scope: Scope) -> bool:
    """Whether no page of another site asks (RFC 6455 10.2); what is no browser has no origin."""
    origin = field_value(scope["headers"], b"origin")
    host = field_value(scope["headers"], b"host")
    return origin is None or origin.partition(b"://")[2] == host
