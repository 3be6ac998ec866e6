"""Which of the server's signals an application listens to, so that others cost nothing."""

from typing import Any

from tercel.shared.apps.sanic.types import SanicApp


class LifecycleSignals:
    """The `http.lifecycle` signals that a server dispatches; each is True if it has a handler.

    Made when the application's signals are final, after its startup.
    """

    __slots__ = ("_app", "begin", "complete", "read_body", "read_head", "request", "send")

    def __init__(self, app: SanicApp) -> None:
        names = {str(route.name) for route in app.signal_router.routes}
        # http.lifecycle.<what> is a handler for all of them.
        every = any(name.startswith("http.lifecycle.") and name[15:16] in "<*" for name in names)
        self._app = app
        self.begin = every or "http.lifecycle.begin" in names
        self.complete = every or "http.lifecycle.complete" in names
        self.read_body = every or "http.lifecycle.read_body" in names
        self.read_head = every or "http.lifecycle.read_head" in names
        self.request = every or "http.lifecycle.request" in names
        self.send = every or "http.lifecycle.send" in names

    async def dispatch(self, name: str, **context: Any) -> None:
        """Run the handlers of `http.lifecycle.name`, one after another; their errors are raised."""
        await self._app.dispatch(f"http.lifecycle.{name}", inline=True, context=context)
