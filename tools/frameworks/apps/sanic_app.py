"""Sanic: on tercel by its own interface, on Uvicorn by ASGI."""

from typing import Any

import contract
from sanic import Request, Sanic, Websocket, file, json, redirect, text

app = Sanic("frameworks")
app.static("/static", contract.FILE.parent)


@app.before_server_start
async def start(_: Sanic) -> None:
    contract.start()


@app.after_server_stop
async def stop(_: Sanic) -> None:
    contract.stop()


@app.get("/json", name="json")
async def read(request: Request) -> Any:
    version = getattr(request, "version", "1.1")
    return json({"q": request.args.get("q"), "version": version, **contract.state})


@app.post("/json", name="write")
async def write(request: Request) -> Any:
    return json(request.json)


@app.post("/form")
async def form(request: Request) -> Any:
    upload = request.files.get("file")
    size = len(upload.body)
    return json({"name": request.form.get("name"), "filename": upload.name, "size": size})


@app.post("/upload", stream=True)
async def upload(request: Request) -> Any:
    size = 0
    while part := await request.stream.read():
        size += len(part)
    return json({"size": size})


async def respond(request: Request, parts: Any, content_type: str) -> None:
    response = await request.respond(content_type=content_type)
    async for part in parts:
        await response.send(part)


@app.get("/stream")
async def stream(request: Request) -> None:
    await respond(request, contract.lines(), "text/plain")


@app.get("/events")
async def events(request: Request) -> None:
    await respond(request, contract.events(request.args.get("token")), "text/event-stream")


@app.get("/release")
async def release(request: Request) -> Any:
    contract.release(request.args.get("token"))
    return text("")


@app.get("/endless")
async def endless(request: Request) -> None:
    parts = contract.endless(request.args.get("name"))
    try:
        await respond(request, parts, "text/plain")
    finally:
        await parts.aclose()


@app.get("/file")
async def whole_file(request: Request) -> Any:
    return await file(contract.FILE)


@app.get("/work")
async def work(request: Request) -> Any:
    app.add_task(contract.work(request.args.get("name")))
    return text("")


@app.get("/done")
async def done(request: Request) -> Any:
    return json(contract.done)


@app.get("/cookie")
async def cookie(request: Request) -> Any:
    response = json({name: request.cookies.get(name) for name in request.cookies})
    response.add_cookie("first", "1", secure=False)
    response.add_cookie("second", "2", httponly=True, secure=False)
    return response


@app.get("/redirect")
async def elsewhere(request: Request) -> Any:
    return redirect(app.url_for("json", q="redirected"))


@app.get("/error")
async def error(request: Request) -> Any:
    raise ZeroDivisionError("on purpose")


@app.websocket("/ws")
async def echo(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)
