"""Each middleware of MIDDLEWARE around the application of extensions_app, at /NAME/."""

from collections.abc import Callable
from typing import Any

import extensions_app
import sentry_sdk
from aioprometheus.asgi.middleware import MetricsMiddleware
from asgi_correlation_id import CorrelationIdMiddleware
from asgi_csrf import asgi_csrf
from asgi_gzip import GZipMiddleware as AsgiGzip
from brotli_asgi import BrotliMiddleware
from channels.routing import ProtocolTypeRouter
from elasticapm.contrib.starlette import ElasticAPM, make_apm_client
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from secure.middleware import SecureASGIMiddleware
from Secweb import SecWeb
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from servestatic import ServeStaticASGI
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.routing import Mount
from starlette_compress import CompressMiddleware
from starlette_context.middleware import RawContextMiddleware
from starlette_csrf import CSRFMiddleware
from starlette_exporter import PrometheusMiddleware
from timing_asgi import TimingMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Wrap = Callable[[Any], Any]


class Backend(AuthenticationBackend):
    """Lets everybody in."""

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(["authenticated"]), SimpleUser("anybody")


class Timings:
    """Takes what TimingMiddleware measures."""

    def timing(self, name: str, seconds: float, tags: Any) -> None:
        """Forget it."""


def starlette(middleware: Any = None, **options: Any) -> Wrap:
    """A Starlette application with `middleware`, where it looks for one in the scope."""

    def wrap(app: Any) -> Any:
        stack = [Middleware(middleware, **options)] if middleware else []
        return Starlette(routes=[Mount("/", app)], middleware=stack)

    return wrap


def limited(app: Any) -> Any:
    """Below slowapi's limit."""
    wrapped: Any = starlette(SlowAPIASGIMiddleware)(app)
    wrapped.state.limiter = Limiter(get_remote_address, default_limits=["100000/minute"])
    return wrapped


def secweb(app: Any) -> Any:
    """With Secweb's fields."""
    wrapped: Any = starlette()(app)
    SecWeb(wrapped)
    return wrapped


def reading(app: Any) -> Any:
    """`@app.middleware("http")` that reads the body of the response."""

    async def dispatch(request: Any, call_next: Any) -> Response:
        response = await call_next(request)
        content = b"".join([part async for part in response.body_iterator])
        return Response(content, response.status_code, media_type="text/plain")

    return BaseHTTPMiddleware(app, dispatch)


def passing(app: Any) -> Any:
    """`@app.middleware("http")` that adds a field."""

    async def dispatch(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-seen"] = "1"
        return response

    return BaseHTTPMiddleware(app, dispatch)


sentry_sdk.init(dsn=None)
_APM = {"SERVICE_NAME": "frameworks", "DISABLE_SEND": True, "CENTRAL_CONFIG": False}

MIDDLEWARE: dict[str, Wrap] = {
    "none": lambda app: app,
    "ServerErrorMiddleware": ServerErrorMiddleware,
    "ExceptionMiddleware": ExceptionMiddleware,
    "CORSMiddleware": lambda app: CORSMiddleware(app, allow_origins=["*"]),
    "SessionMiddleware": lambda app: SessionMiddleware(app, secret_key="only for tests"),
    "TrustedHostMiddleware": lambda app: TrustedHostMiddleware(app, ["localhost"]),
    "HTTPSRedirectMiddleware": HTTPSRedirectMiddleware,
    "AuthenticationMiddleware": starlette(AuthenticationMiddleware, backend=Backend()),
    "GZipMiddleware": GZipMiddleware,
    "BaseHTTPMiddleware": passing,
    "BaseHTTPMiddleware that reads": reading,
    "ProxyHeadersMiddleware": ProxyHeadersMiddleware,
    "ProtocolTypeRouter": lambda app: ProtocolTypeRouter({"http": app, "websocket": app}),
    "brotli-asgi": BrotliMiddleware,
    "asgi-gzip": AsgiGzip,
    "starlette-compress": CompressMiddleware,
    "asgi-correlation-id": CorrelationIdMiddleware,
    "starlette-context": RawContextMiddleware,
    "starlette-exporter": starlette(PrometheusMiddleware),
    "prometheus-fastapi-instrumentator": starlette(PrometheusInstrumentatorMiddleware),
    "aioprometheus": starlette(MetricsMiddleware),
    "timing-asgi": lambda app: TimingMiddleware(app, Timings()),
    "sentry-sdk": SentryAsgiMiddleware,
    "opentelemetry-instrumentation-asgi": OpenTelemetryMiddleware,
    "elastic-apm": starlette(ElasticAPM, client=make_apm_client(_APM)),
    "slowapi": limited,
    "secure": SecureASGIMiddleware,
    "Secweb": secweb,
    "asgi-csrf": lambda app: asgi_csrf(app, signing_secret="only for tests"),
    "starlette-csrf": lambda app: CSRFMiddleware(
        app, "only for tests", sensitive_cookies={"session"}
    ),
    "servestatic": ServeStaticASGI,
}
WRAPPED = {name: wrap(extensions_app.app) for name, wrap in MIDDLEWARE.items()}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The middleware that the path begins with."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    _, name, path = scope["path"].split("/", 2)
    path = "/" + path
    await WRAPPED[name]({**scope, "path": path, "raw_path": path.encode()}, receive, send)
