"""Measures QPACK (RFC 9204) field sections without decoding them, so none too large is decoded.

One byte can stand for a line of the dynamic table, some four kilobytes: decoding a section before
it is measured would turn 64 KB on the wire into hundreds of megabytes. No I/O.
"""

from collections import deque

from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.partial_input import PartialInput
from tercel.quic.transport.abuse_limits import Budgets, Flood
from tercel.shared.errors import FieldsTooLarge

# RFC 9204 3.2.1: what each entry, and RFC 9114 4.2.2: what each line costs beside its text.
_OVERHEAD_BYTES = 32
# RFC 9204 appendix A: the longest line of the static table is a content-security-policy.
_LONGEST_STATIC_LINE_BYTES = 76 + _OVERHEAD_BYTES

# RFC 9204 4.5.6, with any Never-Indexed and Huffman bits: a literal name of no bytes.
_EMPTY_NAME, _EMPTY_NAME_MASK = 0x20, 0xE7
# The longest name or value that ls-qpack decodes; the shortest Huffman code has 5 bits.
_LONGEST_TEXT_BYTES = 65_535
_LONGEST_ENCODED_BYTES = _LONGEST_TEXT_BYTES * 5 // 8


class DynamicTableSizes:
    """The sizes of the entries of a dynamic table, learnt from the instructions that fill it."""

    def __init__(self, capacity: int, budgets: Budgets) -> None:
        self._capacity = capacity
        self._budgets = budgets
        self._unfinished = PartialInput()
        """The incomplete instruction at the end of the received data."""
        self._max_entries = capacity // _OVERHEAD_BYTES
        # Name and value. What fell out of the table in earnest is kept a little longer.
        self._entries: deque[tuple[int, int]] = deque(maxlen=max(1, self._max_entries))
        self.inserted = 0
        self.largest = _LONGEST_STATIC_LINE_BYTES
        """The largest size that a one-byte line can represent."""

    def receive(self, data: bytes) -> None:
        """Handle the next bytes of an encoder stream (RFC 9204 4.3).

        Raises H3ConnectionError for an excess of instructions, or an entry that cannot fit the
        table. Other errors are left to the decoder.
        """
        whole = self._unfinished.continued(data)
        if whole is None:
            return
        position = 0
        try:
            while position < len(whole):
                position = self._instruction(whole, position)
        except _CutOff as cut:
            self._unfinished.keep(whole[position:], cut.end - position)
        except _Broken:
            raise H3ConnectionError(
                ErrorCode.QPACK_ENCODER_STREAM_ERROR, "an integer of more than 62 bits"
            ) from None

    def measure(self, section: bytes, *, max_bytes: int) -> int:
        """A lower bound of the size of an encoded section (RFC 9204 4.5), as in RFC 9114 4.2.2.

        Huffman codes may stand for 8/5 of their length (RFC 7541 appendix B), and the text of
        static lines is not counted. Stops when the size is over `max_bytes`. A section that is
        broken is measured up to the fault, which is left to the decoder.
        """
        size = 0
        try:
            base, position = self._prefix(section)
            while position < len(section) and size <= max_bytes:
                line, position = self._line(section, position, base)
                size += line + _OVERHEAD_BYTES
        except (_CutOff, _Broken):
            pass
        return size

    def with_names(self, section: bytes) -> bytes | None:
        """An encoded section with a one-byte name in place of each empty literal name.

        b"" for a section of no lines. None if `section` is broken, or has no empty name. Raises
        FieldsTooLarge if a line may be longer than ls-qpack decodes. The entries of the dynamic
        table that the section requires must have been received.
        """
        parts: list[bytes] = []
        copied = 0
        try:
            base, position = self._prefix(section)
            if position == len(section):
                return b"" if base >= 0 and not section[0] else None
            while position < len(section):
                start = position
                line, position = self._line(section, start, base)
                if line > _LONGEST_ENCODED_BYTES:
                    raise FieldsTooLarge(
                        f"a field line that may exceed {_LONGEST_TEXT_BYTES} bytes"
                    )
                if section[start] & _EMPTY_NAME_MASK == _EMPTY_NAME:
                    parts += (section[copied:start], b"\x21?")
                    copied = start + 1
        except (_CutOff, _Broken):
            return None
        return b"".join((*parts, section[copied:])) if parts else None

    # -- sections ---------------------------------------------------------------------------------

    def _prefix(self, section: bytes) -> tuple[int, int]:
        """The Base, and the end of the prefix (RFC 9204 4.5.1)."""
        encoded_count, position = _prefixed(section, 0, 0xFF)
        sign = section[position] & 0x80 if position < len(section) else 0
        delta, position = _prefixed(section, position, 0x7F)
        count = self._insert_count(encoded_count)
        return count - delta - 1 if sign else count + delta, position

    def _line(self, section: bytes, position: int, base: int) -> tuple[int, int]:
        """The size of the line at `position`, and its end."""
        first = section[position]
        if first & 0x80:  # RFC 9204 4.5.2: indexed
            index, position = _prefixed(section, position, 0x3F)
            if first & 0x40:
                return 0, position
            return sum(self._entry(base - 1 - index)), position
        if first & 0x40:  # 4.5.4: literal with name reference
            index, position = _prefixed(section, position, 0x0F)
            name = 0 if first & 0x10 else self._entry(base - 1 - index)[0]
        elif first & 0x20:  # 4.5.6: literal with literal name
            name, position = _text(section, position, 0x07)
        elif first & 0x10:  # 4.5.3: indexed, post-base
            index, position = _prefixed(section, position, 0x0F)
            return sum(self._entry(base + index)), position
        else:  # 4.5.5: literal with post-base name reference
            index, position = _prefixed(section, position, 0x07)
            name = self._entry(base + index)[0]
        value, position = _text(section, position, 0x7F)
        return name + value, position

    def _insert_count(self, encoded: int) -> int:
        """The Required Insert Count (RFC 9204 4.5.1.1)."""
        if not encoded or not self._max_entries:
            return 0
        full_range = 2 * self._max_entries
        most = self.inserted + self._max_entries
        count = most // full_range * full_range + encoded - 1
        return count - full_range if count > most else count

    def _entry(self, absolute: int) -> tuple[int, int]:
        oldest = self.inserted - len(self._entries)
        if not oldest <= absolute < self.inserted:
            raise _Broken
        return self._entries[absolute - oldest]

    # -- instructions -----------------------------------------------------------------------------

    def _instruction(self, data: bytes, position: int) -> int:
        """Handle the instruction at `position`; returns its end."""
        first = data[position]
        if first & 0xE0 == 0x20:  # RFC 9204 4.3.1: the table's capacity
            self._budgets.spend(Flood.TABLE_ENTRIES)
            return _prefixed(data, position, 0x1F)[1]
        if first & 0x80:  # 4.3.2: insert with name reference
            index, position = _prefixed(data, position, 0x3F)
            name = 0 if first & 0x40 else self._relative(index)[0]
        elif first & 0x40:  # 4.3.3: insert with literal name
            name, position = self._table_text(data, position, 0x1F)
        else:  # 4.3.4: duplicate
            index, position = _prefixed(data, position, 0x1F)
            self._insert(*self._relative(index))
            return position
        value, position = self._table_text(data, position, 0x7F)
        self._insert(name, value)
        return position

    def _relative(self, index: int) -> tuple[int, int]:
        # Beyond what is known the decoder will find a fault.
        entries = self._entries
        return entries[-1 - index] if index < len(entries) else (0, 0)

    def _table_text(self, data: bytes, position: int, mask: int) -> tuple[int, int]:
        # Said before it is stored. No code has more than 30 bits, but who would use only those?
        if _prefixed(data, position, mask)[0] > self._capacity:
            raise H3ConnectionError(
                ErrorCode.QPACK_ENCODER_STREAM_ERROR, "an entry larger than the table"
            )
        return _text(data, position, mask)

    def _insert(self, name: int, value: int) -> None:
        self._budgets.spend(Flood.TABLE_ENTRIES)
        self._entries.append((name, value))
        self.inserted += 1
        self.largest = max(self.largest, name + value + _OVERHEAD_BYTES)


class _CutOff(Exception):
    """More bytes are needed, up to `end` at least."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class _Broken(Exception):
    """The decoder will reject the input."""


def _text(data: bytes, position: int, mask: int) -> tuple[int, int]:
    """The size of the string literal at `position`, and its end (RFC 9204 4.1.2)."""
    size, position = _prefixed(data, position, mask)
    if position + size > len(data):
        raise _CutOff(position + size)
    return size, position + size


def _prefixed(data: bytes, position: int, mask: int) -> tuple[int, int]:
    """The integer whose prefix `mask` selects, and the position after it (RFC 7541 5.1)."""
    size = len(data)
    if position >= size:
        raise _CutOff(size + 1)
    value = data[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in range(0, 63, 7):
        if position >= size:
            raise _CutOff(size + 1)
        byte = data[position]
        position += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise _Broken  # RFC 9204 4.1.1: 62 bits are enough
