"""For applications that know a WebSocket by the fields of HTTP/1.1, as python-socketio does."""


class UpgradeFields:
    """Adds Upgrade and Connection to WebSockets, which have none over HTTP/3 (RFC 9220 3)."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket" and scope["http_version"] == "3":
            upgrade = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
            scope = {**scope, "headers": [*scope["headers"], *upgrade]}
        await self.app(scope, receive, send)
