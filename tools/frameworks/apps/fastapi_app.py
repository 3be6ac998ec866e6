"""FastAPI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import contract
from fastapi import (
    BackgroundTasks,
    Cookie,
    FastAPI,
    Form,
    Request,
    Response,
    UploadFile,
    WebSocket,
)
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    contract.start()
    yield
    contract.stop()


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key="only for tests")


@app.get("/json", name="json")
async def read(q: str, request: Request) -> dict[str, str]:
    return {"q": q, "version": request.scope["http_version"], **contract.state}


@app.post("/json")
async def write(content: dict[str, Any]) -> dict[str, Any]:
    return content


@app.post("/form")
async def form(name: Annotated[str, Form()], file: UploadFile) -> dict[str, Any]:
    return {"name": name, "filename": file.filename, "size": len(await file.read())}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"size": sum([len(part) async for part in request.stream()])}


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(contract.lines(), media_type="text/plain")


@app.get("/events")
async def events(token: str) -> StreamingResponse:
    return StreamingResponse(contract.events(token), media_type="text/event-stream")


@app.get("/release")
async def release(token: str) -> None:
    contract.release(token)


@app.get("/endless")
async def endless(name: str) -> StreamingResponse:
    return StreamingResponse(contract.endless(name))


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(contract.FILE)


@app.get("/work")
async def work(name: str, tasks: BackgroundTasks) -> None:
    tasks.add_task(contract.work, name)


@app.get("/done")
async def done() -> list[str]:
    return contract.done


@app.get("/cookie")
async def cookie(response: Response, sent: Annotated[str, Cookie()] = "") -> dict[str, Any]:
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", httponly=True)
    return {"sent": sent}


@app.get("/session")
async def session(request: Request) -> dict[str, int]:
    request.session["count"] = request.session.get("count", 0) + 1
    return {"count": request.session["count"]}


@app.get("/redirect")
async def redirect(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("json").include_query_params(q="redirected"))


@app.get("/error")
async def error() -> None:
    raise ZeroDivisionError("on purpose")


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app.mount("/sub", contract.where)
app.mount("/static", StaticFiles(directory=contract.FILE.parent))
