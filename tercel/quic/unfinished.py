"""The beginning of what a stream brings, kept until it can be read. No I/O."""


class Unfinished:
    """Bytes that cannot be read before there are enough of them; none most of the time.

    The peer decides in how small pieces they come. Each is copied once when it comes and once when
    there are enough, whatever is here already; that is not looked through before.
    """

    __slots__ = ("_data", "_enough")

    def __init__(self) -> None:
        self._data: bytearray | None = None
        self._enough: int | None = None

    def __len__(self) -> int:
        return 0 if self._data is None else len(self._data)

    def keep(self, data: bytes, enough: int | None) -> None:
        """Begin with `data`; None if not a number of bytes, but something else, is `enough`."""
        self._data, self._enough = bytearray(data), enough

    def continued(self, data: bytes) -> bytes | None:
        """All that can be read now that `data` has come; None while that is not enough."""
        if self._data is None:
            return data
        self._data += data
        if self._enough is None or len(self._data) < self._enough:
            return None
        return self.take()

    def take(self) -> bytes:
        """Remove what is here."""
        data, self._data = self._data, None
        return b"" if data is None else bytes(data)
