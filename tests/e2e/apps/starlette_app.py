"""Starlette: its router, forms, file and streaming responses, background tasks, lifespan."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

FILE = os.environ["E2E_FILE"]
done: list[str] = []


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    """Give each request what the startup made."""
    yield {"made": "at startup"}


async def item(request: Request) -> Response:
    """A path parameter, the query and a field."""
    return JSONResponse(
        {
            "id": request.path_params["id"],
            "q": request.query_params["q"],
            "agent": request.headers["x-agent"],
            "version": request.scope["http_version"],
            "state": request.state.made,
        }
    )


async def form(request: Request) -> Response:
    """A multipart form with a file."""
    async with request.form() as fields:
        upload = fields["file"]
        assert isinstance(upload, UploadFile)
        data = await upload.read()
        return JSONResponse(
            {
                "name": fields["name"],
                "filename": upload.filename,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )


async def download(request: Request) -> Response:
    """A file as an attachment."""
    return FileResponse(FILE, filename="data.bin")


async def stream(request: Request) -> Response:
    """A response of unknown length."""

    async def parts() -> AsyncIterator[bytes]:
        for index in range(1000):
            yield f"line {index}\n".encode()

    return StreamingResponse(parts(), media_type="text/plain")


async def upload(request: Request) -> Response:
    """Content read as it comes."""
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return JSONResponse({"sha256": digest.hexdigest()})


async def background(request: Request) -> Response:
    """POST begins a task that runs after the response, GET tells which have run."""
    if request.method == "GET":
        return JSONResponse(done)
    task = BackgroundTask(done.append, request.query_params["name"])
    return JSONResponse({"begun": True}, status_code=202, background=task)


async def cookie(request: Request) -> Response:
    """Two cookies, and those that came."""
    response = JSONResponse(request.cookies)
    response.set_cookie("first", "1", secure=True)
    response.set_cookie("second", "2", httponly=True)
    return response


async def error(request: Request) -> Response:
    """Fail."""
    raise ZeroDivisionError("on purpose")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/items/{id:int}", item),
        Route("/form", form, methods=["POST"]),
        Route("/download", download),
        Route("/stream", stream),
        Route("/upload", upload, methods=["POST"]),
        Route("/background", background, methods=["GET", "POST"]),
        Route("/cookie", cookie),
        Route("/error", error),
    ],
)
