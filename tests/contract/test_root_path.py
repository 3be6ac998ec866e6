"""Applications below a path of their proxy's: one that strips it, and one that leaves it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tests.contract.apps import Receive, Scope, Send, respond
from tests.contract.cleartext import cleartext
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest

STRIPPED = {"root_path": "/api"}
LEFT = {"root_path": "/api", "root_path_in_target": True}


async def paths(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the scope says of paths."""
    said = [scope[name] for name in ("root_path", "path")] + [scope["raw_path"].decode()]
    await respond(send, json.dumps(said).encode())


# -- on both versions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/x%20y", ["/api", "/api/x y", "/api/x%20y"]),
        # Not looked into: it may be the application's, below its mount point.
        ("/api/x", ["/api", "/api/api/x", "/api/api/x"]),
    ],
)
@asynctest
async def test_a_root_path_is_put_before_every_path(
    pair: Pair, target: str, expected: list[str]
) -> None:
    async with pair(paths, **STRIPPED) as client:
        assert json.loads((await client.get(target)).content) == expected


@pytest.mark.parametrize(
    ("target", "path"),
    [("/api", "/api"), ("/api/", "/api/"), ("/api/x", "/api/x"), ("/%61pi/x", "/api/x")],
)
@asynctest
async def test_a_root_path_in_the_target_is_left_there(pair: Pair, target: str, path: str) -> None:
    async with pair(paths, **LEFT) as client:
        assert json.loads((await client.get(target)).content) == ["/api", path, target]


@pytest.mark.parametrize("target", ["/", "/x", "/apix", "/x/api/x", "//api/x", "/API/x"])
@asynctest
async def test_what_is_not_below_a_root_path_in_the_target_is_404(pair: Pair, target: str) -> None:
    async with pair(paths, **LEFT) as client:
        assert (await client.get(target)).status == 404


# -- behind a proxy -------------------------------------------------------------------------------


@asynccontextmanager
async def proxied(upstream: Any, *, strip: bool) -> AsyncIterator[Any]:
    """A proxy of `/api/` that refuses `/api/admin`: `await get(path)` asks it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, rest = head.split(b" ", 2)
        if not target.startswith(b"/api/") or target.startswith(b"/api/admin"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        else:
            target = target.removeprefix(b"/api") if strip else target
            answer, request = await upstream.ask(b" ".join([method, target, rest]))
            writer.write(await answer.read())
            request.close()
        writer.close()

    async def get(path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(*proxy.sockets[0].getsockname())
        head = f"GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield get


def starlette() -> Starlette:
    async def where(request: StarletteRequest) -> JSONResponse:
        return JSONResponse([str(request.url), str(request.url_for("where"))])

    async def admin(request: StarletteRequest) -> JSONResponse:
        return JSONResponse("the administrator's")

    inner = Starlette(routes=[Route("/x", where, name="where")])
    return Starlette(
        routes=[Route("/x", where, name="where"), Route("/admin", admin), Mount("/sub", inner)]
    )


def fastapi() -> FastAPI:
    inner = FastAPI()
    app = FastAPI()

    @app.get("/x", name="where")
    @inner.get("/x", name="where")
    async def where(request: Request) -> list[str]:
        return [str(request.url), str(request.url_for("where"))]

    @app.get("/admin")
    async def admin() -> str:
        return "the administrator's"

    app.mount("/sub", inner)
    return app


def unaware() -> Starlette:
    """Mounted by the application itself, with no option of the server's."""
    return Starlette(routes=[Mount("/api", starlette())])


@pytest.mark.parametrize(
    ("make", "settings", "strip"),
    [
        (starlette, STRIPPED, True),
        (starlette, LEFT, False),
        (fastapi, STRIPPED, True),
        (fastapi, LEFT, False),
        (unaware, {}, False),
    ],
    ids=["starlette-strip", "starlette-leave", "fastapi-strip", "fastapi-leave", "mount-leave"],
)
@asynctest
async def test_mounted_applications_route_and_know_their_urls_behind_a_proxy(
    make: Any, settings: dict[str, Any], strip: bool, tmp_path: Path
) -> None:
    async with (
        cleartext(make(), "tcp", tmp_path, **settings) as upstream,
        proxied(upstream, strip=strip) as get,
    ):
        here = "http://example.org"
        for path in ("/api/x", "/api/sub/x"):
            status, content = await get(path)
            # In a mounted application `url_for` names routes of the outermost one.
            assert (status, json.loads(content)) == (200, [here + path, here + "/api/x"])
        assert (await get("/api/missing"))[0] == 404


@pytest.mark.parametrize(("settings", "strip"), [(STRIPPED, True), (LEFT, False)])
@asynctest
async def test_no_path_gets_round_a_rule_of_the_proxy(
    settings: dict[str, Any], strip: bool, tmp_path: Path
) -> None:
    async with (
        cleartext(starlette(), "tcp", tmp_path, **settings) as upstream,
        proxied(upstream, strip=strip) as get,
    ):
        assert (await get("/api/admin"))[0] == 403
        assert (await get("/api/api/admin"))[0] == 404


@asynctest
async def test_openapi_names_the_mount_point_as_the_server(tmp_path: Path) -> None:
    async with (
        cleartext(fastapi(), "tcp", tmp_path, **STRIPPED) as upstream,
        proxied(upstream, strip=True) as get,
    ):
        _, content = await get("/api/openapi.json")
        assert json.loads(content)["servers"] == [{"url": "/api"}]
