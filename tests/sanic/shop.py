"""A Sanic application of a realistic size: a shop's service with everything such have.

Knows no server: what it does is Sanic's documented interface alone.
"""

import asyncio
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sanic import Blueprint, HTTPResponse, Request, Sanic, Websocket
from sanic.exceptions import NotFound, SanicException
from sanic.response import empty, file, file_stream, html, json, raw, redirect, text

CATALOGUE = Path(__file__).with_name("catalogue.txt")

LISTENERS = (
    "main_process_start",
    "main_process_ready",
    "before_server_start",
    "after_server_start",
    "before_server_stop",
    "after_server_stop",
    "main_process_stop",
)

SIGNALS = (
    "http.lifecycle.begin",
    "http.lifecycle.read_head",
    "http.lifecycle.request",
    "http.lifecycle.handle",
    "http.routing.after",
    "http.lifecycle.read_body",
    "http.lifecycle.response",
    "http.lifecycle.send",
)

items = Blueprint("items", url_prefix="/api/items", version=1)
accounts = Blueprint("accounts", url_prefix="/accounts")
transfers = Blueprint("transfers", url_prefix="/transfers")
chat = Blueprint("chat", url_prefix="/chat")
faults = Blueprint("faults", url_prefix="/faults")


class OutOfStock(SanicException):
    """An error of the application's own, with a handler of its own."""

    status_code = 409


# -- REST ---------------------------------------------------------------------------------------


@items.get("/")
async def list_items(request: Request) -> HTTPResponse:
    wanted = request.args.get("name")
    found = [
        item for item in request.app.ctx.items.values() if wanted is None or item["name"] == wanted
    ]
    return json({"items": found, "count": len(found)})


@items.post("/")
async def create_item(request: Request) -> HTTPResponse:
    number = len(request.app.ctx.items) + 1
    item = {"id": number, **request.json}
    request.app.ctx.items[number] = item
    location = request.app.url_for("items.show_item", number=number)
    return json(item, status=201, headers={"location": location})


@items.get("/<number:int>", name="show_item")
async def show_item(request: Request, number: int) -> HTTPResponse:
    return json(_item(request, number))


@items.put("/<number:int>")
async def replace_item(request: Request, number: int) -> HTTPResponse:
    _item(request, number)
    request.app.ctx.items[number] = {"id": number, **request.json}
    return json(request.app.ctx.items[number])


@items.delete("/<number:int>")
async def delete_item(request: Request, number: int) -> HTTPResponse:
    _item(request, number)
    del request.app.ctx.items[number]
    return empty()


@items.post("/<number:int>/order")
async def order_item(request: Request, number: int) -> HTTPResponse:
    raise OutOfStock(f"item {number} is out of stock")


