"""Middleware that is in common use, between tercel and an application: what it may rely on."""

import gzip
import os
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from tests.contract.apps import App, Receive, Scope, Send, body, start
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest

# Compressible, and larger than what is read of a file at once.
_CONTENT = b"The same line again and again.\n" * 10_000


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A relative path of a file with _CONTENT."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "file.txt").write_bytes(_CONTENT)
    monkeypatch.chdir(tmp_path)
    return os.path.join("static", "file.txt")


def _files(file: str, *middleware: Middleware) -> Starlette:
    async def download(request: StarletteRequest) -> StarletteResponse:
        return FileResponse(file)

    return Starlette(routes=[Route("/", download)], middleware=list(middleware))


@asynctest
async def test_a_file_at_a_relative_path_is_served(pair: Pair, file: str) -> None:
    async with pair(_files(file)) as client:
        assert bytes((await client.get()).content) == _CONTENT


@asynctest
async def test_gzip_middleware_compresses_files(pair: Pair, file: str) -> None:
    async with pair(_files(file, Middleware(GZipMiddleware))) as client:
        response = await client.get("/", (b"accept-encoding", b"gzip"))
        assert response.header[b"content-encoding"] == b"gzip"
        assert gzip.decompress(response.content) == _CONTENT


@asynctest
async def test_base_http_middleware_passes_files_on(pair: Pair, file: str) -> None:
    async def add(request: StarletteRequest, call_next: object) -> StarletteResponse:
        response: StarletteResponse = await call_next(request)  # type: ignore[operator]
        response.headers["x-seen"] = "1"
        return response

    async with pair(_files(file, Middleware(BaseHTTPMiddleware, dispatch=add))) as client:
        response = await client.get()
        assert response.header[b"x-seen"] == b"1"
        assert bytes(response.content) == _CONTENT


@asynctest
async def test_middleware_may_read_the_body_of_a_file_response(pair: Pair, file: str) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def read(request: Request, call_next: object) -> Response:
        response = await call_next(request)  # type: ignore[operator]
        content = b"".join([part async for part in response.body_iterator])
        return Response(content[::-1], status_code=response.status_code)

    @app.get("/")
    async def download() -> FileResponse:
        return FileResponse(file)

    async with pair(app) as client:
        assert bytes((await client.get()).content) == _CONTENT[::-1]


def without_unknown_messages(app: App) -> App:
    """Passes on what it knows of a response, as brotli-asgi and asgi-gzip do."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def known(message: dict[str, object]) -> None:
            if message["type"] in ("http.response.start", "http.response.body"):
                await send(message)

        await app(scope, receive, known)

    return call


@asynctest
async def test_middleware_may_drop_trailers_that_the_client_does_not_take(pair: Pair) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await start(send, trailers=True)
        await body(send, _CONTENT)
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    async with pair(without_unknown_messages(app)) as client:
        assert bytes((await client.get()).content) == _CONTENT
        exchange = await (await client.open("GET", "/", [(b"te", b"trailers")])).over()
        assert exchange.broken
