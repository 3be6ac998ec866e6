"""The content of `/bytes/{n}`: the same bytes on every run, so that a client can check them."""

import hashlib
from collections.abc import Iterator

# A prime length: bytes that arrive in the wrong order, or twice, change the whole, whatever
# power of two the transport cuts at.
BLOCK = hashlib.shake_256(b"tercel").digest(65_521)


def pattern(size: int) -> Iterator[bytes]:
    """The first `size` bytes of BLOCK repeated without end, in parts."""
    whole, rest = divmod(size, len(BLOCK))
    for _ in range(whole):
        yield BLOCK
    if rest:
        yield BLOCK[:rest]


def pattern_sha256(size: int) -> str:
    """The SHA-256 of `pattern(size)` in hexadecimal."""
    digest = hashlib.sha256()
    for part in pattern(size):
        digest.update(part)
    return digest.hexdigest()
