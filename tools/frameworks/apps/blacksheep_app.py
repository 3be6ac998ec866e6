"""BlackSheep."""

import asyncio
import contextlib
from typing import Any

import contract
from blacksheep import (
    Application,
    Cookie,
    Request,
    Response,
    StreamedContent,
    WebSocket,
    WebSocketDisconnectError,
    file,
    json,
    redirect,
    text,
)

app = Application()
app.use_sessions("only for tests")
app.serve_files(contract.FILE.parent, root_path="/static", extensions={".bin"})
app.mount_registry.auto_events = False
tasks: set[asyncio.Task[None]] = set()


@app.on_start
async def start(_: Application) -> None:
    contract.start()


@app.on_stop
async def stop(_: Application) -> None:
    contract.stop()


def streamed(content_type: bytes, parts: Any) -> Response:
    async def encoded() -> Any:
        async with contextlib.aclosing(parts):
            async for part in parts:
                yield part.encode()

    return Response(200, content=StreamedContent(content_type, encoded))


@app.router.get("/json")
async def read(request: Request, q: str) -> Response:
    return json({"q": q, "version": request.scope["http_version"], **contract.state})


@app.router.post("/json")
async def write(request: Request) -> Response:
    return json(await request.json())


@app.router.post("/form")
async def form(request: Request) -> Response:
    fields = await request.form()
    part = (await request.files("file"))[0]
    data = part.data if isinstance(part.data, bytes) else part.file.read()
    return json({"name": fields["name"], "filename": part.file_name.decode(), "size": len(data)})


@app.router.post("/upload")
async def upload(request: Request) -> Response:
    return json({"size": sum([len(part) async for part in request.stream()])})


@app.router.get("/stream")
async def stream() -> Response:
    return streamed(b"text/plain", contract.lines())


@app.router.get("/events")
async def events(token: str) -> Response:
    return streamed(b"text/event-stream", contract.events(token))


@app.router.get("/release")
async def release(token: str) -> Response:
    contract.release(token)
    return text("")


@app.router.get("/endless")
async def endless(name: str) -> Response:
    return streamed(b"text/plain", contract.endless(name))


@app.router.get("/file")
async def whole_file() -> Response:
    return file(str(contract.FILE), "application/octet-stream")


@app.router.get("/work")
async def work(name: str) -> Response:
    task = asyncio.create_task(contract.work(name))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return text("")


@app.router.get("/done")
async def done() -> Response:
    return json(contract.done)


@app.router.get("/cookie")
async def cookie(request: Request) -> Response:
    response = json(request.cookies)
    response.set_cookie(Cookie("first", "1"))
    response.set_cookie(Cookie("second", "2", http_only=True))
    return response


@app.router.get("/session")
async def session(request: Request) -> Response:
    request.session["count"] = request.session.get("count", 0) + 1
    return json({"count": request.session["count"]})


@app.router.get("/redirect")
async def elsewhere(request: Request) -> Response:
    return redirect(f"{request.scope['root_path']}/json?q=redirected")


@app.router.get("/error")
async def error() -> Response:
    raise ZeroDivisionError("on purpose")


@app.router.ws("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnectError:
        pass


app.mount("/sub", contract.where)
