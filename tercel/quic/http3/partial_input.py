"""Buffers the beginning of a unit of a stream until it can be parsed. No I/O."""


class PartialInput:
    """Bytes that cannot be parsed until enough of them have arrived; usually empty.

    The peer decides the size of the pieces. Each byte is copied once on arrival and once when
    enough have arrived, however much is buffered; the buffer is not scanned before that.
    """

    __slots__ = ("_data", "_enough")

    def __init__(self) -> None:
        self._data: bytearray | None = None
        self._enough: int | None = None

    def __len__(self) -> int:
        return 0 if self._data is None else len(self._data)

    def keep(self, data: bytes, enough: int | None) -> None:
        """Start with `data`; `enough` is a number of bytes, None if another condition applies."""
        self._data, self._enough = bytearray(data), enough

    def continued(self, data: bytes) -> bytes | None:
        """All that can be parsed now that `data` has arrived; None while more is needed."""
        if self._data is None:
            return data
        self._data += data
        if self._enough is None or len(self._data) < self._enough:
            return None
        return self.take()

    def take(self) -> bytes:
        """Remove and return the buffered bytes."""
        data, self._data = self._data, None
        return b"" if data is None else bytes(data)
