"""Starlette's and FastAPI's WebSockets, unchanged."""

import asyncio
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, status
from fastapi import WebSocket as FastWebSocket
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.contract.websocket.client import End
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest


@asynctest
async def test_starlette_echoes_json_and_hears_of_the_close(served: Served) -> None:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][0])
        try:
            while True:
                await websocket.send_json(await websocket.receive_json())
        except WebSocketDisconnect as error:
            ended.set_result(error.code)

    async with served(Starlette(routes=[WebSocketRoute("/{room}", talk)])) as client:
        conversation = await client.connect("/room", subprotocols=["json"])
        assert conversation.subprotocol == "json"
        assert await conversation.echo('{"a": [1, 2]}') == '{"a":[1,2]}'
        assert await conversation.close(3000) == End(3000)
        assert await ended == 3000
        # A path that it does not know is closed before it is accepted.
        assert (await client.refusal("/no/such")).status == 403


@asynctest
async def test_starlettes_endpoint_and_its_denial_response(served: Served) -> None:
    class Echo(WebSocketEndpoint):
        encoding = "bytes"

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_bytes(data)

    async def deny(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("not you", status_code=418))

    routes = [WebSocketRoute("/echo", Echo), WebSocketRoute("/deny", deny)]
    async with served(Starlette(routes=routes)) as client:
        assert await (await client.connect("/echo")).echo(b"\x00\xff") == b"\x00\xff"
        refused = await client.refusal("/deny")
        assert (refused.status, refused.content) == (418, b"not you")


@asynctest
async def test_fastapi_checks_before_it_accepts(served: Served) -> None:
    app = FastAPI()

    def token(websocket: FastWebSocket) -> str:
        given = websocket.query_params.get("token")
        if given is None:
            raise HTTPException(status.HTTP_401_UNAUTHORIZED)
        return given

    @app.websocket("/ws")
    async def talk(websocket: FastWebSocket, who: str = Depends(token)) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{who}: {text}")

    async with served(app) as client:
        conversation = await client.connect("/ws?token=me")
        assert await conversation.echo("hello") == "me: hello"
        assert (await client.refusal("/ws")).status == 401
        conversation.vanish()


@asynctest
async def test_an_error_of_the_application_closes_with_1011(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def talk(websocket: FastWebSocket) -> None:
        await websocket.accept()
        raise ZeroDivisionError

    async with served(app) as client:
        assert (await (await client.connect("/ws")).end()).code == 1011
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
