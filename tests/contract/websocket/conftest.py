"""The pair of a server and its WebSocket client, for each way to open one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.shared.settings import Settings
from tests.contract.client import Client
from tests.contract.h1 import H1Client, H1PlainClient
from tests.contract.h3 import H3ContractClient
from tests.contract.websocket.client import WebSocketClient
from tests.contract.websocket.h1 import H1PlainWebSocketClient, H1WebSocketClient
from tests.contract.websocket.h3 import H3WebSocketClient
from tests.support.asynchronous import PATIENCE_SECONDS

CLIENTS: dict[str, tuple[type[WebSocketClient], type[Client]]] = {
    "h1": (H1WebSocketClient, H1Client),
    "h1-plain": (H1PlainWebSocketClient, H1PlainClient),
    "h3": (H3WebSocketClient, H3ContractClient),
}

Served = Callable[..., AbstractAsyncContextManager[WebSocketClient]]


@asynccontextmanager
async def _serve(
    kind: str, certificate: Path, app: Any, *, window: int = 1_048_576, **settings: Any
) -> AsyncIterator[WebSocketClient]:
    client_type, http_type = CLIENTS[kind]
    names = {"cert": str(certificate), "key": str(certificate)}
    server = tercel.serve(
        "127.0.0.1",
        0,
        app,
        ssl=names if client_type.secure else None,
        version=3 if client_type.secure else 1,
        run_async=True,
        settings=Settings(**settings),
    )
    assert server is not None
    client = client_type(http_type(await server, window=window))
    try:
        yield client
    finally:
        await client.close()
        await asyncio.wait_for(server.close(), PATIENCE_SECONDS)


@pytest.fixture(params=CLIENTS)
def served(request: pytest.FixtureRequest, credential_path: Path) -> Served:
    """`async with served(app, ...) as client`: a WebSocket client of a server in this very loop.

    `window` is how many bytes the client takes while it does not read, about; all else goes into
    the server's settings.
    """

    def serve(app: Any, **options: Any) -> AbstractAsyncContextManager[WebSocketClient]:
        return _serve(request.param, credential_path, app, **options)

    return serve


@pytest.fixture
def served_plain(credential_path: Path) -> Served:
    """The same for what only HTTP/1.1 has."""

    def serve(app: Any, **options: Any) -> AbstractAsyncContextManager[WebSocketClient]:
        return _serve("h1-plain", credential_path, app, **options)

    return serve


@pytest.fixture
def served_h3(credential_path: Path) -> Served:
    """The same for what only HTTP/3 has."""

    def serve(app: Any, **options: Any) -> AbstractAsyncContextManager[WebSocketClient]:
        return _serve("h3", credential_path, app, **options)

    return serve


@pytest.fixture
def authority_path(credential_path: Path) -> Path:
    """A file with the certificate of the authority that signed the server's."""
    return credential_path.parents[2] / "ca.pem"
