"""The fields that the server adds to responses."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from tests.contract.apps import Receive, Scope, Send, hello, http_only, respond
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest


@asynctest
async def test_a_response_has_a_date_and_names_the_server(pair: Pair) -> None:
    async with pair(hello) as client:
        header = (await client.get()).header
        date = parsedate_to_datetime(header[b"date"].decode())
        assert abs(datetime.now(UTC) - date) < timedelta(seconds=10)
        assert header[b"server"] == b"tercel"


@asynctest
async def test_date_and_server_of_the_application_hold(pair: Pair) -> None:
    own = [(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"server", b"own")]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", own)

    async with pair(app) as client:
        header = (await client.get()).header
        assert {name: header[name] for name, _ in own} == dict(own)


@asynctest
async def test_an_empty_server_name_leaves_the_field_out(pair: Pair) -> None:
    async with pair(hello, server_name="") as client:
        assert b"server" not in (await client.get()).header


@asynctest
async def test_http_1_advertises_http_3_on_the_same_port_and_http_3_nothing(pair: Pair) -> None:
    async with pair(hello) as client:
        header = (await client.get()).header
        if client.http_version == "3":
            assert b"alt-svc" not in header
        else:
            assert header[b"alt-svc"] == b'h3=":%d"; ma=86400' % client.port


@asynctest
async def test_fields_about_the_connection_are_the_servers_to_write(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"transfer-encoding", b"chunked"), (b"keep-alive", b"timeout=5")]
        await respond(send, b"hello", [*fields, (b"content-length", b"5")])

    async with pair(app) as client:
        response = await client.get()
        assert bytes(response.content) == b"hello"
        assert response.header[b"content-length"] == b"5"
        assert not {b"transfer-encoding", b"keep-alive"} & set(response.header)


@asynctest
async def test_a_204_tells_no_content_length(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", [(b"content-length", b"0")], status=204)

    async with pair(app) as client:
        assert b"content-length" not in (await client.get()).header


@asynctest
async def test_fields_of_the_same_name_stay_apart_and_in_order(pair: Pair) -> None:
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", cookies)

    async with pair(app) as client:
        fields = (await client.get()).fields
        assert [line for line in fields if line[0] == b"set-cookie"] == cookies


@asynctest
async def test_names_are_sent_in_lower_case(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", [(b"X-Upper", b"Kept")])

    async with pair(app) as client:
        assert (await client.get()).header[b"x-upper"] == b"Kept"


@asynctest
async def test_added_fields_are_in_every_response_that_has_none_of_the_name(pair: Pair) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", [(b"x-a", b"own")] if scope["path"] == "/own" else [])

    async with pair(app, header=("X-A: 1", "x-b:2"), max_target_bytes=64) as client:
        for _ in range(3):  # what comes again is made once
            header = (await client.get()).header
            assert (header[b"x-a"], header[b"x-b"]) == (b"1", b"2")
            own = (await client.get("/own")).fields
            assert [value for name, value in own if name == b"x-a"] == [b"own"]
        refused = await client.get("/" + "x" * 64)
        assert refused.status == 414
        assert refused.header[b"x-b"] == b"2"


@asynctest
async def test_the_date_may_be_left_out(pair: Pair) -> None:
    async with pair(hello, date_header=False) as client:
        for _ in range(3):
            assert b"date" not in (await client.get()).header


@asynctest
async def test_http_1_advertises_the_port_that_clients_reach_http_3_by(pair: Pair) -> None:
    async with pair(hello, advertise_port=443) as client:
        header = (await client.get()).header
        expected = None if client.http_version == "3" else b'h3=":443"; ma=86400'
        assert header.get(b"alt-svc") == expected
