"""An application that takes all memory there is, and one that wants more than that at once."""

PIECE_BYTES = 1 << 20


async def app(scope, receive, send):
    """ASGI: /greedy wants a terabyte, /hoard all there is until its content ends."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    pieces = []
    if scope["path"] == "/greedy":
        pieces.append(bytearray(1 << 40))
    if scope["path"] == "/hoard":
        try:
            while True:
                pieces.append(bytes(PIECE_BYTES))
        except MemoryError:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b" ", "more_body": True})
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.body", "body": b"%d" % len(pieces)})
