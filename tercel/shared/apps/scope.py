"""The ASGI `http` scope of a request. Reads the stream's head; knows nothing of messages.

Beside the extensions of ASGI there is one of tercel, `tercel.request.trailers`. It is a list that
is empty until the `http.request` message with `more_body` False has been received, and
from then on holds the request's trailer fields as (name, value) pairs of bytes.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from tercel.shared.apps.asgi_types import Scope
from tercel.shared.messages import Fields
from tercel.shared.stream import RequestStream

REQUEST_TRAILERS = "tercel.request.trailers"

_EXTENSIONS: dict[str, Any] = {
    "http.response.trailers": {},
    "http.response.early_hint": {},
    # Read with pread on every transport, TLS and QUIC included: no copy is saved there, but the
    # application need not read the file itself, and does the same for each version.
    "http.response.zerocopysend": {},
}

# Common methods and schemes as str.
_TEXTS = {
    name.encode(): name
    for name in (
        *("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
        *("http", "https"),
    )
}


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where the application is mounted. An ASGI path always includes the root_path.

    The operator says whether a request's path has it already. To guess it from the path would let
    `/api/api/admin` past a proxy that strips `/api` and guards `/api/admin`.
    """

    root_path: str = ""
    """Without a slash at its end."""
    in_target: bool = False
    """Whether a proxy keeps the root_path in requests; else it strips it, and it is added."""

    @property
    def stripped(self) -> str:
        """The prefix that a proxy has stripped from the path of a request."""
        return "" if self.in_target else self.root_path

    def includes(self, path: str) -> bool:
        """Whether `path` is at the mount point or below it, or `*` (RFC 9112 3.2.4)."""
        return path in (self.root_path, "*") or path.startswith(self.root_path + "/")


def offered_extensions(*, pathsend: bool) -> dict[str, Any]:
    """The extensions that every request is offered.

    `pathsend` adds http.response.pathsend. Starlette's FileResponse uses it wherever it is offered,
    and middleware that expects http.response.body (GZipMiddleware, BaseHTTPMiddleware with a
    `body_iterator`, brotli-asgi) then fails or does nothing.
    """
    return {**_EXTENSIONS, "http.response.pathsend": {}} if pathsend else _EXTENSIONS


def http_scope(
    stream: RequestStream,
    *,
    mount: MountPoint,
    state: dict[str, Any] | None,
    trailers: Fields,
    offered: dict[str, Any] = _EXTENSIONS,
) -> Scope:
    """The scope that an application is called with.

    `state` is the lifespan's state, None without one; the request gets a copy. `trailers` is the
    list to which the trailers will be added, `offered` is `offered_extensions(...)`.
    """
    head, connection = stream.head, stream.connection
    target, _, query = head.target.partition(b"?")
    path = decoded_path(target) if b"%" in target or not target.isascii() else target.decode()
    # RFC 9112 3.2.4: `*` asks about the server as a whole, so it is below no mount point.
    if mount.root_path and target != b"*":
        path = mount.stripped + path
        target = mount.stripped.encode() + target
    extensions = {**offered, REQUEST_TRAILERS: trailers}
    if connection.tls is not None:
        extensions["tls"] = connection.tls
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": head.http_version,
        "method": _TEXTS.get(head.method) or head.method.decode("ascii"),
        "scheme": _TEXTS.get(head.scheme) or head.scheme.decode("ascii"),
        "path": path,
        "raw_path": target,
        "query_string": query,
        "root_path": mount.root_path,
        "headers": head.fields.copy(),
        "client": connection.client,
        "server": connection.server,
        "extensions": extensions,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def decoded_path(target: bytes) -> str:
    """The percent-decoded path; bytes that are not UTF-8 become U+FFFD."""
    if b"%" in target:
        target = unquote_to_bytes(target)
    return target.decode("utf-8", "replace")
