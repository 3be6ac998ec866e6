"""Streaming: both directions at once, at the pace of whoever is slower, and until someone goes."""

import asyncio
import hashlib
import os

import pytest

from tests.contract.apps import (
    Receive,
    Scope,
    Send,
    body,
    content,
    echo,
    hello,
    http_only,
    read,
    respond,
    start,
)
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest, turns

CHUNK = os.urandom(65_536)
CHUNKS = 256


@asynctest
async def test_content_streams_in_both_directions_at_once(pair: Pair) -> None:
    async with pair(echo) as client:
        exchange = await client.begin("POST", "/")
        sent = bytearray()
        for size in (1, 100, 10_000, 100_000):
            part = os.urandom(size)
            sent += part
            await exchange.send(part)
            # The request goes on; what was sent so far has come back nevertheless.
            await exchange.received(len(sent))
            assert not exchange.ended
        await exchange.end()
        await exchange.whole()
        assert exchange.content == sent


@asynctest
async def test_a_head_is_sent_before_there_is_content(pair: Pair) -> None:
    seen = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, [(b"x-early", b"1")])
        await body(send, b"", more=True)
        await seen.wait()
        await body(send, b"late")

    async with pair(app) as client:
        exchange = await client.open("GET")
        await exchange.head()
        assert (exchange.status, bytes(exchange.content)) == (200, b"")
        seen.set()
        assert bytes((await exchange.whole()).content) == b"late"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after a wait"])
@asynctest
async def test_a_head_without_content_is_sent_when_the_application_waits(
    pair: Pair, at_once: bool, method: str
) -> None:
    seen = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not at_once:
            await turns()
        await start(send, [(b"content-length", b"4")])
        await seen.wait()
        await body(send, b"late")

    async with pair(app) as client:
        exchange = await client.open(method)
        await exchange.head()
        assert (exchange.status, bytes(exchange.content)) == (200, b"")
        seen.set()
        await exchange.whole()
        assert exchange.header[b"content-length"] == b"4"
        assert bytes(exchange.content) == (b"late" if method == "GET" else b"")


@asynctest
async def test_each_part_of_the_content_arrives_before_the_next_is_sent(pair: Pair) -> None:
    go_on = asyncio.Semaphore(0)

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for index in range(5):
            await body(send, b"%d" % index, more=True)
            await go_on.acquire()
        await body(send)

    async with pair(app) as client:
        exchange = await client.open("GET")
        for index in range(5):
            await exchange.received(index + 1)
            go_on.release()
        assert bytes((await exchange.whole()).content) == b"01234"


@asynctest
async def test_unread_content_does_not_block_other_requests(pair: Pair) -> None:
    unread = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/unread":
            await unread.wait()
            await respond(send, hashlib.sha256(await read(receive)).hexdigest().encode())
        else:
            await respond(send, b"%d" % len(await read(receive)))

    windows = {"stream_window_bytes": 65_536, "connection_window_bytes": 262_144}
    async with pair(app, **windows) as client:
        # Each fills its window; together they leave the connection half of its own.
        stalled = [await client.begin("POST", "/unread") for _ in range(2)]
        senders = [asyncio.ensure_future(each.send(CHUNK * 16)) for each in stalled]
        for _ in range(10):
            response = await client.request("POST", "/", content=CHUNK * 4)
            assert bytes(response.content) == b"%d" % (4 * len(CHUNK))
        assert [each.status for each in stalled] == [None, None]
        unread.set()
        await asyncio.gather(*senders)
        for each in stalled:
            await each.end()
            await each.whole()
            assert each.content.decode() == hashlib.sha256(CHUNK * 16).hexdigest()


@asynctest
async def test_content_that_is_never_read_costs_later_requests_nothing(pair: Pair) -> None:
    windows = {"stream_window_bytes": 65_536, "connection_window_bytes": 131_072}
    async with pair(hello, **windows) as client:
        for _ in range(20):
            response = await client.request("POST", "/", content=CHUNK[:60_000])
            assert (response.status, bytes(response.content)) == (200, b"hello")
        assert client.connections == 1


