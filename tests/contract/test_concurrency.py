"""`max_concurrency` counts what the application works on, whatever the clients do."""

import asyncio
from typing import Any

import pytest
from sanic import Request, Sanic, text

from tests.contract.apps import Receive, Scope, Send, http_only, respond
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest

MOST = 3


class Work:
    """What an application does for each call: it goes on until the test says so."""

    def __init__(self) -> None:
        self.running = 0
        self.most_running = 0
        self.begun = 0
        self.changed = asyncio.Condition()
        self.over = asyncio.Event()

    async def do(self) -> None:
        """Work until `over`, also when the call is cancelled because its client has gone."""
        self.begun += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self._tell()
        try:
            while not self.over.is_set():
                try:
                    await self.over.wait()
                except asyncio.CancelledError:
                    continue
        finally:
            self.running -= 1
            await self._tell()

    async def until_begun(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.begun >= count)

    async def until_none_runs(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.running)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def asgi(work: Work) -> Any:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            await work.do()
        await respond(send, b"done")

    return app


def sanic(work: Work) -> Any:
    Sanic._app_registry.pop("concurrency", None)
    app: Any = Sanic("concurrency")
    app.config.TOUCHUP = False

    @app.get("/work")
    async def busy(request: Request) -> Any:
        await work.do()
        return text("done")

    @app.get("/")
    async def page(request: Request) -> Any:
        return text("done")

    return app


@pytest.mark.parametrize("application", [asgi, sanic])
@asynctest
async def test_requests_that_their_clients_gave_up_count_until_the_application_returns(
    pair: Pair, application: Any
) -> None:
    work = Work()
    async with pair(application(work), max_concurrency=MOST, graceful_timeout=0) as client:
        for count in range(MOST):
            exchange = await client.open("GET", "/work")
            await work.until_begun(count + 1)
            exchange.abort()
        for _ in range(5 * MOST):
            exchange = await client.open("GET", "/work")
            await exchange.over()
            assert exchange.status == 503
        assert work.most_running == MOST
        work.over.set()
        await work.until_none_runs()
        assert (await client.get("/work")).status == 200


@asynctest
async def test_a_call_counts_until_it_returns_though_its_response_has_ended(pair: Pair) -> None:
    work = Work()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"done")
        await work.do()

    async with pair(app, max_concurrency=1) as client:
        assert (await client.get()).status == 200
        await work.until_begun(1)
        assert (await client.get()).status == 503
        work.over.set()
        await work.until_none_runs()
        assert (await client.get()).status == 200


async def ends_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send)


async def fails_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("as it is told to")


async def fails_later(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0)
    raise RuntimeError("as it is told to")


async def cancels_itself(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("app", "status"),
    [(ends_at_once, 200), (fails_at_once, 500), (fails_later, 500), (cancels_itself, 500)],
)
@asynctest
async def test_a_call_frees_its_place_however_it_ends(pair: Pair, app: Any, status: Any) -> None:
    async with pair(http_only(app), max_concurrency=1) as client:
        for _ in range(5):
            exchange = await client.open("GET")
            assert (await exchange.over()).status == status
