"""An ASGI application that uses the extensions it is offered, and does without where it is not.

Each path answers with CONTENT, or with the size of what it was sent.
"""

from typing import Any

import contract
from contract import CONTENT
from starlette.responses import FileResponse

HINT = b"</style.css>; rel=preload; as=style"
TRAILER = (b"x-trailer", b"1")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the path says."""
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    offered = scope["extensions"] if scope.get("extensions") else {}
    match scope["path"].rpartition("/")[2]:
        case "content":
            await start(send, len(CONTENT))
            await send({"type": "http.response.body", "body": CONTENT})
        case "stream":
            await start(send)
            for index in range(0, len(CONTENT), 1000):
                part = CONTENT[index : index + 1000]
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        case "upload":
            await upload(receive, send)
        case "file":
            await FileResponse(contract.TEXT, media_type="text/plain")(scope, receive, send)
        case "pathsend" if "http.response.pathsend" in offered:
            await start(send, len(CONTENT))
            await send({"type": "http.response.pathsend", "path": str(contract.TEXT)})
        case "zerocopysend" if "http.response.zerocopysend" in offered:
            await start(send, len(CONTENT))
            with contract.TEXT.open("rb") as file:
                await send({"type": "http.response.zerocopysend", "file": file.fileno()})
        case "trailers" if "http.response.trailers" in offered:
            await start(send, trailers=True)
            await send({"type": "http.response.body", "body": CONTENT})
            await send({"type": "http.response.trailers", "headers": [TRAILER]})
        case "early_hint" if "http.response.early_hint" in offered:
            await send({"type": "http.response.early_hint", "links": [HINT]})
            await start(send, len(CONTENT))
            await send({"type": "http.response.body", "body": CONTENT})
        case _:
            # Not offered: the content, as ever.
            await start(send, len(CONTENT))
            await send({"type": "http.response.body", "body": CONTENT})


async def start(send: Any, size: int | None = None, *, trailers: bool = False) -> None:
    """The head of a text."""
    headers = [(b"content-type", b"text/plain")]
    if size is not None:
        headers.append((b"content-length", b"%d" % size))
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(message | ({"trailers": True} if trailers else {}))


async def upload(receive: Any, send: Any) -> None:
    """Answer with the size of the content."""
    size = 0
    while True:
        message = await receive()
        size += len(message["body"])
        if not message["more_body"]:
            break
    text = str(size).encode()
    await start(send, len(text))
    await send({"type": "http.response.body", "body": text})


async def echo(receive: Any, send: Any) -> None:
    """Send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
