"""Encoded field sections (RFC 9204 4.5), looked through without being decoded. No state, no I/O.

One byte can stand for a line of the dynamic table, some four kilobytes: decoding a section before
its lines are counted would turn 64 KB on the wire into hundreds of megabytes.
"""

_HUFFMAN_AND_LENGTH = 0x7F


def has_more_lines(section: bytes, limit: int) -> bool:
    """Whether an encoded section has more than `limit` field lines.

    False also for a section that is broken within the first `limit` lines: its fault is the
    decoder's to find.
    """
    try:
        _, position = _prefixed(section, 0, 0xFF)  # Required Insert Count
        _, position = _prefixed(section, position, 0x7F)  # Delta Base
        for _ in range(limit):
            if position >= len(section):
                return False
            position = _line_end(section, position)
    except IndexError:
        return False
    return position < len(section)


def _line_end(section: bytes, position: int) -> int:
    first = section[position]
    if first & 0x80:  # RFC 9204 4.5.2: indexed
        return _prefixed(section, position, 0x3F)[1]
    if first & 0x40:  # 4.5.4: literal with name reference
        position = _prefixed(section, position, 0x0F)[1]
    elif first & 0x20:  # 4.5.6: literal with literal name
        size, position = _prefixed(section, position, 0x07)
        position += size
    elif first & 0x10:  # 4.5.3: indexed, post-base
        return _prefixed(section, position, 0x0F)[1]
    else:  # 4.5.5: literal with post-base name reference
        position = _prefixed(section, position, 0x07)[1]
    size, position = _prefixed(section, position, _HUFFMAN_AND_LENGTH)
    return position + size


def _prefixed(data: bytes, position: int, mask: int) -> tuple[int, int]:
    """The integer whose prefix `mask` selects, and the position after it (RFC 7541 5.1)."""
    value = data[position] & mask
    position += 1
    if value == mask:
        for shift in range(0, 63, 7):
            byte = data[position]
            position += 1
            value += (byte & 0x7F) << shift
            if not byte & 0x80:
                return value, position
        raise IndexError  # RFC 9204 4.1.1: 62 bits are enough
    return value, position
