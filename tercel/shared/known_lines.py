"""A bounded memory of the field lines that one connection has sent.

A browser repeats nearly all lines of a request in the next one: user agent, accept, cookies. What
was found out about a line need not be found out again. Knows nothing of what a line means.
"""

from typing import TypeVar

Line = TypeVar("Line")
Found = TypeVar("Found")

# What the lines of one connection may take in memory: an idle connection must not hold more of what
# its client once sent. A browser's twenty lines take 7 KB.
_MAX_BYTES = 16_384
# What a line takes besides its text.
_OVERHEAD_BYTES = 256
MAX_TEXT_BYTES = 2048

SELDOM_REPEATED = frozenset(
    (
        *(b"content-length", b"range", b"referer", b"idempotency-key", b"x-request-id"),
        *(b"if-match", b"if-modified-since", b"if-none-match", b"if-range"),
        *(b"traceparent", b"tracestate", b"grpc-timeout"),
    )
)
"""Fields whose values are mostly new ones: to remember these would push out the others."""


class KnownLines(dict[Line, Found]):
    """What was found out about lines. When there is no room for another one, all are forgotten."""

    __slots__ = ("_room",)

    def __init__(self) -> None:
        super().__init__()
        self._room = _MAX_BYTES

    def remember(self, line: Line, found: Found, text_bytes: int) -> None:
        """Remember what was found out about `line`, whose text takes `text_bytes`."""
        if text_bytes > MAX_TEXT_BYTES:
            return
        self._room -= text_bytes + _OVERHEAD_BYTES
        if self._room < 0:
            self.clear()
            self._room = _MAX_BYTES - text_bytes - _OVERHEAD_BYTES
        self[line] = found
