"""Access lines in Sanic's own format, to its logger `sanic.access`: what ACCESS_LOG asks for."""

from typing import TYPE_CHECKING, Any

from sanic.log import access_logger

from tercel.shared.logs import printable

if TYPE_CHECKING:
    from sanic.response import BaseHTTPResponse

    from tercel.shared.apps.sanic.exchange import SanicExchange


def log_response(exchange: "SanicExchange", response: "BaseHTTPResponse") -> None:
    """Log one line when a response begins: who asked for what, its status and its size."""
    request: Any = exchange.request
    host = f"{request.client_ip}:{request.port}" if request.client_ip else "unix"
    access_logger.info(
        "",
        extra={
            "status": response.status,
            "byte": response.headers.get("content-length", "chunked"),
            "host": host,
            # Sanic's format takes it as it is, and a URL may have whatever UTF-8 has.
            "request": printable(f"{request.method} {request.url}"),
            "duration": f" {1000 * exchange.seconds:.1f}ms",
        },
    )
