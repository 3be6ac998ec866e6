"""Parts of files for responses, read in worker threads: a slow disk never blocks the event loop."""

import asyncio
import contextlib
import os
from typing import IO, Any, Self

# Large enough that the thread switch (about 60 us) is short beside the read; small enough that a
# response holds no more than this over its watermark.
CHUNK_BYTES = 262_144

# The most that one call in a thread sends by sendfile; a socket takes at most a few MiB at once.
_TRANSFER_BYTES = 16_777_216


class FilePart:
    """`left` bytes of a regular file from `offset` on. Owns its descriptor until `close`."""

    __slots__ = ("_descriptor", "_first", "_pending", "left", "offset")

    def __init__(self, descriptor: int, *, offset: int, left: int, first: bytes = b"") -> None:
        self._descriptor = descriptor
        self._first = first
        self._pending: asyncio.Future[Any] | None = None
        self.offset = offset
        self.left = left

    @classmethod
    async def of_path(cls, path: str, *, limit: int | None) -> Self:
        """The whole file at `path`, at its present size, but `limit` bytes at most.

        Raises OSError when it cannot be read.
        """
        opening = asyncio.get_running_loop().run_in_executor(None, _open, path)
        try:
            descriptor, size, first = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped; the file is closed as soon as it is open.
            opening.add_done_callback(_close_opened)
            raise
        left = size if limit is None else min(size, limit)
        return cls(descriptor, offset=0, left=left, first=first[:left])

    @classmethod
    def of_file(cls, file: IO[bytes] | int, *, offset: int | None, count: int | None) -> Self:
        """`count` bytes of an open file from `offset`.

        By default the part goes from the file's position to its end. `file` is a file object or a
        descriptor; its owner closes it.
        """
        descriptor = file if isinstance(file, int) else file.fileno()
        if offset is None:
            offset = os.lseek(file, 0, os.SEEK_CUR) if isinstance(file, int) else file.tell()
        left = max(os.fstat(descriptor).st_size - offset, 0)
        if count is not None:
            left = min(left, count)
        return cls(os.dup(descriptor), offset=offset, left=left)

    async def read(self) -> bytes:
        """The next bytes, CHUNK_BYTES at most; b"" after the last, or if the file was truncated."""
        if not self.left:
            return b""
        data, self._first = self._first, b""
        if not data:
            self._pending = reading = asyncio.get_running_loop().run_in_executor(
                None, os.pread, self._descriptor, min(self.left, CHUNK_BYTES), self.offset
            )
            # Shielded, so that `close` can see when the thread no longer uses the descriptor.
            data = await asyncio.shield(reading)
        self.offset += len(data)
        self.left -= len(data)
        return data

    async def transfer(self, socket_descriptor: int) -> int:
        """Let the kernel send as much as a non-blocking socket takes now.

        Returns the number of bytes: 0 when the socket takes none now, -1 where the file was
        truncated. Raises OSError when nothing can be sent any more. When cancelled, it returns
        only after its thread has ended.
        """
        size = min(self.left, _TRANSFER_BYTES)
        self._pending = sending = asyncio.get_running_loop().run_in_executor(
            None, _send, socket_descriptor, self._descriptor, self.offset, size
        )
        try:
            sent = await asyncio.shield(sending)
        except asyncio.CancelledError:
            # If the socket were closed before the thread ends, its descriptor might be reused.
            await _ended(sending)
            raise
        self.offset += max(sent, 0)
        self.left -= max(sent, 0)
        return sent

    def advance(self, file: IO[bytes] | int) -> None:
        """Move the position of `file`, from which this part was made, behind the bytes read."""
        if isinstance(file, int):
            os.lseek(file, self.offset, os.SEEK_SET)
        else:
            file.seek(self.offset)

    def close(self) -> None:
        """Close the descriptor as soon as no thread uses it any more."""
        descriptor = self._descriptor
        if self._pending is None or self._pending.done():
            os.close(descriptor)
        else:
            self._pending.add_done_callback(lambda _: os.close(descriptor))


def _open(path: str) -> tuple[int, int, bytes]:
    """Descriptor, size and first chunk of a file, in one call in a thread."""
    # O_NONBLOCK: a FIFO is then an error; otherwise it would block the thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return descriptor, os.fstat(descriptor).st_size, os.pread(descriptor, CHUNK_BYTES, 0)
    except BaseException:
        os.close(descriptor)
        raise


def _close_opened(opening: asyncio.Future[tuple[int, int, bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


def _send(sock: int, descriptor: int, offset: int, size: int) -> int:
    """Send until the socket takes no more, or `size` bytes; runs in a thread."""
    sent = 0
    while sent < size:
        try:
            count = os.sendfile(sock, descriptor, offset + sent, size - sent)
        except BlockingIOError:
            break
        if not count:
            return sent or -1
        sent += count
    return sent


async def _ended(future: asyncio.Future[Any]) -> None:
    """Return when `future` is done, even if this task is cancelled in between."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future})
