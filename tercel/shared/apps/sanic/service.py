"""What all exchanges of one Sanic application share, read once when it has started."""

import asyncio

from sanic.http.constants import HTTP
from sanic.request import Request

from tercel.shared.apps.sanic.signals import LifecycleSignals
from tercel.shared.apps.sanic.timeouts import ResponseTimeouts
from tercel.shared.apps.sanic.types import SanicApp, SanicRequest
from tercel.shared.settings import Settings

# As Sanic's own server has no finer resolution.
_LEAST_SECONDS = 0.1


class Service:
    """An application in service, on the running loop."""

    __slots__ = (
        "access_log",
        "alt_svc",
        "app",
        "keep_alive",
        "loop",
        "request_class",
        "request_max_size",
        "settings",
        "signals",
        "timeouts",
    )

    def __init__(self, app: SanicApp, settings: Settings) -> None:
        config = app.config
        self.app = app
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.signals = LifecycleSignals(app)
        self.timeouts = ResponseTimeouts(max(config.RESPONSE_TIMEOUT, _LEAST_SECONDS), self.loop)
        self.access_log = bool(config.ACCESS_LOG)
        self.alt_svc = _alt_svc(app)
        self.keep_alive = bool(config.KEEP_ALIVE)
        self.request_class: type[SanicRequest] = app.request_class or Request
        self.request_max_size: int = config.REQUEST_MAX_SIZE


def _alt_svc(app: SanicApp) -> bytes | None:
    """What HTTP/1.1 responses say of HTTP/3 when the application is prepared for both."""
    settings = [info.settings for info in app.state.server_info]
    ports = [item["port"] for item in settings if item.get("version") is HTTP.VERSION_3]
    if not ports or len(ports) == len(settings):
        return None
    return ", ".join(f'h3=":{port}"' for port in ports).encode()
