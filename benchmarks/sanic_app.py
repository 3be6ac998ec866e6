"""The Sanic application that does what `app.py` does, for Sanic's own server.

Bodies are whole in both directions: that is what works on all of its HTTP versions.
"""

import asyncio
from urllib.parse import unquote

import content
from sanic import HTTPResponse, Request, Sanic
from sanic.response import raw

app = Sanic("benchmarks")
app.config.REQUEST_MAX_SIZE = 1 << 30
app.config.KEEP_ALIVE_TIMEOUT = 300


@app.get("/json")
async def _json(request: Request) -> HTTPResponse:
    return raw(content.JSON, content_type="application/json")


@app.get("/bytes/<size:int>")
async def _download(request: Request, size: int) -> HTTPResponse:
    return raw(b"".join(content.chunks(size)))


@app.route("/upload", methods=["POST", "PUT"])
async def _upload(request: Request) -> HTTPResponse:
    return raw(b"%d" % len(request.body), content_type="text/plain")


@app.get("/wait")
async def _wait(request: Request) -> None:
    response = await request.respond()
    await response.send(b"waiting")
    await asyncio.Event().wait()


@app.get("/plaintext")
async def _plaintext(request: Request) -> HTTPResponse:
    return raw(content.PLAINTEXT, content_type="text/plain")


# Fields that Sanic writes itself.
_SANIC_WRITES = (b"content-type", b"content-length")


@app.route("/<rest:path>", methods=["GET", "POST"])
async def _anything(request: Request, rest: str) -> HTTPResponse:
    received = len(request.body) if request.method == "POST" else None
    path = request.path
    if path.startswith(content.CALLS):
        fields, body = content.call(path, received or 0)
    else:
        if "%" in path:
            path = unquote(path)
        fields, body = content.page(path, request.query_string.encode(), received)
    headers = {n.decode(): v.decode() for n, v in fields if n not in _SANIC_WRITES}
    return raw(body, headers=headers, content_type=fields[0][1].decode())
