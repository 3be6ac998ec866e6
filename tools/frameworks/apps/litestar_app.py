"""Litestar."""

from typing import Annotated, Any

import contract
from litestar import Litestar, Request, Response, WebSocket, asgi, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie, UploadFile
from litestar.enums import RequestEncodingType
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import Body
from litestar.response import File, Redirect, Stream
from litestar.static_files import create_static_files_router


@get("/json", name="json")
async def read(q: str, request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"q": q, "version": request.scope["http_version"], **contract.state}


@post("/json")
async def write(data: dict[str, Any]) -> dict[str, Any]:
    return data


@post("/form")
async def form(
    data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    upload: UploadFile = data["file"]
    size = len(await upload.read())
    return {"name": data["name"], "filename": upload.filename, "size": size}


@post("/upload")
async def upload(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"size": sum([len(part) async for part in request.stream()])}


@get("/stream")
async def stream() -> Stream:
    return Stream(contract.lines(), media_type="text/plain")


@get("/events")
async def events(token: str) -> Stream:
    return Stream(contract.events(token), media_type="text/event-stream")


@get("/release")
async def release(token: str) -> None:
    contract.release(token)


@get("/endless")
async def endless(name: str) -> Stream:
    return Stream(contract.endless(name))


@get("/file")
async def file() -> File:
    return File(contract.FILE)


@get("/work")
async def work(name: str) -> Response[None]:
    return Response(None, background=BackgroundTask(contract.work, name))


@get("/done")
async def done() -> list[str]:
    return contract.done


@get("/cookie")
async def cookie(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    cookies = [Cookie("first", value="1"), Cookie("second", value="2", httponly=True)]
    return Response(dict(request.cookies), cookies=cookies)


@get("/session")
async def session(request: Request[Any, Any, Any]) -> dict[str, int]:
    count = request.session.get("count", 0) + 1
    request.set_session({"count": count})
    return {"count": count}


@get("/redirect")
async def redirect(request: Request[Any, Any, Any]) -> Redirect:
    return Redirect(f"{request.scope['root_path']}/json?q=redirected")


@get("/error")
async def error() -> None:
    raise ZeroDivisionError("on purpose")


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    async for text in socket.iter_data():
        await socket.send_text(text)


@asgi("/sub", is_mount=True, copy_scope=True)
async def sub(scope: Any, receive: Any, send: Any) -> None:
    await contract.where(scope, receive, send)


app = Litestar(
    [
        *(read, write, form, upload, stream, events, release, endless, file, work, done),
        *(cookie, session, redirect, error, echo, sub),
        create_static_files_router("/static", [contract.FILE.parent]),
    ],
    on_startup=[contract.start],
    on_shutdown=[contract.stop],
    middleware=[CookieBackendConfig(secret=b"only for tests: 32 bytes of key.").middleware],
)
