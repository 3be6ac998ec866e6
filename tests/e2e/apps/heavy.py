"""Heavy pages: what a browser has to do much of, and a script that has it done.

Each response names the client's port, so that a page can tell how many connections it came over.
"""

import base64
from pathlib import Path
from urllib.parse import parse_qs

from tercel.shared.apps.asgi_types import Receive, Scope, Send
from tercel.shared.apps.demo import app as demo
from tercel.shared.apps.demo.http import respond, respond_json

SCRIPT = Path(__file__).with_suffix(".js").read_bytes()
SHELL = b'<!doctype html><link rel="icon" href="data:,"><script src="/heavy.js"></script>'
# One transparent pixel.
IMAGE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
NO_STORE = [(b"cache-control", b"no-store")]

waiting = 0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The heavy pages; everything else is the demo application's."""
    if scope["type"] != "http":
        await demo(scope, receive, send)
        return
    match scope["path"].split("/")[1:]:
        case [""]:
            await respond(send, SHELL, content_type=b"text/html", fields=NO_STORE)
        case ["heavy.js"]:
            await respond(send, SCRIPT, content_type=b"text/javascript", fields=NO_STORE)
        case ["gallery"]:
            query = {name: values[0] for name, values in parse_qs(scope["query_string"]).items()}
            page = _gallery(int(query[b"images"]), query.get(b"loading", b"eager"))
            await respond(send, page, content_type=b"text/html", fields=NO_STORE)
        case ["image", _]:
            await respond(send, IMAGE, content_type=b"image/gif", fields=NO_STORE)
        case ["small", _]:
            here = {"port": scope["client"][1], "version": scope["http_version"]}
            await respond_json(send, here)
        case ["endless", _]:
            await _wait_for_the_end(receive)
        case ["waiting"]:
            await respond_json(send, waiting)
        case _:
            await demo(scope, receive, send)


def _gallery(images: int, loading: bytes) -> bytes:
    image = b'<img src="/image/%d" loading="%b" width="40" height="40" style="display: block">'
    return SHELL + b"".join(image % (number, loading) for number in range(images))


async def _wait_for_the_end(receive: Receive) -> None:
    """Answer nothing until the client gives up."""
    global waiting
    waiting += 1
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        waiting -= 1
