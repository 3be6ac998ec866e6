"""The `recv` and `send` of a WebSocket over the two callables of an ASGI connection.

Knows the `websocket.*` messages of the ASGI specification and nothing below them.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tercel.shared.errors import LocalProtocolError

Message = MutableMapping[str, Any]


class WebSocketConnection:
    """A WebSocket of any ASGI server: `send` and `receive` are the application's callables.

    `subprotocols` are the subprotocols that the client offers, in its order.
    """

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        receive: Callable[[], Awaitable[Message]],
        subprotocols: list[str] | None = None,
    ) -> None:
        self._send = send
        self._receive = receive
        self._subprotocols = list(subprotocols or ())
        self._closed = False

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers."""
        return self._subprotocols

    @subprotocols.setter
    def subprotocols(self, subprotocols: list[str] | None) -> None:
        self._subprotocols = list(subprotocols or ())

    async def accept(self, subprotocols: list[str] | None = None) -> None:
        """Accept the connection, with the first of `subprotocols` that the client offers, if any.

        The `websocket.connect` before it need not have been received: `recv` skips it.
        """
        chosen = next((name for name in subprotocols or () if name in self._subprotocols), None)
        await self._send({"type": "websocket.accept", "subprotocol": chosen})

    async def send(self, data: str | bytes, *args: Any, **kwargs: Any) -> None:
        """Send `data`: bytes and the like as a binary message, everything else as its text.

        Further arguments are ignored; other interfaces take them.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            await self._send({"type": "websocket.send", "bytes": bytes(data)})
        else:
            await self._send({"type": "websocket.send", "text": str(data)})

    async def recv(self, *args: Any, **kwargs: Any) -> str | bytes | None:
        """Receive the next message; None when the client has disconnected.

        Further arguments are ignored. Raises LocalProtocolError for a message that holds neither
        text nor bytes.
        """
        while not self._closed:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._closed = True
            elif message["type"] == "websocket.receive":
                return _data(message)
        return None

    receive = recv

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, or refuse it before `accept`. Without effect after its end."""
        if not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


def _data(message: Message) -> str | bytes:
    # ASGI: one of the two is present, and the other missing or None.
    text: str | None = message.get("text")
    if text is not None:
        return text
    data: bytes | None = message.get("bytes")
    if data is None:
        raise LocalProtocolError("a websocket.receive with neither text nor bytes")
    return data
