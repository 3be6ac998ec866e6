"""Access lines in Sanic's own format, to its logger `sanic.access`: what ACCESS_LOG asks for."""

from typing import TYPE_CHECKING, Any

from sanic.log import access_logger

from tercel.shared.logs import printable

if TYPE_CHECKING:
    from sanic.response import BaseHTTPResponse


def log_response(request: Any, response: "BaseHTTPResponse", seconds: float) -> None:
    """Log one line when a response begins: who asked for what, its status and its size.

    `request` is Sanic's, `seconds` the time since it began.
    """
    host = f"{request.client_ip}:{request.port}" if request.client_ip else "unix"
    access_logger.info(
        "",
        extra={
            "status": response.status,
            "byte": response.headers.get("content-length", "chunked"),
            "host": host,
            # Sanic's format takes it as it is, and a URL may have whatever UTF-8 has.
            "request": printable(f"{request.method} {request.url}"),
            "duration": f" {1000 * seconds:.1f}ms",
        },
    )
