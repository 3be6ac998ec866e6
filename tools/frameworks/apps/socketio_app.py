"""python-socketio: `plain` as it is, `app` with what a WebSocket over HTTP/3 lacks for it."""

from typing import Any

import socketio
from upgrade_fields import UpgradeFields

server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def echo(sid: str, data: Any) -> None:
    await server.emit("echo", data, to=sid)


plain = socketio.ASGIApp(server)
app = UpgradeFields(plain)
