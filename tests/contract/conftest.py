"""The pair of a server and its client, for each HTTP version."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.certs.selfsigned import DevelopmentCertificates
from tercel.server import AsyncioServer
from tercel.shared.settings import Settings
from tests.contract.client import Client
from tests.contract.h1 import H1Client
from tests.contract.h3 import H3ContractClient
from tests.support.asynchronous import PATIENCE_SECONDS

CLIENTS: dict[str, type[Client]] = {"h1": H1Client, "h3": H3ContractClient}

Pair = Callable[..., AbstractAsyncContextManager[Client]]
BothServed = Callable[..., AbstractAsyncContextManager[AsyncioServer]]


@pytest.fixture(scope="session")
def credential_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for localhost and its key."""
    development = DevelopmentCertificates(tmp_path_factory.mktemp("contract"))
    path = development.ensure().certificate_path
    assert path is not None
    return path


@asynccontextmanager
async def _serve(
    credential_path: Path, app: Any, settings: Settings
) -> AsyncIterator[AsyncioServer]:
    """A server of both versions in this very loop."""
    starting = tercel.serve(
        "127.0.0.1",
        0,
        app,
        ssl={"cert": str(credential_path), "key": str(credential_path)},
        version=3,
        run_async=True,
        settings=settings,
    )
    assert starting is not None
    server = await starting
    try:
        yield server
    finally:
        await asyncio.wait_for(server.close(), PATIENCE_SECONDS)


@pytest.fixture(params=CLIENTS)
def pair(request: pytest.FixtureRequest, credential_path: Path) -> Pair:
    """`async with pair(app, ...) as client`: a client of a server in this very loop.

    Both versions are served all the time; the client speaks one of them. `window` is the
    client's, all else goes into the server's settings.
    """
    client_type = CLIENTS[request.param]

    @asynccontextmanager
    async def connect(
        app: Any, *, window: int = 1_048_576, **settings: Any
    ) -> AsyncIterator[Client]:
        async with _serve(credential_path, app, Settings(**settings)) as server:
            client = client_type(server, window=window)
            try:
                yield client
            finally:
                await client.close()

    return connect


@pytest.fixture
def both_served(credential_path: Path) -> BothServed:
    """`async with both_served(app, ...) as server`: for cases with clients of their own."""

    def serve(app: Any, **settings: Any) -> AbstractAsyncContextManager[AsyncioServer]:
        return _serve(credential_path, app, Settings(**settings))

    return serve
