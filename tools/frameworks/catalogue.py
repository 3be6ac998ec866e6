"""The frameworks, what is tried of each, and what is known to differ and why."""

from dataclasses import dataclass, field

from tools.frameworks import features
from tools.frameworks.features import Check

_COMMON: dict[str, Check] = {
    "JSON": features.json_both_ways,
    "form, file upload": features.form_with_a_file,
    "streamed upload": features.upload,
    "streamed response": features.stream,
    "server-sent events": features.events,
    "files": features.file,
    "background task": features.background,
    "client disconnect": features.disconnect,
    "cookies": features.cookies,
    "sessions": features.session,
    "redirect": features.redirect,
    "404, 500": features.errors,
    "lifespan": features.lifespan,
    "WebSocket": features.websocket,
}
_WITH_MOUNT = _COMMON | {"mounted application": features.mounted}
_WSGI: dict[str, Check] = {
    "JSON": features.wsgi_json,
    "streamed upload": features.upload,
    "streamed response": features.stream,
}
_ROOTED: dict[str, Check] = {"URLs below a root path": features.redirect}
_MOUNTED: dict[str, Check] = {"mounted below a root path": features.mounted, **_ROOTED}


@dataclass(frozen=True, kw_only=True)
class Framework:
    """A framework, and its application in `apps`."""

    name: str
    packages: tuple[str, ...]
    """What is installed of it; the page tells their versions."""
    app: str
    checks: dict[str, Check]
    rooted: dict[str, Check] = field(default_factory=dict)
    """Checks with a root path."""


def _without(*names: str) -> dict[str, Check]:
    return {name: check for name, check in _COMMON.items() if name not in names}


FRAMEWORKS = (
    Framework(
        name="Starlette",
        packages=("starlette",),
        app="starlette_app:app",
        checks=_WITH_MOUNT,
        rooted=_MOUNTED,
    ),
    Framework(
        name="FastAPI",
        packages=("fastapi",),
        app="fastapi_app:app",
        checks=_WITH_MOUNT,
        rooted=_MOUNTED,
    ),
    Framework(
        name="Django, Channels",
        packages=("django", "channels"),
        app="django_app:app",
        checks=_COMMON,
        rooted=_ROOTED,
    ),
    Framework(
        name="Quart", packages=("quart",), app="quart_app:app", checks=_COMMON, rooted=_ROOTED
    ),
    Framework(
        name="Litestar",
        packages=("litestar",),
        app="litestar_app:app",
        checks=_WITH_MOUNT,
        rooted=_MOUNTED,
    ),
    Framework(
        name="BlackSheep",
        packages=("blacksheep",),
        app="blacksheep_app:app",
        checks=_WITH_MOUNT,
        rooted=_MOUNTED,
    ),
    Framework(name="Sanic", packages=("sanic",), app="sanic_app:app", checks=_without("sessions")),
    Framework(
        name="python-socketio",
        packages=("python-socketio", "python-engineio"),
        app="socketio_app:plain",
        checks={
            "long polling": features.socketio_polling,
            "WebSocket": features.socketio_websocket,
        },
    ),
    Framework(
        name="python-socketio in `UpgradeFields`",
        packages=("python-socketio", "python-engineio"),
        app="socketio_app:app",
        checks={
            "long polling": features.socketio_polling,
            "WebSocket": features.socketio_websocket,
        },
    ),
    Framework(
        name="Strawberry",
        packages=("strawberry-graphql",),
        app="strawberry_app:app",
        checks={
            "query": features.graphql_query,
            "subscription on WebSocket": features.graphql_subscription,
        },
    ),
    Framework(
        name="FastMCP",
        packages=("fastmcp",),
        app="fastmcp_app:app",
        checks={"tool call": features.mcp_call, "GET stream": features.mcp_stream},
    ),
    Framework(
        name="MCP SDK",
        packages=("mcp",),
        app="mcp_app:app",
        checks={"tool call": features.mcp_call, "GET stream": features.mcp_stream},
    ),
    Framework(
        name="Gradio",
        packages=("gradio",),
        app="gradio_app:app",
        checks={"page": features.page_with_files, "call with events": features.gradio_call},
    ),
    Framework(
        name="NiceGUI",
        packages=("nicegui",),
        app="nicegui_app:app",
        checks={
            "page": features.page_with_files,
            "long polling": features.nicegui_polling,
            "WebSocket": features.nicegui_websocket,
        },
    ),
    Framework(
        name="Reflex, its backend",
        packages=("reflex",),
        app="reflex_app:app",
        checks={"ping": features.reflex_ping, "WebSocket": features.reflex_websocket},
    ),
    Framework(
        name="WSGI in a2wsgi",
        packages=("a2wsgi",),
        app="wsgi_app:in_a2wsgi",
        checks=_WSGI,
    ),
    Framework(
        name="WSGI in asgiref",
        packages=("asgiref",),
        app="wsgi_app:in_asgiref",
        checks=_WSGI,
    ),
)

_NO_UPGRADE = (
    "Engine.IO refuses a WebSocket without an Upgrade field, and HTTP/3 has no such field; "
    "see below."
)
# (framework, feature) -> column -> why it is not green there.
EXPLAINED: dict[tuple[str, str], dict[str, str]] = {
    ("python-socketio", "WebSocket"): {"HTTP/3": _NO_UPGRADE},
    ("NiceGUI", "WebSocket"): {"HTTP/3": _NO_UPGRADE},
    ("Reflex, its backend", "WebSocket"): {"HTTP/3": _NO_UPGRADE},
}
