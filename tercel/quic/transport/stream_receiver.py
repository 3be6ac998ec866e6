"""The receiving part of a stream, where a gap takes no memory.

aioquic fills a gap with zeros, so that one packet can make it hold a whole window, and walks
through all ranges for each frame. Uses private names of aioquic.
"""

from bisect import bisect_right

from aioquic.quic.events import StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode, QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver

from tercel.quic.transport.abuse_limits import MAX_FRAGMENTS, Budgets
from tercel.quic.transport.errors import EXCESSIVE_LOAD, ApplicationCloseError


class Receiver(QuicStreamReceiver):
    """Keeps out-of-order data in pieces, so that a gap takes no memory."""

    def __init__(self, stream_id: int | None, budgets: Budgets) -> None:
        # As aioquic's, but for the ranges that only it asks for: there is one for each request.
        self.highest_offset = 0
        self.is_finished = False
        self.stop_pending = False
        self._buffer_start = 0
        self._final_size: int | None = None
        self._stream_id = stream_id
        self._stop_error_code: int | None = None
        self._budgets = budgets
        self._offsets: list[int] = []
        self._pieces: list[bytearray] = []
        # In aioquic's eyes: whether anything waits.
        self._buffer = self._pieces  # type: ignore[assignment]

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Receive a frame; returns an event if data is now in order."""
        if (
            frame.offset == self._buffer_start
            and frame.data
            and not self._pieces
            and self._final_size is None  # else the end came before, and aioquic's would miss it
        ):
            return super().handle_frame(frame)
        end = frame.offset + len(frame.data)
        self._check_final_size(end, fin=frame.fin)
        if self.is_finished:
            return None
        self._keep(frame.offset, frame.data)
        data = self._take()
        if self._buffer_start == self._final_size:
            self.is_finished = True
        if not data and not self.is_finished:
            return None
        return StreamDataReceived(
            data=data,
            end_stream=self.is_finished,
            stream_id=self._stream_id,  # type: ignore[arg-type]  # None for CRYPTO
        )

    def keep(self, offset: int, data: bytes) -> None:
        """Store data that is not in order yet: `offset` is beyond the data received in order."""
        self._check_final_size(offset + len(data), fin=False)
        self._keep(offset, data)

    def handle_reset(
        self, *, final_size: int, error_code: int = QuicErrorCode.NO_ERROR
    ) -> StreamReset | None:
        """Receive a reset; data that waits behind a gap is dropped."""
        event = super().handle_reset(final_size=final_size, error_code=error_code)
        self._budgets.fragments -= len(self._pieces)
        self._offsets.clear()
        self._pieces.clear()
        return event

    def _check_final_size(self, end: int, *, fin: bool) -> None:
        # RFC 9000 4.5
        if self._final_size is not None and (end > self._final_size or fin):
            if end != self._final_size:
                raise FinalSizeError("data beyond the final size, or another one")
        elif fin and end < self.highest_offset:
            raise FinalSizeError("final size below what was received")
        if fin:
            self._final_size = end
        self.highest_offset = max(self.highest_offset, end)

    def _keep(self, offset: int, data: bytes) -> None:
        """Store the part of `data` that is new."""
        position, end = max(offset, self._buffer_start), offset + len(data)
        index = bisect_right(self._offsets, position)
        if index:
            position = max(position, self._offsets[index - 1] + len(self._pieces[index - 1]))
        while position < end:
            # Up to the next piece, if there is room before it, and then on behind that.
            next_at = self._offsets[index] if index < len(self._offsets) else end
            if position < next_at:
                stop = min(next_at, end)
                index = self._insert(index, position, data[position - offset : stop - offset])
                position = stop
            else:
                position += len(self._pieces[index])
                index += 1

    def _insert(self, index: int, offset: int, part: bytes) -> int:
        """Insert `part` before piece `index`; returns the index of the piece after it."""
        self._budgets.filled += 1
        before = index - 1
        if index and self._offsets[before] + len(self._pieces[before]) == offset:
            self._pieces[before] += part
            return index
        if self._budgets.fragments >= MAX_FRAGMENTS:
            raise ApplicationCloseError(EXCESSIVE_LOAD, "too many gaps in stream data")
        self._budgets.fragments += 1
        self._offsets.insert(index, offset)
        self._pieces.insert(index, bytearray(part))
        return index + 1

    def _take(self) -> bytes:
        """Remove and return the data that is in order."""
        count = 0
        for offset, piece in zip(self._offsets, self._pieces, strict=True):
            if offset != self._buffer_start:
                break
            self._buffer_start += len(piece)
            count += 1
        if not count:
            return b""
        data = b"".join(self._pieces[:count])
        del self._offsets[:count]
        del self._pieces[:count]
        self._budgets.fragments -= count
        return data
