"""Connections: reuse, many exchanges at once, and the order in which a server stops."""

import asyncio
import json
import os
from typing import Any

import pytest

from tests.contract.apps import Receive, Scope, Send, body, hello, http_only, respond, start
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest


@asynctest
async def test_a_hundred_requests_need_one_connection(pair: Pair) -> None:
    peers = set()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        peers.add(tuple(scope["client"]))
        await respond(send, scope["path"].encode())

    async with pair(app) as client:
        for index in range(100):
            assert bytes((await client.get(f"/{index}")).content) == b"/%d" % index
        assert client.connections == 1
    assert len(peers) == 1


@asynctest
async def test_a_hundred_requests_run_at_the_same_time(pair: Pair) -> None:
    running = 0
    all_run = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        if running == 100:
            all_run.set()
        await all_run.wait()
        await respond(send, scope["path"].encode())

    async with pair(app) as client:
        responses = await asyncio.gather(*(client.get(f"/{index}") for index in range(100)))
        assert [bytes(each.content) for each in responses] == [b"/%d" % i for i in range(100)]


@asynctest
async def test_a_running_exchange_finishes_and_then_the_connection_closes(pair: Pair) -> None:
    release = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"begun", more=True)
        await release.wait()
        await body(send, b" and ended")

    async with pair(app) as client:
        exchange = await client.open("GET")
        await exchange.received(5)
        closing = client.server.close()
        await client.still(lambda: len(exchange.content))
        assert not exchange.done
        assert not closing.done()
        assert not client.server.is_serving()
        release.set()
        await exchange.whole()
        assert bytes(exchange.content) == b"begun and ended"
        await client.closed()
        await closing


@asynctest
async def test_a_stop_waits_for_work_that_an_application_does_after_its_response(
    pair: Pair,
) -> None:
    release, outcome = asyncio.Event(), ""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal outcome
        await respond(send, b"answered")
        try:
            await release.wait()
            outcome = "finished"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise

    async with pair(app) as client:
        assert bytes((await client.get()).content) == b"answered"
        closing = client.server.close()
        await client.closed()
        assert not closing.done()
        release.set()
        await closing
    assert outcome == "finished"


@asynctest
async def test_calls_that_outlast_the_grace_period_are_cancelled_and_counted(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"answered")
        await asyncio.Event().wait()

    async with pair(app, graceful_timeout=0.01) as client:
        for _ in range(3):
            await client.get()
        await client.server.close()
    said = "3 calls of the application were still running after 0.01 s; they are cancelled"
    assert said in caplog.messages


@asynctest
async def test_a_response_that_a_slow_reader_has_not_taken_arrives_whole_during_a_stop(
    pair: Pair,
) -> None:
    release = asyncio.Event()
    data = os.urandom(8 * 1_048_576)

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"begun", more=True)
        await release.wait()
        await body(send, data)

    async with pair(app, window=262_144) as client:
        exchange = await client.open("GET")
        await exchange.received(5)
        client.pause()
        closing = client.server.close()
        release.set()
        await client.still(lambda: len(exchange.content))
        client.resume()
        await exchange.whole()
        assert bytes(exchange.content) == b"begun" + data
        await client.closed()
        await closing


@asynctest
async def test_a_request_whose_content_is_on_its_way_is_served_during_a_stop(pair: Pair) -> None:
    begun = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await respond(send, b"%d" % size)

    async with pair(app) as client:
        exchange = await client.begin("POST", "/")
        await exchange.send(bytes(1000))
        await begun.wait()
        closing = client.server.close()
        for _ in range(10):
            await exchange.send(bytes(100_000))
        await exchange.end()
        assert bytes((await exchange.whole()).content) == b"1001000"
        await client.closed()
        await closing


@asynctest
async def test_an_idle_connection_is_closed_at_once_when_the_server_stops(pair: Pair) -> None:
    async with pair(hello) as client:
        await client.get()
        closing = client.server.close()
        await client.closed()
        await closing


@asynctest
async def test_an_exchange_that_outlives_the_grace_period_is_ended(pair: Pair) -> None:
    cancelled = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"begun", more=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with pair(app, graceful_timeout=0.05) as client:
        exchange = await client.open("GET")
        await exchange.received(5)
        await client.server.close()
        await exchange.over()
        assert exchange.broken
    assert cancelled == [True]


@asynctest
async def test_the_application_starts_before_the_first_request_and_stops_after_the_last(
    pair: Pair,
) -> None:
    events: list[str] = []
    begun, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (kind := (await receive())["type"]) != "lifespan.shutdown":
                events.append(kind)
                await send({"type": f"{kind}.complete"})
            events.append(kind)
            await send({"type": f"{kind}.complete"})
            return
        events.append("request")
        begun.set()
        await release.wait()
        events.append("response")
        await respond(send)

    async with pair(app) as client:
        exchange = await client.begin("GET", "/", end=True)
        await begun.wait()
        closing = client.server.close()
        await client.still(lambda: len(events))
        release.set()
        await exchange.whole()
        await closing
    assert events == ["lifespan.startup", "request", "response", "lifespan.shutdown"]


@asynctest
async def test_both_versions_serve_the_same_application_object(pair: Pair) -> None:
    calls: list[Any] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["http_version"])
        await respond(send, json.dumps(calls).encode())

    async with pair(app) as client:
        assert json.loads((await client.get()).content) == [client.http_version]