@asynctest
async def test_a_response_may_come_whole_before_the_request_has_ended(pair: Pair) -> None:
    async with pair(hello) as client:
        exchange = await client.begin("POST", "/")
        await exchange.send(CHUNK)
        await exchange.whole()
        assert (exchange.status, bytes(exchange.content)) == (200, b"hello")
        for _ in range(64):
            await exchange.send(CHUNK)
        assert bytes((await client.get()).content) == b"hello"


@asynctest
async def test_a_client_that_goes_is_told_of_and_ends_what_is_sent(pair: Pair) -> None:
    told: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"some", more=True)
        await receive()
        message = await receive()
        told.set_result({**message})
        try:
            await body(send, b"more", more=True)
        except OSError as error:
            failed.set_result(error)
            raise

    async with pair(app) as client:
        exchange = await client.begin("POST", "/")
        await exchange.send(b"content")
        await exchange.received(4)
        exchange.abort()
        assert await told == {"type": "http.disconnect"}
        assert isinstance(await failed, OSError)
        await client.close()


@asynctest
async def test_an_application_that_waits_to_send_is_let_go_when_the_client_goes(
    pair: Pair,
) -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    sent = [0]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        try:
            while True:
                await body(send, CHUNK, more=True)
                sent[0] += 1
        except OSError as error:
            failed.set_result(error)

    async with pair(app, window=65_536) as client:
        exchange = await client.open("GET")
        await exchange.head()
        client.pause()
        await client.still(lambda: sent[0])
        assert not failed.done()
        exchange.abort()
        assert isinstance(await failed, OSError)


@asynctest
async def test_a_slow_reader_makes_the_application_wait(pair: Pair) -> None:
    sent = [0]

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for _ in range(CHUNKS):
            sent[0] += len(CHUNK)
            await body(send, CHUNK, more=True)
        await body(send)

    async with pair(app, window=65_536, max_unsent_bytes=65_536) as client:
        exchange = await client.open("GET")
        await exchange.head()
        client.pause()
        stalled_at = await client.still(lambda: sent[0])
        assert 0 < stalled_at <= client.most_on_the_way < CHUNKS * len(CHUNK)
        client.resume()
        await exchange.received(stalled_at + 1)
        assert bytes(exchange.content[: len(CHUNK)]) == CHUNK
        exchange.abort()


@asynctest
async def test_a_slow_application_makes_the_client_wait(pair: Pair) -> None:
    may_read = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        digest = hashlib.sha256()
        async for part in content(receive):
            digest.update(part)
        await respond(send, digest.hexdigest().encode())

    count = CHUNKS // 2
    async with pair(app, window=65_536, stream_window_bytes=65_536) as client:
        exchange = await client.begin("POST", "/")

        async def upload() -> None:
            for _ in range(count):
                await exchange.send(CHUNK)
            await exchange.end()

        sender = asyncio.ensure_future(upload())
        stalled_at = await client.still(lambda: exchange.accepted)
        assert 0 < stalled_at <= client.most_on_the_way < count * len(CHUNK)
        may_read.set()
        await sender
        await exchange.whole()
        assert exchange.content.decode() == hashlib.sha256(CHUNK * count).hexdigest()


@pytest.mark.parametrize("count", [3, 10])
@asynctest
async def test_a_slow_exchange_does_not_delay_another(pair: Pair, count: int) -> None:
    release = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await release.wait()
        await respond(send, scope["path"].encode())

    async with pair(app) as client:
        slow = [await client.open("GET", "/slow") for _ in range(count)]
        for _ in range(10):
            assert bytes((await client.get("/quick")).content) == b"/quick"
        assert not any(each.done for each in slow)
        release.set()
        for each in slow:
            assert bytes((await each.whole()).content) == b"/slow"
