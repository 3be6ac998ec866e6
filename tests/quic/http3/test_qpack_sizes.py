"""Field sections measured without decoding them, and tables known by the sizes of their entries."""

import pylsqpack
import pytest

from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.qpack_sizes import DynamicTableSizes
from tercel.quic.transport.abuse_limits import LIMITS, BudgetExceeded, Budgets, Flood

PREFIX = b"\x00\x00"
LINES = [
    (b":method", b"GET"),  # static table, name and value
    (b":path", b"/a/path/that/is/not/in/the/table"),  # static table, name alone
    (b"x-unheard-of", b"value " * 40),  # a literal, with lengths of more than one byte
    (b"x-" + b"n" * 200, b""),
]
CAPACITY = b"\x3f\xe1\x1f"  # RFC 9204 4.3.1: 4,096 bytes


def measured(section, *, max_bytes=1_000_000, instructions=b""):
    table = DynamicTableSizes(4096, Budgets())
    table.receive(instructions)
    return table.measure(section, max_bytes=max_bytes)


def encoded(lines):
    """`lines` with references to the static table only, and no instructions."""
    return b"", pylsqpack.Encoder().encode(0, lines)[1]


def dynamic(lines):
    """`lines` with references to the dynamic table, and the instructions that filled it."""
    encoder = pylsqpack.Encoder()
    instructions = encoder.apply_settings(4096, 16)
    for stream_id in range(0, 12, 4):
        more, section = encoder.encode(stream_id, lines)
        instructions += more
    return instructions, section


def test_measuring_stops_at_the_line_that_is_too_much():
    assert measured(PREFIX + b"\xc1" * 60_000, max_bytes=320) == 352


@pytest.mark.parametrize("encode", [encoded, dynamic])
@pytest.mark.parametrize("count", range(1, len(LINES) + 1))
def test_a_section_is_at_most_8_5_and_its_static_text_larger_than_measured(encode, count):
    lines = LINES[:count]
    instructions, section = encode(lines)
    real = sum(len(name) + len(value) + 32 for name, value in lines)
    size = measured(section, instructions=instructions)
    assert size <= real <= size * 8 / 5 + 76 * count


def literal(name, value):
    """An instruction that inserts a line as it stands (RFC 9204 4.3.3)."""
    size = len(value)
    prefixed = bytes([size]) if size < 127 else b"\x7f" + varint(size - 127)
    return bytes([0x40 | len(name)]) + name + prefixed + value


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value % 128 | 0x80])
        value //= 128
    return out + bytes([value])


@pytest.mark.parametrize(
    ("line", "size", "what"),
    [
        (b"\xc1", 32, "indexed, static"),
        (b"\x80", 32 + 3 + 500, "indexed, dynamic: the last that was inserted before the base"),
        (b"\x81", 32 + 1 + 2, "indexed, dynamic: the one before"),
        (b"\x51\x01a", 32 + 1, "literal, static name"),
        (b"\x40\x00", 32 + 3, "literal, dynamic name, empty value"),
        (b"\x21a\x01b", 32 + 2, "literal name"),
        (b"\x27\x01" + b"n" * 8 + b"\x81\xff", 32 + 8 + 1, "literal name, Huffman value"),
    ],
)
def test_each_representation_has_the_size_of_what_it_stands_for(line, size, what):
    instructions = CAPACITY + literal(b"n", b"vv") + literal(b"nnn", b"v" * 500)
    # RFC 9204 4.5.1: two entries are required, and the base is the second.
    section = b"\x03\x00" + line * 3
    assert measured(section, instructions=instructions) == 3 * size, what


@pytest.mark.parametrize(
    ("line", "size"), [(b"\x10", 32 + 1 + 2), (b"\x11", 32 + 3 + 500), (b"\x01\x01a", 32 + 3 + 1)]
)
def test_references_beyond_the_base_are_known_too(line, size):
    instructions = CAPACITY + literal(b"n", b"vv") + literal(b"nnn", b"v" * 500)
    # Delta Base with its sign: the base is 2 - 1 - 1.
    assert measured(b"\x03\x81" + line, instructions=instructions) == size


def test_a_duplicate_is_as_large_as_its_origin():
    instructions = CAPACITY + literal(b"n", b"v" * 100) + literal(b"m", b"") + b"\x01"
    assert measured(b"\x04\x00\x80", instructions=instructions) == 32 + 101


def test_instructions_may_be_cut_anywhere():
    instructions = CAPACITY + literal(b"name", b"v" * 300) + b"\x00" + literal(b"m", b"w")
    whole = DynamicTableSizes(4096, Budgets())
    whole.receive(instructions)
    pieces = DynamicTableSizes(4096, Budgets())
    for position in range(len(instructions)):
        pieces.receive(instructions[position : position + 1])
    section = b"\x04\x00\x80\x81\x82"
    assert whole.measure(section, max_bytes=9000) == pieces.measure(section, max_bytes=9000)
    assert whole.inserted == pieces.inserted == 3


def test_as_many_entries_are_remembered_as_a_table_can_have():
    table = DynamicTableSizes(4096, Budgets())
    table.receive(CAPACITY + literal(b"", b"v") * 1000)
    assert table.inserted == 1000
    assert len(table._entries) == 128


def test_an_entry_larger_than_the_table_is_refused_before_it_is_stored():
    table = DynamicTableSizes(4096, Budgets())
    with pytest.raises(H3ConnectionError) as caught:
        table.receive(CAPACITY + b"\x41n\x7f" + varint(1 << 30))
    assert caught.value.code is ErrorCode.QPACK_ENCODER_STREAM_ERROR


def test_an_endless_integer_is_refused():
    table = DynamicTableSizes(4096, Budgets())
    with pytest.raises(H3ConnectionError) as caught:
        table.receive(b"\x1f" + b"\xff" * 40)
    assert caught.value.code is ErrorCode.QPACK_ENCODER_STREAM_ERROR


def test_instructions_have_a_budget():
    table = DynamicTableSizes(4096, Budgets())
    with pytest.raises(BudgetExceeded) as caught:
        table.receive(CAPACITY + literal(b"n", b"") + b"\x00" * LIMITS[Flood.TABLE_ENTRIES][0])
    assert caught.value.flood is Flood.TABLE_ENTRIES


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b"\x00",
        PREFIX + b"\xff",
        PREFIX + b"\x51",
        PREFIX + b"\x27\xff",
        PREFIX + b"\xff" * 40,
        PREFIX + b"\x80" * 40,
        b"\xff" + b"\x80" * 65_536,
    ],
)
def test_a_broken_section_is_left_to_the_decoder(section):
    assert measured(section) == 0
