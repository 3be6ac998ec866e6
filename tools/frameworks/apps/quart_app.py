"""Quart."""

from typing import Any

import contract
from quart import (
    Quart,
    Response,
    jsonify,
    make_response,
    redirect,
    request,
    send_file,
    session,
    url_for,
    websocket,
)

app = Quart(__name__, static_folder=str(contract.FILE.parent), static_url_path="/static")
app.secret_key = "only for tests"


@app.before_serving
async def start() -> None:
    contract.start()


@app.after_serving
async def stop() -> None:
    contract.stop()


@app.get("/json")
async def json() -> Any:
    version = request.scope["http_version"]
    return {"q": request.args["q"], "version": version, **contract.state}


@app.post("/json")
async def write() -> Any:
    return await request.get_json()


@app.post("/form")
async def form() -> Any:
    file = (await request.files)["file"]
    name = (await request.form)["name"]
    return {"name": name, "filename": file.filename, "size": len(file.read())}


@app.post("/upload")
async def upload() -> Any:
    return {"size": sum([len(part) async for part in request.body])}


@app.get("/stream")
async def stream() -> Any:
    return Response(contract.lines(), mimetype="text/plain")


@app.get("/events")
async def events() -> Any:
    response = Response(contract.events(request.args["token"]), mimetype="text/event-stream")
    response.timeout = None
    return response


@app.get("/release")
async def release() -> Any:
    contract.release(request.args["token"])
    return ""


@app.get("/endless")
async def endless() -> Any:
    return Response(contract.endless(request.args["name"]))


@app.get("/file")
async def file() -> Any:
    return await send_file(contract.FILE)


@app.get("/work")
async def work() -> Any:
    app.add_background_task(contract.work, request.args["name"])
    return ""


@app.get("/done")
async def done() -> Any:
    return jsonify(contract.done)


@app.get("/cookie")
async def cookie() -> Any:
    response = await make_response(dict(request.cookies))
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", httponly=True)
    return response


@app.get("/session")
async def count() -> Any:
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"]}


@app.get("/redirect")
async def elsewhere() -> Any:
    return redirect(url_for("json", q="redirected"))


@app.get("/error")
async def error() -> Any:
    raise ZeroDivisionError("on purpose")


@app.websocket("/ws")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())
