"""WebSocket (RFC 6455, 7692, 9220) on a byte stream of any transport."""
