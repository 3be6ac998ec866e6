"""Types of Sanic's objects, most of whose methods that a server calls are untyped."""

from typing import Any

SanicApp = Any
"""An instance of `sanic.Sanic`."""

SanicRequest = Any
"""An instance of `sanic.Request`, or of the application's own class."""

SanicTransport = Any
"""What `request.transport` is: asyncio's transport, or what stands for it."""
