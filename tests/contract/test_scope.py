"""The scope that an application is called with."""

import json
from typing import Any

import pytest

from tests.contract.apps import Receive, Scope, Send, http_only, respond
from tests.contract.client import Client
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest


class Recorder:
    """Keeps the scope of the last request."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        self.scope = dict(scope)
        await respond(send)


async def scope_of(client: Client, recorder: Recorder, target: str, *fields: Any) -> dict[str, Any]:
    assert (await client.get(target, *fields)).status == 200
    return recorder.scope


@asynctest
async def test_the_scope_tells_version_scheme_method_and_specification(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/")
        assert scope["type"] == "http"
        assert scope["http_version"] == client.http_version
        assert scope["scheme"] == "https"
        assert scope["method"] == "GET"
        assert scope["asgi"]["version"] == "3.0"
        await client.request("PURGE")
        assert recorder.scope["method"] == "PURGE"


@asynctest
async def test_the_scope_tells_both_addresses(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/")
        assert tuple(scope["server"]) == ("127.0.0.1", client.port)
        host, port = scope["client"]
        assert host == "127.0.0.1"
        assert port not in (0, client.port)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", b""),
        ("/a%20b", "/a b", b""),
        ("/gr%C3%BC%C3%9Fe", "/grüße", b""),
        ("/a%2Fb", "/a/b", b""),
        ("/a/../b//c", "/a/../b//c", b""),
        ("/path?a=%20&b=1?2", "/path", b"a=%20&b=1?2"),
        ("/path?", "/path", b""),
        ("/%ff", "/\ufffd", b""),
        ("/100%", "/100%", b""),
        ("//host/path", "//host/path", b""),
    ],
)
@asynctest
async def test_the_path_is_decoded_and_the_raw_path_and_the_query_are_not(
    pair: Pair, target: str, path: str, query: bytes
) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, target)
        assert scope["path"] == path
        assert scope["raw_path"] == target.partition("?")[0].encode()
        assert scope["query_string"] == query
        assert scope["root_path"] == ""


@asynctest
async def test_the_root_path_is_told_and_put_before_the_path(pair: Pair) -> None:
    async with pair(recorder := Recorder(), root_path="/api") as client:
        scope = await scope_of(client, recorder, "/users%20")
        assert scope["root_path"] == "/api"
        assert scope["path"] == "/api/users "
        assert scope["raw_path"] == b"/api/users%20"


@asynctest
async def test_header_fields_come_in_order_in_lower_case_with_host_once(pair: Pair) -> None:
    fields = [(b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b"3"), (b"x-bytes", b"\xe4\xff")]
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/", *fields)
        assert [line for line in scope["headers"] if line[0].startswith(b"x-")] == fields
        assert [value for name, value in scope["headers"] if name == b"host"] == [b"localhost"]
        assert all(name == name.lower() for name, _ in scope["headers"])
        assert not any(name.startswith(b":") for name, _ in scope["headers"])


@asynctest
async def test_cookies_come_as_one_field(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/", (b"cookie", b"a=1; b=2"))
        assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1; b=2"]


@asynctest
async def test_another_host_is_told_as_it_came(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/", (b"host", b"other.example:8443"))
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        assert hosts == [b"other.example:8443"]


@asynctest
async def test_the_same_extensions_are_offered(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        scope = await scope_of(client, recorder, "/")
        assert set(scope["extensions"]) == {
            "http.response.trailers",
            "http.response.early_hint",
            "http.response.zerocopysend",
            "tercel.request.trailers",
            "tls",
        }


@asynctest
async def test_the_tls_extension_tells_what_the_handshake_agreed_on(pair: Pair) -> None:
    async with pair(recorder := Recorder()) as client:
        tls = (await scope_of(client, recorder, "/"))["extensions"]["tls"]
        assert tls["tls_version"] == 0x0304
        assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
        assert tls["client_cert_chain"] == []
        assert tls["client_cert_name"] is None
        assert tls["client_cert_error"] is None
        assert "server_cert" in tls


@asynctest
async def test_requests_get_a_copy_of_the_state_of_the_lifespan(pair: Pair) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["kept"] = ["shared"]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        told = json.dumps(dict(scope["state"]))
        scope["state"]["own"] = 1
        await respond(send, told.encode())

    async with pair(app) as client:
        for _ in range(2):
            assert json.loads((await client.get()).content) == {"kept": ["shared"]}


@asynctest
async def test_there_is_no_state_without_a_lifespan(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"%d" % ("state" in scope))

    async with pair(app) as client:
        assert bytes((await client.get()).content) == b"0"
