"""The smallest WebSocket applications that a case needs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.contract.apps import App, Message, Receive, Scope, Send, respond

Talk = Callable[[Receive, Send], Awaitable[None]]


def websockets_only(app: App) -> App:
    """`app` without a lifespan; plain requests are answered with their path."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, scope["path"].encode())
        elif scope["type"] == "websocket":
            await app(scope, receive, send)
        else:
            raise NotImplementedError(scope["type"])

    return wrapped


def accepted(talk: Talk, **accept: Any) -> App:
    """An application that accepts every WebSocket, then talks."""

    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", **accept})
        await talk(receive, send)

    return app


async def say(send: Send, data: str | bytes) -> None:
    """Send a message."""
    await send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})


async def hear(receive: Receive) -> str | bytes | None:
    """The next message, None when the client has disconnected."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        return None
    assert message["type"] == "websocket.receive", message
    text: str | None = message.get("text")
    return message["bytes"] if text is None else text


async def bye(send: Send, code: int = 1000, reason: str = "") -> None:
    """Close the WebSocket."""
    await send({"type": "websocket.close", "code": code, "reason": reason})


async def _echo(receive: Receive, send: Send) -> None:
    while (data := await hear(receive)) is not None:
        await say(send, data)


echo = accepted(_echo)


class Record:
    """An application that accepts, and notes all it receives up to the disconnect."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.disconnected: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.app = accepted(self._talk)

    async def _talk(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            self.messages.append(message)
        self.disconnected.set_result(message)
