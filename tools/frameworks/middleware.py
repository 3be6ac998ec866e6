"""Each middleware with each extension: what an application sends has to arrive through it.

The application is apps/extensions_app.py, the middleware around it are in apps/middleware_app.py.
"""

from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from urllib.parse import quote

from tools.frameworks import servers
from tools.frameworks.apps.contract import CONTENT, TEXT
from tools.frameworks.clients import Client
from tools.frameworks.features import UPLOAD
from tools.frameworks.results import COLUMNS, REFERENCE, TERCEL, Row, failure_of

APP = "middleware_app:app"
# Those of packages that are named otherwise.
STARLETTE = (
    *("ServerErrorMiddleware", "ExceptionMiddleware", "CORSMiddleware", "SessionMiddleware"),
    *("TrustedHostMiddleware", "HTTPSRedirectMiddleware", "AuthenticationMiddleware"),
    *("GZipMiddleware", "BaseHTTPMiddleware", "BaseHTTPMiddleware that reads"),
)
# Name -> the package that it is in.
MIDDLEWARE = {
    "none": "tercel",
    **dict.fromkeys(STARLETTE, "starlette"),
    "ProxyHeadersMiddleware": "uvicorn",
    "ProtocolTypeRouter": "channels",
    **{
        name: name
        for name in (
            *("brotli-asgi", "asgi-gzip", "starlette-compress", "asgi-correlation-id"),
            *("starlette-context", "starlette-exporter", "prometheus-fastapi-instrumentator"),
            *("aioprometheus", "timing-asgi", "sentry-sdk", "opentelemetry-instrumentation-asgi"),
            *("elastic-apm", "slowapi", "secure", "Secweb", "asgi-csrf", "starlette-csrf"),
            "servestatic",
        )
    },
}
COMPRESSING = ("GZipMiddleware", "brotli-asgi", "asgi-gzip", "starlette-compress")
# Feature -> the path that it is at. The second are those with `--pathsend`.
FEATURES = {
    "content": "content",
    "stream": "stream",
    "upload": "upload",
    "WebSocket": "websocket",
    "`FileResponse`": "file",
    "early_hint": "early_hint",
    "trailers": "trailers",
    "zerocopysend": "zerocopysend",
}
WITH_PATHSEND = {"`FileResponse` with `--pathsend`": "file", "pathsend": "pathsend"}

_BODY_ALONE = (
    "The middleware supports content in http.response.body only. No framework here uses "
    "http.response.zerocopysend by itself; an application must not use it below such middleware."
)
_PATHSEND = (
    "The middleware does not support http.response.pathsend, which Starlette's FileResponse uses "
    "wherever the server offers it. tercel therefore offers it with `--pathsend` only, for "
    "applications without such middleware."
)
_UNCOMPRESSED = (
    "With `--pathsend` files bypass middleware that compresses; they arrive uncompressed."
)
EXPLAINED = {
    **{
        (name, "zerocopysend"): _BODY_ALONE
        for name in (
            *("GZipMiddleware", "BaseHTTPMiddleware", "BaseHTTPMiddleware that reads"),
            *("brotli-asgi", "asgi-gzip"),
        )
    },
    **{
        (name, feature): _PATHSEND
        for name in ("BaseHTTPMiddleware that reads", "brotli-asgi")
        for feature in WITH_PATHSEND
    },
    **{
        (name, "`FileResponse` with `--pathsend`"): _UNCOMPRESSED
        for name in ("GZipMiddleware", "asgi-gzip", "starlette-compress")
    },
}


def tried() -> list[Row]:
    """A row for each middleware and feature."""
    TEXT.write_bytes(CONTENT)
    rows = {
        (name, feature): Row(
            name, f"{package} {version(package)}", feature, {}, _explanations(name, feature)
        )
        for name, package in MIDDLEWARE.items()
        for feature in FEATURES | WITH_PATHSEND
    }
    with servers.uvicorn(APP) as served:
        _fill(rows, Client(served, COLUMNS[REFERENCE]), REFERENCE, FEATURES | WITH_PATHSEND)
    for pathsend, features in ((False, FEATURES), (True, WITH_PATHSEND)):
        with servers.tercel(APP, pathsend=pathsend) as served:
            for column in TERCEL:
                _fill(rows, Client(served, COLUMNS[column]), column, features)
    return list(rows.values())


def _explanations(name: str, feature: str) -> dict[str, str]:
    known = EXPLAINED.get((name, feature))
    return dict.fromkeys(TERCEL, known) if known else {}


def _fill(
    rows: dict[tuple[str, str], Row], client: Client, column: str, features: Iterable[str]
) -> None:
    for (name, feature), row in rows.items():
        if feature in features:
            path = (FEATURES | WITH_PATHSEND)[feature]
            if failure := failure_of(partial(_check, client, name, path)):
                row.failures[column] = failure
    client.close()


def _check(client: Client, name: str, feature: str) -> None:
    path = f"/{quote(name)}/{feature}"
    if feature == "websocket":
        with client.websocket(path) as conversation:
            assert conversation.ask("hello") == "hello"
        return
    if feature == "upload":
        assert client.post(path, data=UPLOAD).text == str(len(UPLOAD))
        return
    response = client.get(path)
    assert response.content == CONTENT, f"{len(response.content)} bytes of {len(CONTENT)}"
    if name in COMPRESSING and feature in ("content", "stream", "file"):
        assert "content-encoding" in response.headers, "not compressed"
