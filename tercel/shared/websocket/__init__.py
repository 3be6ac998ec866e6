"""WebSocket (RFC 6455, 7692, 9220) on a byte stream of any transport."""

from websockets.exceptions import ConnectionClosed, ProtocolError

# Exported for callers that do not import the websockets library.
__all__ = ["ConnectionClosed", "ProtocolError"]
