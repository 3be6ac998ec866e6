"""Stretches of files for responses, read in worker threads: a slow disk never stops the loop."""

import asyncio
import os
from typing import IO, Self

# Large enough that the thread's hop (about 60 us) is small beside reading; small enough that a
# response holds no more than this over its watermark.
CHUNK_BYTES = 262_144


class FilePart:
    """`left` bytes of a regular file from `offset` on. Owns its descriptor until `close`."""

    __slots__ = ("_descriptor", "_first", "_pending", "left", "offset")

    def __init__(self, descriptor: int, *, offset: int, left: int, first: bytes = b"") -> None:
        self._descriptor = descriptor
        self._first = first
        self._pending: asyncio.Future[bytes] | None = None
        self.offset = offset
        self.left = left

    @classmethod
    async def of_path(cls, path: str, *, limit: int | None) -> Self:
        """The whole file at `path`, as long as it is now, but `limit` bytes at most.

        Raises OSError when it cannot be read.
        """
        opening = asyncio.get_running_loop().run_in_executor(None, _open, path)
        try:
            descriptor, size, first = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped; what it opens is closed as soon as it has.
            opening.add_done_callback(_close_opened)
            raise
        left = size if limit is None else min(size, limit)
        return cls(descriptor, offset=0, left=left, first=first[:left])

    @classmethod
    def of_file(cls, file: IO[bytes] | int, *, offset: int | None, count: int | None) -> Self:
        """`count` bytes of an open file from `offset`; without them to its end, from where it is.

        `file` is a file object or a descriptor; it stays its owner's to close.
        """
        descriptor = file if isinstance(file, int) else file.fileno()
        if offset is None:
            offset = os.lseek(file, 0, os.SEEK_CUR) if isinstance(file, int) else file.tell()
        left = max(os.fstat(descriptor).st_size - offset, 0)
        if count is not None:
            left = min(left, count)
        return cls(os.dup(descriptor), offset=offset, left=left)

    async def read(self) -> bytes:
        """The next bytes, CHUNK_BYTES at most; b"" after the last, or where the file was cut."""
        if not self.left:
            return b""
        data, self._first = self._first, b""
        if not data:
            self._pending = asyncio.get_running_loop().run_in_executor(
                None, os.pread, self._descriptor, min(self.left, CHUNK_BYTES), self.offset
            )
            # Shielded, so that `close` can see when the thread has let go of the descriptor.
            data = await asyncio.shield(self._pending)
        self.offset += len(data)
        self.left -= len(data)
        return data

    def advance(self, file: IO[bytes] | int) -> None:
        """Move the position of `file`, which this is a part of, behind what was read."""
        if isinstance(file, int):
            os.lseek(file, self.offset, os.SEEK_SET)
        else:
            file.seek(self.offset)

    def close(self) -> None:
        """Give the descriptor back, when no thread reads from it any more."""
        descriptor = self._descriptor
        if self._pending is None or self._pending.done():
            os.close(descriptor)
        else:
            self._pending.add_done_callback(lambda _: os.close(descriptor))


def _open(path: str) -> tuple[int, int, bytes]:
    """Descriptor, size and first chunk of a file, in one hop to a thread."""
    # O_NONBLOCK: a FIFO is an error then, where it would hold the thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return descriptor, os.fstat(descriptor).st_size, os.pread(descriptor, CHUNK_BYTES, 0)
    except BaseException:
        os.close(descriptor)
        raise


def _close_opened(opening: asyncio.Future[tuple[int, int, bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])
