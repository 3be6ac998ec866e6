"""What the benchmarks' applications answer, the same through every interface.

| path | answer |
|---|---|
| `/json` | 16 KiB of JSON, made beforehand |
| `/bytes/N` | N bytes in pieces of 64 KiB |
| `/upload` | the number of bytes received, read as they come |
| `/slow-upload` | the same, read at 1 MiB/s |
| `/wait` | a first piece, and then nothing until the client goes |
| `/plaintext` | 13 bytes of text |
| `/shop.v1.*` | a small message, as of gRPC, with trailers where the server sends any |
| anything else | `page`: HTML, JSON, a script or another file, of a size that the target decides |
"""

import json
import random
import struct
from collections.abc import Iterator
from itertools import count
from zlib import crc32

Field = tuple[bytes, bytes]

SLOW_BYTES_PER_SECOND = 1 << 20
PLAINTEXT = b"Hello, World!"
CALLS = "/shop.v1."
TRAILERS: list[Field] = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
_JSON_BYTES = 16_384
_CHUNK = bytes(range(256)) * 256  # 64 KiB
_SIZES = 256
# Odd, so that the numbers of requests are scattered over 64 bits and none comes twice.
_SCATTER = 0x9E3779B97F4A7C15


def chunks(size: int) -> Iterator[bytes]:
    """`size` bytes in pieces of 64 KiB."""
    while size > 0:
        chunk = _CHUNK if size >= len(_CHUNK) else _CHUNK[:size]
        size -= len(chunk)
        yield chunk


def page(path: str, query: bytes, received: int | None = None) -> tuple[list[Field], bytes]:
    """The fields and the content that answer the decoded `path` and the raw `query`.

    `received` is the size of the request's content, None when it was a GET: an answer to content
    is JSON. The same target gets the same answer, but for its x-request-id.
    """
    mark = crc32(query, crc32(path.encode()))
    if received is not None:
        mark += received
        kind = _API
    elif path.startswith("/api/"):
        kind = _API
    elif path.startswith("/static/"):
        kind = _FILES.get(path.rpartition(".")[2], _HTML)
    else:
        kind = _HTML
    content_type, cache_control, bodies = kind
    length, body = bodies[mark % _SIZES]
    number = next(_numbers) * _SCATTER & 0xFFFFFFFFFFFFFFFF
    fields = [
        (b"content-type", content_type),
        (b"content-length", length),
        (b"cache-control", cache_control),
        (b"etag", b'"%08x"' % (mark & 0xFFFFFFFF)),
        (b"vary", b"accept-encoding, cookie"),
        (b"x-request-id", b"%016x" % number),
        (b"x-content-type-options", b"nosniff"),
    ]
    if mark & 0x700 == 0:  # one target in eight
        fields.append((b"set-cookie", b"seen=%08x; Path=/; Secure; HttpOnly" % (mark & 0xFFFFFFFF)))
    return fields, body


def call(path: str, received: int) -> tuple[list[Field], bytes]:
    """The fields and the message that answer a small call."""
    fields = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"gzip")]
    return fields, _REPLIES[(crc32(path.encode()) + received) % len(_REPLIES)]


def _json() -> bytes:
    items = [
        {"id": n, "name": f"item {n}", "price": n * 0.25, "tags": ["a", "b"]} for n in range(400)
    ]
    return json.dumps(items).encode().ljust(_JSON_BYTES)[:_JSON_BYTES]


def _sizes(seed: str) -> list[int]:
    """From 100 bytes to 4 KiB, half of them below 450."""
    rng = random.Random(seed)
    return [min(4096, max(100, round(rng.lognormvariate(6.1, 1.0)))) for _ in range(_SIZES)]


def _filled(before: str, after: str) -> list[tuple[bytes, bytes]]:
    """Bodies of `_sizes`, between `before` and `after`; each behind its size in digits."""
    rng = random.Random(before)
    words = " ".join(f"{rng.getrandbits(40):x}" for _ in range(1200))
    made = []
    for number, size in enumerate(_sizes(before)):
        filling = words[number : number + size - len(before) - len(after)]
        body = f"{before}{filling}{after}".encode()
        made.append((b"%d" % len(body), body))
    return made


_numbers = count(1)
JSON = _json()
_FOREVER = b"public, max-age=31536000, immutable"
_API = (b"application/json", b"no-store", _filled('{"items": ["', '"], "next": null}'))
_HTML = (
    b"text/html; charset=utf-8",
    b"private, max-age=60",
    _filled("<!doctype html><title>Shop</title><p>", "</p>"),
)
_SCRIPT = (b"text/javascript; charset=utf-8", _FOREVER, _filled('const text = "', '";'))
_STYLE = (b"text/css; charset=utf-8", _FOREVER, _filled("/* ", " */ a { color: red }"))
_IMAGE = (b"image/webp", _FOREVER, _filled("RIFF....WEBPVP8 ", ""))
_FILES = {"js": _SCRIPT, "css": _STYLE, "webp": _IMAGE}
_REPLIES = [struct.pack(">BI", 0, size) + bytes(size) for size in range(8, 136)]
