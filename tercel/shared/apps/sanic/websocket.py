"""The opening handshake of a Sanic application's WebSocket, the same on every HTTP version."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sanic.exceptions import SanicException

from tercel.shared.settings import Settings
from tercel.shared.stream import RequestStream
from tercel.shared.upgrade import upgrade
from tercel.shared.websocket.impl import WebsocketImplProtocol
from tercel.shared.websocket.negotiation import HandshakeRefused, negotiate
from tercel.shared.websocket.unfinished import MessageLimits


class SanicWebsocket(WebsocketImplProtocol):
    """Tells when its byte stream is gone: Sanic cancels a handler whose client has left."""

    def __init__(self, ws_proto: Any, *, lost: Callable[[], None], **options: Any) -> None:
        super().__init__(ws_proto, **options)
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the byte stream."""
        super().connection_lost(exc)
        # Who waits in `recv` hears of it there first.
        asyncio.get_running_loop().call_soon(self._lost)


def accept(
    stream: RequestStream,
    settings: Settings,
    subprotocols: Sequence[str] | None = None,
    *,
    lost: Callable[[], None],
    max_size: int | None = None,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    close_timeout: float | None = None,
) -> WebsocketImplProtocol:
    """Open the WebSocket that `stream` asks for, with the first of `subprotocols` it offers.

    What is None is as in `settings`. Raises SanicException when it cannot be granted.
    """
    if max_size is not None:
        settings = replace(settings, ws_max_message_bytes=max_size)
    try:
        negotiated = negotiate(
            stream.head, settings, None if subprotocols is None else list(subprotocols)
        )
    except HandshakeRefused as error:
        headers = {name.decode(): value.decode() for name, value in error.fields}
        raise SanicException(str(error), error.status, headers=headers) from error
    ws = SanicWebsocket(
        negotiated.protocol,
        lost=lost,
        max_queue=settings.ws_max_queue,
        ping_interval=_first(ping_interval, settings.ws_ping_interval),
        ping_timeout=_first(ping_timeout, settings.ws_ping_timeout),
        close_timeout=_first(close_timeout, settings.ws_close_timeout),
    )
    ws.attach(
        upgrade(stream, negotiated.fields, ws),
        asyncio.get_running_loop(),
        limits=MessageLimits.of(settings),
    )
    return ws


def _first(chosen: float | None, default: float) -> float:
    return default if chosen is None else chosen
