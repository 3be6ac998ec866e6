"""The received content of one request that has not been read yet.

Flow control follows the application: what it reads, and nothing else, is reported. Knows neither
the HTTP version nor how the application waits.
"""

from collections import deque
from collections.abc import Callable

from tercel.shared.messages import Fields

PIECE_BYTES = 65_536
"""Maximum size of a single read."""


class ContentBuffer:
    """Content in order of arrival.

    `consumed` is called with the number of bytes each time some are read or discarded.
    """

    __slots__ = ("_chunks", "_consumed", "discarding", "ended", "received", "size", "trailers")

    def __init__(self, consumed: Callable[[int], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._consumed = consumed
        self.discarding = False
        self.ended = False
        """All content has arrived; it may not have been read yet."""
        self.received = 0
        """Bytes that arrived in all (RFC 9110 8.6 compares them with Content-Length)."""
        self.size = 0
        """Bytes that arrived and were not read."""
        self.trailers: Fields = []
        """The trailer section (RFC 9110 6.5), never merged into the header fields."""

    def append(self, data: bytes) -> None:
        """Append the next `data`."""
        size = len(data)
        if not size:
            # `take` would return it where more waits behind it.
            return
        self.received += size
        if self.discarding:
            self._consumed(size)
            return
        if size > PIECE_BYTES:
            # Once, as cutting off a part whenever some is taken would copy all the rest each time.
            self._chunks.extend(data[at : at + PIECE_BYTES] for at in range(0, size, PIECE_BYTES))
        else:
            self._chunks.append(data)
        self.size += size

    def end(self, trailers: Fields) -> None:
        """Mark the end: nothing follows but `trailers`."""
        self.ended = True
        self.trailers = trailers

    def take(self, limit: int = PIECE_BYTES) -> bytes:
        """Remove and return the first chunk, as it was received, at most `limit` bytes of it.

        b"" when the buffer is empty.
        """
        if not self._chunks:
            return b""
        data = self._chunks.popleft()
        if len(data) > limit:
            self._chunks.appendleft(data[limit:])
            data = data[:limit]
        elif self._chunks and len(data) + len(self._chunks[0]) <= limit:
            data = self._join(data, limit)
        self.size -= len(data)
        self._consumed(len(data))
        return data

    def discard(self) -> None:
        """Discard the buffered and all later content: it will not be read."""
        if not self.discarding:
            self.discarding = True
            self._chunks.clear()
            size, self.size = self.size, 0
            if size:
                self._consumed(size)

    def _join(self, first: bytes, limit: int) -> bytes:
        # Datagrams bring about 1,200 bytes each; one message for many of them saves the
        # application a wake-up per datagram.
        parts = [first]
        size = len(first)
        while self._chunks and size + len(self._chunks[0]) <= limit:
            part = self._chunks.popleft()
            parts.append(part)
            size += len(part)
        return b"".join(parts)


def _nothing_consumed(size: int) -> None:
    """The `consumed` callback of empty content, which has no credit to return."""


NO_CONTENT = ContentBuffer(_nothing_consumed)
"""The content of every request without content: ended, one object shared by all."""
NO_CONTENT.ended = True
