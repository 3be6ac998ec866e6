"""Starlette."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import contract
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    contract.start()
    yield
    contract.stop()


async def json(request: Request) -> Response:
    if request.method == "POST":
        return JSONResponse(await request.json())
    return JSONResponse(
        {"q": request.query_params["q"], "version": request.scope["http_version"], **contract.state}
    )


async def form(request: Request) -> Response:
    async with request.form() as fields:
        upload = fields["file"]
        assert isinstance(upload, UploadFile)
        size = len(await upload.read())
        return JSONResponse({"name": fields["name"], "filename": upload.filename, "size": size})


async def upload(request: Request) -> Response:
    return JSONResponse({"size": sum([len(part) async for part in request.stream()])})


async def stream(request: Request) -> Response:
    return StreamingResponse(contract.lines(), media_type="text/plain")


async def events(request: Request) -> Response:
    parts = contract.events(request.query_params["token"])
    return StreamingResponse(parts, media_type="text/event-stream")


async def release(request: Request) -> Response:
    contract.release(request.query_params["token"])
    return Response()


async def endless(request: Request) -> Response:
    return StreamingResponse(contract.endless(request.query_params["name"]))


async def file(request: Request) -> Response:
    return FileResponse(contract.FILE)


async def work(request: Request) -> Response:
    task = BackgroundTask(contract.work, request.query_params["name"])
    return Response(background=task)


async def done(request: Request) -> Response:
    return JSONResponse(contract.done)


async def cookie(request: Request) -> Response:
    response = JSONResponse(request.cookies)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", httponly=True)
    return response


async def session(request: Request) -> Response:
    request.session["count"] = request.session.get("count", 0) + 1
    return JSONResponse({"count": request.session["count"]})


async def redirect(request: Request) -> Response:
    return RedirectResponse(request.url_for("json").include_query_params(q="redirected"))


async def error(request: Request) -> Response:
    raise ZeroDivisionError("on purpose")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(SessionMiddleware, secret_key="only for tests")],
    routes=[
        Route("/json", json, methods=["GET", "POST"], name="json"),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/events", events),
        Route("/release", release),
        Route("/endless", endless),
        Route("/file", file),
        Route("/work", work),
        Route("/done", done),
        Route("/cookie", cookie),
        Route("/session", session),
        Route("/redirect", redirect),
        Route("/error", error),
        WebSocketRoute("/ws", echo),
        Mount("/sub", contract.where),
        Mount("/static", StaticFiles(directory=contract.FILE.parent)),
    ],
)
