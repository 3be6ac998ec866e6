"""The shop's HTTP side: the same answers from Sanic's own server and from tercel's."""

import hashlib
import json
from typing import Any

import pytest

from tests.contract.client import Exchange
from tests.sanic.conftest import Connect
from tests.sanic.shop import CATALOGUE
from tests.support.asynchronous import asynctest

JSON = (b"content-type", b"application/json")


def content_of(exchange: Exchange) -> Any:
    return json.loads(bytes(exchange.content))


def cookies(exchange: Exchange) -> dict[str, str]:
    found = [value.decode() for name, value in exchange.fields if name == b"set-cookie"]
    return {line.partition("=")[0]: line.partition("=")[2] for line in found}


# -- requests and routing -----------------------------------------------------------------------


@asynctest
async def test_items_are_created_listed_shown_replaced_and_deleted(shop: Connect) -> None:
    async with shop() as client:
        http = client.http
        made = await http.request("POST", "/v1/api/items/", [JSON], b'{"name": "bolt"}')
        item = content_of(made)
        where = made.header[b"location"].decode()
        assert (made.status, item["name"]) == (201, "bolt")
        assert where == f"/v1/api/items/{item['id']}"
        assert content_of(await http.get("/v1/api/items/?name=bolt"))["items"][-1] == item
        assert content_of(await http.get(where)) == item
        replaced = await http.request("PUT", where, [JSON], b'{"name": "nut"}')
        assert content_of(replaced) == {"id": item["id"], "name": "nut"}
        assert (await http.request("DELETE", where)).status == 204
        assert (await http.get(where)).status == 404


