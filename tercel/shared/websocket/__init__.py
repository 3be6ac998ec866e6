"""WebSocket (RFC 6455, 7692, 9220) on a byte stream of any transport."""

from websockets.exceptions import ConnectionClosed, ProtocolError

# For those above, who do not know the library.
__all__ = ["ConnectionClosed", "ProtocolError"]
