"""The Sanic application that does what `app.py` does, for Sanic's own server."""

import asyncio

import content
from sanic import HTTPResponse, Request, Sanic
from sanic.response import raw

app = Sanic("benchmarks")


@app.get("/json")
async def _json(request: Request) -> HTTPResponse:
    return raw(content.JSON, content_type="application/json")


@app.get("/bytes/<size:int>")
async def _download(request: Request, size: int) -> None:
    response = await request.respond(headers={"content-length": str(size)})
    for chunk in content.chunks(size):
        await response.send(chunk)
    await response.eof()


@app.route("/upload", methods=["POST", "PUT"], stream=True)
async def _upload(request: Request) -> HTTPResponse:
    size = 0
    while (body := await request.stream.read()) is not None:
        size += len(body)
    return raw(b"%d" % size, content_type="text/plain")


@app.get("/wait")
async def _wait(request: Request) -> None:
    response = await request.respond()
    await response.send(b"waiting")
    await asyncio.Event().wait()


@app.get("/plaintext")
async def _plaintext(request: Request) -> HTTPResponse:
    return raw(content.PLAINTEXT, content_type="text/plain")
