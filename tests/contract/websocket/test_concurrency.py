"""`max_concurrency` counts WebSockets until the application has returned."""

from typing import Any

import pytest
from sanic import Sanic

from tests.contract.apps import Receive, Scope, Send
from tests.contract.test_concurrency import Work
from tests.contract.websocket.apps import websockets_only
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest


def asgi(work: Work) -> Any:
    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await work.do()

    return app


def sanic(work: Work) -> Any:
    Sanic._app_registry.pop("concurrency", None)
    app: Any = Sanic("concurrency")
    app.config.TOUCHUP = False

    @app.websocket("/")
    async def talk(request: Any, websocket: Any) -> None:
        await work.do()

    return app


@pytest.mark.parametrize("application", [asgi, sanic])
@asynctest
async def test_a_websocket_whose_client_has_gone_counts_until_the_application_returns(
    served: Served, application: Any
) -> None:
    work = Work()
    async with served(application(work), max_concurrency=1) as client:
        conversation = await client.connect("/")
        await work.until_begun(1)
        conversation.vanish()
        for _ in range(3):
            assert (await client.refusal("/")).status == 503
        assert work.most_running == 1
        work.over.set()
        await work.until_none_runs()
        await (await client.connect("/")).end()