@asynctest
async def test_request_says_where_it_comes_from_and_what_it_asks(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get(
            "/about?a=1&b=%20",
            (b"host", b"shop.example:8443"),
            (b"x-twice", b"one"),
            (b"x-twice", b"two"),
            (b"x-request-id", b"42"),
        )
    assert content_of(exchange) == {
        "method": "GET",
        "path": "/about",
        "query": "a=1&b=%20",
        "host": "shop.example:8443",
        "scheme": "https",
        "ip": "127.0.0.1",
        "port": True,
        "server": True,
        "ssl": True,
        "server_name": "localhost",
        "peer": "127.0.0.1",
        "url": True,
        "header": ["one", "two"],
        "forwarded": "",
        "id": "42",
        "name": "shop.about",
    }


@asynctest
async def test_request_knows_its_http_version(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/version")
    major = client.http_version[0]
    assert exchange.content.decode() == f"{client.http_version} {major}"


@asynctest
async def test_head_has_the_fields_of_get_and_no_content(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.request("HEAD", "/about?x=1")
    assert (exchange.status, bytes(exchange.content)) == (200, b"")
    assert int(exchange.header[b"content-length"]) > 0


@asynctest
async def test_wrong_method_and_unknown_path_are_errors_in_the_application_s_format(
    shop: Connect,
) -> None:
    async with shop() as client:
        unknown = await client.http.get("/no/such/page")
        wrong = await client.http.request("DELETE", "/")
    assert (unknown.status, wrong.status) == (404, 405)
    assert content_of(unknown)["message"] == "Requested URL /no/such/page not found"
    assert wrong.header[b"allow"] == b"GET"


# -- middleware, cookies, forms -------------------------------------------------------------------


@asynctest
async def test_middleware_sees_each_request_and_each_response(shop: Connect) -> None:
    async with shop() as client:
        passed = await client.http.get("/")
        blocked = await client.http.get("/", (b"x-blocked", b"1"))
    assert (passed.status, passed.header[b"x-shop"]) == (200, b"yes")
    assert (blocked.status, bytes(blocked.content)) == (403, b"blocked")
    assert blocked.header[b"x-shop"] == b"yes"


@asynctest
async def test_form_logs_in_with_cookies_that_come_back(shop: Connect) -> None:
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    async with shop() as client:
        login = await client.http.request("POST", "/accounts/login", form, b"user=ann+b")
        assert (login.status, (b"location", b"/accounts/me") in login.fields) == (302, True)
        given = cookies(login)
        assert set(given) == {"user", "theme"}
        assert "HttpOnly" in given["user"]
        cookie = "; ".join(f"{name}={value.split(';')[0]}" for name, value in given.items())
        me = await client.http.get("/accounts/me", (b"cookie", cookie.encode()))
        assert content_of(me) == {"theme": "dark", "user": "ann b"}
        logout = await client.http.request("POST", "/accounts/logout")
    assert "Max-Age=0" in cookies(logout)["user"]


@asynctest
async def test_multipart_form_has_fields_and_files(shop: Connect) -> None:
    picture = bytes(range(256)) * 1000
    body = (
        b'--shop-part-line\r\ncontent-disposition: form-data; name="title"\r\n\r\nSunset\r\n'
        b"--shop-part-line\r\n"
        b'content-disposition: form-data; name="picture"; filename="sun.png"\r\n'
        b"content-type: image/png\r\n\r\n" + picture + b"\r\n--shop-part-line--\r\n"
    )
    async with shop() as client:
        exchange = await client.http.request(
            "POST",
            "/accounts/picture",
            [(b"content-type", b"multipart/form-data; boundary=shop-part-line")],
            body,
        )
    assert content_of(exchange) == {
        "title": "Sunset",
        "name": "sun.png",
        "type": "image/png",
        "sha256": hashlib.sha256(picture).hexdigest(),
    }


# -- content --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
@asynctest
async def test_content_of_any_size_comes_back(shop: Connect, size: int) -> None:
    sent = (b"0123456789" * 100_000)[:size]
    async with shop() as client:
        exchange = await client.http.request("POST", "/transfers/echo", content=sent)
    assert bytes(exchange.content) == sent


@asynctest
async def test_content_over_its_limit_is_413_for_a_plain_handler(shop: Connect) -> None:
    async with shop() as client:
        announced = [(b"content-length", b"2000001")]
        exchange = await client.http.begin("POST", "/transfers/echo", announced)
        await exchange.whole()
    assert exchange.status == 413
    assert "Request body exceeds the size limit" in exchange.content.decode()


@asynctest
async def test_streaming_handler_takes_content_over_the_limit_as_it_comes(shop: Connect) -> None:
    part = b"x" * 100_000
    async with shop() as client:
        exchange = await client.http.begin("POST", "/transfers/upload")
        for _ in range(30):
            await exchange.send(part)
        await exchange.end()
        await exchange.whole()
    digest = hashlib.sha256(part * 30).hexdigest()
    assert content_of(exchange) == {"size": 3_000_000, "sha256": digest}


@asynctest
async def test_content_that_comes_late_is_waited_for(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.begin("POST", "/transfers/upload/read")
        await client.http.get("/")
        await exchange.send(b"late")
        await client.http.get("/")
        await exchange.send(b"r")
        await exchange.end()
        await exchange.whole()
    assert bytes(exchange.content) == b"5"


@asynctest
async def test_response_begins_before_the_request_ends(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.begin("POST", "/transfers/duplex")
        for part in (b"ping", b"pong"):
            before = len(exchange.content)
            await exchange.send(part)
            await exchange.received(before + 4)
        await exchange.end()
        await exchange.whole()
    assert (exchange.status, bytes(exchange.content)) == (200, b"PINGPONG")


@asynctest
async def test_unread_content_does_not_keep_the_client_from_its_next_request(
    shop: Connect,
) -> None:
    async with shop() as client:
        ignored = await client.http.request("POST", "/transfers/upload/ignored", content=b"x" * 999)
        after = await client.http.get("/")
    assert (bytes(ignored.content), after.status) == (b"not interested", 200)


@asynctest
async def test_streamed_download_is_whole(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/transfers/download/3000001")
    expected = (bytes(range(256)) * 12_000)[:3_000_001]
    assert exchange.sha256 == hashlib.sha256(expected).hexdigest()
    assert b"content-length" not in exchange.header


@asynctest
async def test_streamed_download_of_a_promised_length_is_whole(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/transfers/download/promised/1000")
    assert exchange.header[b"content-length"] == b"1000"
    assert bytes(exchange.content) == b"x" * 1000


@asynctest
async def test_each_part_of_a_response_arrives_when_it_is_sent(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.open("GET", "/transfers/ticks")
        await exchange.received(len(b"data: 0\n\n"))
        assert not exchange.ended
        await client.http.request("POST", "/transfers/ticks/go")
        await exchange.whole()
    assert bytes(exchange.content) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("path", ["/transfers/catalogue", "/transfers/catalogue/stream", "/files"])
@asynctest
async def test_file_is_sent_whole(shop: Connect, path: str) -> None:
    async with shop() as client:
        exchange = await client.http.get(path)
    assert bytes(exchange.content) == CATALOGUE.read_bytes()
    assert exchange.header[b"content-type"].startswith(b"text/plain")


@asynctest
async def test_part_of_a_file_is_sent_for_a_range(shop: Connect) -> None:
    async with shop() as client:
        part = await client.http.get("/files", (b"range", b"bytes=10-19"))
        beyond = await client.http.get("/files", (b"range", b"bytes=99999999-"))
    assert (part.status, bytes(part.content)) == (206, CATALOGUE.read_bytes()[10:20])
    assert part.header[b"content-range"] == b"bytes 10-19/%d" % CATALOGUE.stat().st_size
    assert beyond.status == 416


# -- errors ---------------------------------------------------------------------------------------


@asynctest
async def test_errors_are_answered_by_the_application_s_handlers(shop: Connect) -> None:
    async with shop() as client:
        own = await client.http.request("POST", "/v1/api/items/7/order")
        builtin = await client.http.get("/faults/boom")
        teapot = await client.http.get("/faults/teapot")
        nothing = await client.http.get("/faults/nothing")
    assert (own.status, content_of(own)) == (409, {"sorry": "item 7 is out of stock"})
    assert (builtin.status, bytes(builtin.content)) == (500, b"broken: boom")
    assert (teapot.status, teapot.header[b"x-spout"]) == (418, b"yes")
    assert content_of(teapot)["message"] == "short and stout"
    assert nothing.status == 500


@asynctest
async def test_second_response_is_refused_and_the_first_stands(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/faults/twice")
    assert (exchange.status, bytes(exchange.content)) == (200, b"first")


@asynctest
async def test_error_in_the_middle_of_a_response_leaves_what_was_sent(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.open("GET", "/faults/late")
        await exchange.over()
        after = await client.http.get("/")
    assert (exchange.status, bytes(exchange.content), after.status) == (200, b"begun", 200)


@asynctest
async def test_handler_that_takes_longer_than_response_timeout_is_503(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.get("/faults/slow")
    assert exchange.status == 503
    assert "Response Timeout" in exchange.content.decode()


@asynctest
async def test_client_that_leaves_cancels_its_handler(shop: Connect) -> None:
    async with shop() as client:
        exchange = await client.http.open("GET", "/faults/hang")
        await exchange.received(4)
        exchange.abort()
    async with shop() as client:
        notes = content_of(await client.http.get("/faults/notes"))
    assert "hang was cancelled" in notes


# -- the connection, signals, background ----------------------------------------------------------


@asynctest
async def test_connection_keeps_what_requests_leave_on_it(shop: Connect) -> None:
    async with shop() as client:
        counts = [bytes((await client.http.get("/visits")).content) for _ in range(3)]
    assert (counts, client.http.connections) == ([b"1", b"2", b"3"], 1)


@asynctest
async def test_lifecycle_signals_are_dispatched_for_each_request(shop: Connect) -> None:
    async with shop() as client:
        before = content_of(await client.http.get("/counted"))
        await client.http.request("POST", "/transfers/echo", content=b"counted")
        after = content_of(await client.http.get("/counted"))
    assert before.pop("background") == after.pop("background") == "running"
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown == {
        "http.lifecycle.begin": 0,
        "http.lifecycle.read_head": 2,
        "http.lifecycle.request": 2,
        "http.lifecycle.handle": 2,
        "http.routing.after": 2,
        "http.lifecycle.read_body": 1,
        "http.lifecycle.response": 2,
        "http.lifecycle.send": 2,
    }