def _item(request: Request, number: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = request.app.ctx.items[number]
    except KeyError:
        raise NotFound(f"no item {number}") from None
    return found


# -- accounts: forms and cookies ----------------------------------------------------------------


@accounts.post("/login")
async def login(request: Request) -> HTTPResponse:
    response = redirect("/accounts/me")
    response.add_cookie("user", request.form.get("user"), httponly=True, secure=False)
    response.add_cookie("theme", "dark", secure=False)
    return response


@accounts.get("/me")
async def me(request: Request) -> HTTPResponse:
    return json({name: request.cookies.get(name) for name in sorted(request.cookies)})


@accounts.post("/logout")
async def logout(request: Request) -> HTTPResponse:
    response = text("bye")
    response.delete_cookie("user")
    return response


@accounts.post("/picture")
async def picture(request: Request) -> HTTPResponse:
    uploaded = request.files.get("picture")
    return json(
        {
            "title": request.form.get("title"),
            "name": uploaded.name,
            "type": uploaded.type,
            "sha256": hashlib.sha256(uploaded.body).hexdigest(),
        }
    )


# -- bodies of all sizes, both ways -------------------------------------------------------------


@transfers.post("/echo")
async def echo(request: Request) -> HTTPResponse:
    return raw(request.body)


@transfers.post("/upload", stream=True)
async def upload(request: Request) -> HTTPResponse:
    digest, size = hashlib.sha256(), 0
    async for part in request.stream:
        digest.update(part)
        size += len(part)
    return json({"size": size, "sha256": digest.hexdigest()})


@transfers.post("/upload/read", stream=True)
async def upload_by_read(request: Request) -> HTTPResponse:
    size = 0
    while (part := await request.stream.read()) is not None:
        size += len(part)
    return text(str(size))


@transfers.post("/upload/ignored", stream=True)
async def upload_ignored(request: Request) -> HTTPResponse:
    return text("not interested")


@transfers.post("/duplex", stream=True)
async def duplex(request: Request) -> None:
    response = await request.respond(content_type="application/octet-stream")
    async for part in request.stream:
        await response.send(part.upper())
    await response.eof()


@transfers.get("/download/<size:int>")
async def download(request: Request, size: int) -> None:
    response = await request.respond(content_type="application/octet-stream")
    part = bytes(range(256)) * 64
    while size:
        now = part[:size]
        await response.send(now)
        size -= len(now)


@transfers.get("/download/promised/<size:int>")
async def download_promised(request: Request, size: int) -> None:
    response = await request.respond(headers={"content-length": str(size)})
    for _ in range(size):
        await response.send(b"x")
    await response.eof()


@transfers.get("/ticks")
async def ticks(request: Request) -> None:
    request.app.ctx.tick.clear()
    response = await request.respond(content_type="text/event-stream")
    for number in range(3):
        await response.send(f"data: {number}\n\n")
        await request.app.ctx.tick.wait()


@transfers.post("/ticks/go")
async def ticks_go(request: Request) -> HTTPResponse:
    request.app.ctx.tick.set()
    return empty()


@transfers.get("/catalogue")
async def catalogue(request: Request) -> HTTPResponse:
    return await file(CATALOGUE, filename="shop.txt")


@transfers.get("/catalogue/stream")
async def catalogue_stream(request: Request) -> Any:
    return await file_stream(CATALOGUE, chunk_size=100)


# -- what goes wrong ----------------------------------------------------------------------------


@faults.get("/boom")
async def boom(request: Request) -> HTTPResponse:
    raise RuntimeError("boom")


@faults.get("/nothing")
async def nothing(request: Request) -> None:
    return None


@faults.get("/teapot")
async def teapot(request: Request) -> HTTPResponse:
    raise SanicException("short and stout", status_code=418, headers={"x-spout": "yes"})


@faults.get("/twice")
async def twice(request: Request) -> HTTPResponse:
    first = await request.respond(text("first"))
    await first.send(end_stream=True)
    try:
        await request.respond(text("second"))
    except SanicException as error:
        request.app.ctx.notes.append(str(error))
    raise RuntimeError("after the response")


@faults.get("/late")
async def late(request: Request) -> None:
    response = await request.respond()
    await response.send(b"begun")
    raise RuntimeError("in the middle")


@faults.get("/slow")
async def slow(request: Request) -> HTTPResponse:
    await asyncio.Event().wait()
    return text("never")


@faults.get("/hang")
async def hang(request: Request) -> None:
    response = await request.respond()
    await response.send(b"here")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        request.app.ctx.notes.append("hang was cancelled")
        request.app.ctx.noted.set()
        raise


@faults.get("/notes")
async def notes(request: Request) -> HTTPResponse:
    with suppress(TimeoutError):
        async with asyncio.timeout(50):
            await request.app.ctx.noted.wait()
    return json(request.app.ctx.notes)


# -- chat -----------------------------------------------------------------------------------------


@chat.websocket("/rooms/<room:str>")
async def room(request: Request, ws: Websocket, room: str) -> None:
    members = request.app.ctx.rooms.setdefault(room, set())
    members.add(ws)
    try:
        await ws.send(f"welcome to {room}, you are number {len(members)}")
        async for message in ws:
            for member in list(members):
                await member.send(message)
    finally:
        members.discard(ws)


@chat.websocket("/echo", subprotocols=["shouting", "plain"])
async def echo_chat(request: Request, ws: Websocket) -> None:
    await ws.send(f"{ws.subprotocol} {request.scheme} {request.method} {request.path}")
    while True:
        message = await ws.recv()
        await ws.send(message.upper() if ws.subprotocol == "shouting" else message)


@chat.websocket("/parrot")
async def parrot(request: Request, ws: Websocket) -> None:
    async for message in ws:
        await ws.send(message)


@chat.websocket("/goodbye")
async def goodbye(request: Request, ws: Websocket) -> None:
    await ws.send(b"\x00\x01")
    await ws.close(4001, "enough")


@chat.get("/rooms")
async def rooms(request: Request) -> HTTPResponse:
    return json({name: len(members) for name, members in request.app.ctx.rooms.items()})


# -- the whole ------------------------------------------------------------------------------------


def make(name: str = "shop", *, events: Path | None = None) -> Sanic[Any, Any]:
    """The application. What it starts and stops is said in `events`, a pipe with a name."""
    app: Sanic[Any, Any] = Sanic(name)
    app.config.RESPONSE_TIMEOUT = 6
    app.config.REQUEST_MAX_SIZE = 2_000_000
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 30
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.ctx.items = {}
    app.ctx.rooms = {}
    app.ctx.notes = []
    app.ctx.counted = {}
    app.blueprint(Blueprint.group(items, accounts, transfers, chat, faults))
    app.static("/files", CATALOGUE, name="files", use_content_range=True)
    _add_pages(app)
    _add_middleware(app)
    _add_errors(app)
    _add_listeners(app, events)
    _add_signals(app)
    return app


def _add_pages(app: Sanic[Any, Any]) -> None:
    @app.get("/")
    async def index(request: Request) -> HTTPResponse:
        return html("<h1>shop</h1>")

    @app.get("/about", name="about")
    @app.head("/about", name="about_head")
    async def about(request: Request) -> HTTPResponse:
        facts, info = request, request.conn_info
        return json(
            {
                "method": facts.method,
                "path": facts.path,
                "query": facts.query_string,
                "host": facts.host,
                "scheme": facts.scheme,
                "ip": facts.ip,
                "port": facts.port > 0,
                "server": info.server == f"127.0.0.1:{info.server_port}",
                "ssl": info.ssl,
                "server_name": info.server_name,
                "peer": info.peername[0],
                "url": facts.url == f"https://{facts.host}{facts.path}?{facts.query_string}",
                "header": facts.headers.getall("x-twice", []),
                "forwarded": facts.remote_addr,
                "id": str(facts.id),
                "name": facts.name,
            }
        )

    @app.get("/visits")
    async def visits(request: Request) -> HTTPResponse:
        ctx = request.conn_info.ctx
        ctx.visits = getattr(ctx, "visits", 0) + 1
        return text(str(ctx.visits))

    @app.get("/version")
    async def version(request: Request) -> HTTPResponse:
        return text(f"{request.version} {int(request.protocol.version)}")

    @app.get("/process")
    async def process(request: Request) -> HTTPResponse:
        return text(str(os.getpid()))

    @app.get("/counted")
    async def counted(request: Request) -> HTTPResponse:
        return json({**app.ctx.counted, "background": app.ctx.background})

    @app.post("/stop")
    async def stop(request: Request) -> HTTPResponse:
        asyncio.get_running_loop().call_later(0.05, app.stop)
        return text("stopping")


def _add_middleware(app: Sanic[Any, Any]) -> None:
    @app.on_request
    async def admit(request: Request) -> HTTPResponse | None:
        request.ctx.admitted = True
        if request.headers.getone("x-blocked", None):
            return text("blocked", status=403)
        return None

    @app.on_response
    async def sign(request: Request, response: HTTPResponse) -> None:
        response.headers["x-shop"] = "yes" if request.ctx.admitted else "no"


def _add_errors(app: Sanic[Any, Any]) -> None:
    @app.exception(OutOfStock)
    async def out_of_stock(request: Request, error: OutOfStock) -> HTTPResponse:
        return json({"sorry": str(error)}, status=error.status_code)

    @app.exception(RuntimeError)
    def broken(request: Request, error: RuntimeError) -> HTTPResponse:
        return text(f"broken: {error}", status=500)


def _add_listeners(app: Sanic[Any, Any], events: Path | None) -> None:
    def note(what: str) -> None:
        if events is not None:
            with events.open("a") as target:
                print(what, os.getpid(), file=target)

    for name in LISTENERS:

        async def listener(app: Sanic[Any, Any], name: str = name) -> None:
            note(name)

        app.register_listener(listener, name)

    async def background(app: Sanic[Any, Any]) -> None:
        app.ctx.background = "running"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("background")
            raise

    @app.before_server_start
    async def prepare(app: Sanic[Any, Any]) -> None:
        app.ctx.tick, app.ctx.noted = asyncio.Event(), asyncio.Event()
        app.add_task(background, name="background")


def _add_signals(app: Sanic[Any, Any]) -> None:
    for name in SIGNALS:

        async def handler(name: str = name, **context: Any) -> None:
            app.ctx.counted[name] = app.ctx.counted.get(name, 0) + 1

        app.signal(name)(handler)
