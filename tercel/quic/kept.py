"""How much stream data a connection keeps until its peer has acknowledged it.

Counted as it is written and acknowledged, so that it costs the same however many streams there are.
Knows no streams.
"""


class KeptBytes:
    """A sum over all streams. Who changes one of them without telling has it counted again."""

    __slots__ = ("certain", "released", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that were written and not acknowledged, if `certain`."""
        self.released = 0
        """Bytes that were acknowledged, or given up, so far."""
        self.certain = True
        """Whether `size` is true: aioquic's own code tells nobody what it has done."""

    def release(self, size: int) -> None:
        """So many bytes are kept no longer."""
        self.size -= size
        self.released += size

    def recount(self, size: int) -> None:
        """It is `size` bytes now."""
        self.release(self.size - size)
        self.certain = True
