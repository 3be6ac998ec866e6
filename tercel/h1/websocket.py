"""WebSocketProtocol: HTTP/1.1 with its own limits for WebSockets.

Knows no frames, and leaves the upgrade to `HttpProtocol`.
"""

from collections.abc import Sequence
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request

from tercel.h1.protocol import HttpProtocol
from tercel.shared.websocket.impl import WebsocketImplProtocol

_TIMEOUT_SECONDS = 10.0
_PING_SECONDS = 20.0


class WebSocketProtocol(HttpProtocol):
    """HTTP/1.1 on one connection, with WebSockets by `websocket_handshake`.

    `websocket_timeout` is how long a peer has for its part of the closing handshake; times are in
    seconds, and None or 0 for a ping's is none. `websocket_max_size` is the size of a message in
    bytes. A parameter that keeps its default is taken from the settings, whose defaults are the
    same. The other parameters are HttpProtocol's.
    """

    def __init__(
        self,
        *args: Any,
        websocket_timeout: float = _TIMEOUT_SECONDS,
        websocket_max_size: int | None = None,
        websocket_ping_interval: float | None = _PING_SECONDS,
        websocket_ping_timeout: float | None = _PING_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.websocket: WebsocketImplProtocol | None = None
        """The WebSocket, after the handshake."""
        self.websocket_timeout = websocket_timeout
        self.websocket_max_size = websocket_max_size
        self.websocket_ping_interval = websocket_ping_interval
        self.websocket_ping_timeout = websocket_ping_timeout

    async def websocket_handshake(
        self, request: Any, subprotocols: Sequence[str] | None = None
    ) -> WebsocketImplProtocol:
        """Accept the WebSocket handshake of `request`, a Sanic application's.

        The first of `subprotocols` that the client offers is chosen. When the handshake cannot be
        accepted, raises the exception from which the application makes its response.
        """
        self.websocket = await request.stream.websocket_handshake(
            subprotocols,
            close_timeout=_unless(_TIMEOUT_SECONDS, self.websocket_timeout),
            max_size=self.websocket_max_size,
            ping_interval=_unless(_PING_SECONDS, self.websocket_ping_interval),
            ping_timeout=_unless(_PING_SECONDS, self.websocket_ping_timeout),
        )
        return self.websocket

    @staticmethod
    def sanic_request_to_ws_request(request: Any) -> Request:
        """Convert a Sanic `request` to one of the websockets library, each field line separate."""
        return Request(path=request.path, headers=Headers(list(request.headers.items())))


def _unless(default: float, value: float | None) -> float | None:
    """`value` as an argument of the handshake: None leaves it to the settings."""
    return None if value == default else value or 0.0
