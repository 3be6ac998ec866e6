"""The ASGI scope of a request."""

from typing import Any

import pytest

from tercel.shared.apps.scope import REQUEST_TRAILERS, MountPoint, http_scope
from tercel.shared.connection_info import ConnectionInfo
from tests.support.memory_stream import MemoryStream, request_head


def scope_of(
    *,
    root_path: str = "",
    state: dict[str, Any] | None = None,
    connection: ConnectionInfo | None = None,
    **head: Any,
) -> dict[str, Any]:
    stream = MemoryStream(request_head(**head), connection=connection)
    return http_scope(stream, mount=MountPoint(root_path), state=state, trailers=[])


def test_scope_tells_version_method_scheme_and_addresses() -> None:
    connection = ConnectionInfo(client=("192.0.2.1", 5000), server=("192.0.2.2", 4433))
    scope = scope_of(method=b"GET", connection=connection)
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("3", "GET", "https")
    assert scope["client"] == ("192.0.2.1", 5000)
    assert scope["server"] == ("192.0.2.2", 4433)
    assert scope["root_path"] == ""


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/a", "/a", b"/a", b""),
        (b"/a%20b?c=%20", "/a b", b"/a%20b", b"c=%20"),
        (b"/%C3%A9", "/é", b"/%C3%A9", b""),
        (b"/\xc3\xa9", "/é", b"/\xc3\xa9", b""),
        (b"/%ff", "/\ufffd", b"/%ff", b""),
        (b"/a?b?c", "/a", b"/a", b"b?c"),
        (b"/a?", "/a", b"/a", b""),
        (b"/%2e%2F%25", "/./%", b"/%2e%2F%25", b""),
        (b"*", "*", b"*", b""),
    ],
)
def test_path_is_decoded_once_and_raw_path_is_not(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    scope = scope_of(target=target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


def test_root_path_comes_before_path_and_raw_path() -> None:
    scope = scope_of(root_path="/api", target=b"/a%20b")
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/a b")
    assert scope["raw_path"] == b"/api/a%20b"


def test_root_path_does_not_come_before_asterisk_form() -> None:
    assert scope_of(root_path="/api", method=b"OPTIONS", target=b"*")["path"] == "*"


def test_headers_are_a_list_of_their_own() -> None:
    head = request_head(fields=[(b"host", b"example.org")])
    http_scope(MemoryStream(head), mount=MountPoint(""), state=None, trailers=[])["headers"].clear()
    assert head.fields == [(b"host", b"example.org")]


def test_state_is_a_copy_per_request() -> None:
    state = {"pool": object()}
    first, second = scope_of(state=state)["state"], scope_of(state=state)["state"]
    first["user"] = 1
    assert second == state
    assert second["pool"] is state["pool"]


def test_state_is_absent_without_a_lifespan() -> None:
    assert "state" not in scope_of(state=None)


def test_extensions_name_what_is_supported() -> None:
    assert set(scope_of()["extensions"]) == {
        "http.response.trailers",
        "http.response.early_hint",
        "http.response.zerocopysend",
        REQUEST_TRAILERS,
    }


def test_tls_extension_comes_from_the_connection() -> None:
    tls = {"tls_version": 0x0304}
    scope = scope_of(connection=ConnectionInfo(secure=True, tls=tls))
    assert scope["extensions"]["tls"] == tls


def test_a_scope_of_a_head_that_comes_again_is_fresh() -> None:
    head = request_head(fields=[(b"a", b"b")], http_version="1.1")
    moved = ConnectionInfo(client=("192.0.2.9", 9))
    scopes = []
    for connection in (ConnectionInfo(client=("192.0.2.1", 1)), moved):
        stream = MemoryStream(head, connection=connection)
        scope = http_scope(stream, mount=MountPoint(), state={"n": []}, trailers=[(b"t", b"")])
        assert scope["client"] == connection.client
        assert scope["headers"] == [(b"a", b"b")]
        assert scope["extensions"][REQUEST_TRAILERS] == [(b"t", b"")]
        scopes.append(scope.copy())
        for name in ("headers", "extensions", "asgi", "state"):
            scope[name].clear()
        scope.clear()
    assert scopes[0].keys() == scopes[1].keys()
