"""What the benchmarks' applications answer, the same through every interface.

| path | answer |
|---|---|
| `/json` | 16 KiB of JSON, made beforehand |
| `/bytes/N` | N bytes in pieces of 64 KiB |
| `/upload` | the number of bytes received, read as they come |
| `/slow-upload` | the same, read at 1 MiB/s |
| `/wait` | a first piece, and then nothing until the client goes |
| anything else | 13 bytes of text |
"""

import json
from collections.abc import Iterator

SLOW_BYTES_PER_SECOND = 1 << 20
PLAINTEXT = b"Hello, World!"
_JSON_BYTES = 16_384
_CHUNK = bytes(range(256)) * 256  # 64 KiB


def chunks(size: int) -> Iterator[bytes]:
    """`size` bytes in pieces of 64 KiB."""
    while size > 0:
        chunk = _CHUNK if size >= len(_CHUNK) else _CHUNK[:size]
        size -= len(chunk)
        yield chunk


def _json() -> bytes:
    items = [
        {"id": n, "name": f"item {n}", "price": n * 0.25, "tags": ["a", "b"]} for n in range(400)
    ]
    return json.dumps(items).encode().ljust(_JSON_BYTES)[:_JSON_BYTES]


JSON = _json()
