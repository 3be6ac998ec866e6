"""The pair of a server and its client, for each HTTP version."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.certs.selfsigned import DevelopmentCertificates
from tercel.shared.settings import Settings
from tests.contract.client import Client
from tests.contract.h1 import H1Client
from tests.contract.h3 import H3ContractClient
from tests.support.asynchronous import PATIENCE_SECONDS

CLIENTS: dict[str, type[Client]] = {"h1": H1Client, "h3": H3ContractClient}

Pair = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="session")
def credential_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for localhost and its key."""
    development = DevelopmentCertificates(tmp_path_factory.mktemp("contract"))
    path = development.ensure().certificate_path
    assert path is not None
    return path


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
        server = tercel.serve(
            "127.0.0.1",
            0,
            app,
            ssl={"cert": str(credential_path), "key": str(credential_path)},
            version=3,
            run_async=True,
            settings=Settings(**settings),
        )
        assert server is not None
        client = client_type(await server, window=window)
        try:
            yield client
        finally:
            await client.close()
            await asyncio.wait_for(server.close(), PATIENCE_SECONDS)

    return connect
