"""The field lines of one connection's requests, each checked and split once.

A browser repeats nearly all of its lines with each request. Knows neither their meaning nor the
limits of a section.
"""

from typing import Any

from tercel.h1 import syntax
from tercel.shared.messages import Field

# What the lines of one connection may take in memory: an idle connection must not hold more of what
# its client once sent. Browsers send some 15 lines, which take 5 KB.
_MAX_BYTES = 10_240
# What a line takes besides its bytes and those of its field.
_OVERHEAD_BYTES = 256
_MAX_LINE_BYTES = 2048

# The fields that decide framing, routing and persistence, and the fields that applications get in
# one line.
DECISIVE = frozenset(
    (
        b"connection",
        b"content-length",
        b"cookie",
        b"early-data",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
    )
)


class KnownLines:
    """The lines that a client has sent, as far as they are kept.

    For a head of 15 lines this takes 1.2 us where checking and splitting them takes 4.
    """

    __slots__ = ("_room", "decisive", "fields")

    def __init__(self) -> None:
        self.fields: dict[bytes, Field] = {}
        """Line without CRLF -> its field."""
        self.decisive: dict[bytes, bytes] = {}
        """The lines of `DECISIVE` fields -> what of them can make a difference: the line. Of Cookie
        only the number of lines does, so its name is enough."""
        self._room = _MAX_BYTES

    def parse(self, lines: list[bytes], fields: list[Any]) -> bool:
        """Replace each None in `fields` by the field of the line at the same index.

        Returns whether all lines are kept afterwards. Raises MalformedMessage.
        """
        are_kept = True
        for index, field in enumerate(fields):
            if field is None:
                line = lines[index]
                fields[index] = field = syntax.field(line)
                if not self._keep(line, field):
                    are_kept = False
        if self._room < 0:
            # Lines that change with each request have filled it. The others of this head are likely
            # to come again.
            self.fields.clear()
            self.decisive.clear()
            self._room = _MAX_BYTES
            are_kept = all(map(self._keep, lines, fields))
        return are_kept

    def _keep(self, line: bytes, field: Field) -> bool:
        """Add a line if there is room for it."""
        size = len(line)
        if size > _MAX_LINE_BYTES:
            return False
        self._room -= _OVERHEAD_BYTES + size + size
        if self._room < 0:
            return False
        self.fields[line] = field
        name = field[0]
        if name in DECISIVE:
            self.decisive[line] = name if name == b"cookie" else line
        return True
