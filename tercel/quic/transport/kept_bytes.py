"""How much stream data a connection keeps until its peer has acknowledged it.

Updated on each write and acknowledgement, so the cost does not depend on the number of streams.
Knows no streams.
"""


class KeptBytes:
    """A sum over all streams; `recount` corrects it after changes that were not reported."""

    __slots__ = ("certain", "released", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes written and not yet acknowledged; valid only if `certain`."""
        self.released = 0
        """Total of bytes that were acknowledged or discarded."""
        self.certain = True
        """Whether `size` is valid: aioquic's own code does not report its changes."""

    def release(self, size: int) -> None:
        """Subtract `size` bytes, which are no longer kept."""
        self.size -= size
        self.released += size

    def recount(self, size: int) -> None:
        """Set the sum to `size` bytes."""
        self.release(self.size - size)
        self.certain = True
