"""The application of the soak: every kind of exchange, and a look into the process."""

import asyncio
import gc
import json
import os
from collections import Counter

WATCHED = (
    *("H1RequestStream", "H3RequestStream", "HttpProtocol", "Http3Protocol"),
    *("QuicServerConnection", "QuicStream", "WebsocketImplProtocol"),
)


async def app(scope, receive, send):
    """ASGI: the path says what to do."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    match scope["path"]:
        case "/echo":
            await answer(send, await content(receive))
        case "/stream":
            await head(send)
            for _ in range(20):
                await body(send, b"x" * 8192, more=True)
                await asyncio.sleep(0.001)
            await body(send, b"")
        case "/slow":
            await content(receive)
            await asyncio.sleep(0.2)
            await answer(send, b"slow")
        case "/fail":
            raise RuntimeError("as it is to")
        case "/unread":
            await answer(send, b"not read")
        case "/state":
            await answer(send, json.dumps(state()).encode())
        case _:
            await answer(send, b"hello")


async def content(receive):
    """All content of the request."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def head(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def body(send, data, *, more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def answer(send, data):
    await head(send)
    await body(send, data)


def state():
    """What this process holds at this moment."""
    gc.collect()
    kinds = Counter(type(item).__name__ for item in gc.get_objects())
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "resident": resident,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "objects": {name: kinds[name] for name in WATCHED},
    }
