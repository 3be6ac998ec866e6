"""FastAPI: parameters by annotation, forms, file and streaming responses, background tasks."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Cookie, FastAPI, Form, Header, Request, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse

FILE = os.environ["E2E_FILE"]
done: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    """Give each request what the startup made."""
    yield {"made": "at startup"}


app = FastAPI(lifespan=lifespan)


@app.get("/items/{id}")
async def item(id: int, q: str, x_agent: Annotated[str, Header()], request: Request) -> Any:
    """A path parameter, the query and a field."""
    return {
        "id": id,
        "q": q,
        "agent": x_agent,
        "version": request.scope["http_version"],
        "state": request.state.made,
    }


@app.post("/form")
async def form(name: Annotated[str, Form()], file: UploadFile) -> Any:
    """A multipart form with a file."""
    data = await file.read()
    return {
        "name": name,
        "filename": file.filename,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@app.get("/download")
async def download() -> FileResponse:
    """A file as an attachment."""
    return FileResponse(FILE, filename="data.bin")


@app.get("/stream")
async def stream() -> StreamingResponse:
    """A response of unknown length."""

    async def parts() -> AsyncIterator[bytes]:
        for index in range(1000):
            yield f"line {index}\n".encode()

    return StreamingResponse(parts(), media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> Any:
    """Content read as it comes."""
    digest = hashlib.sha256()
    async for part in request.stream():
        digest.update(part)
    return {"sha256": digest.hexdigest()}


@app.post("/background", status_code=202)
async def begin(name: str, tasks: BackgroundTasks) -> Any:
    """Begin a task that runs after the response."""
    tasks.add_task(done.append, name)
    return {"begun": True}


@app.get("/background")
def finished() -> Any:
    """Which tasks have run; in a thread, since it is not async."""
    return done


@app.get("/cookie")
async def cookie(
    response: Response, sent: Annotated[str | None, Cookie()] = None
) -> dict[str, str]:
    """Two cookies, and the one that came."""
    response.set_cookie("first", "1", secure=True)
    response.set_cookie("second", "2", httponly=True)
    return {} if sent is None else {"sent": sent}


@app.get("/error")
async def error() -> None:
    """Fail."""
    raise ZeroDivisionError("on purpose")
