"""Counting field lines without decoding them."""

import pylsqpack
import pytest

from tercel.quic.qpack import has_more_lines

PREFIX = b"\x00\x00"
LINES = [
    (b":method", b"GET"),  # static table, name and value
    (b":path", b"/a/path/that/is/not/in/the/table"),  # static table, name alone
    (b"x-unheard-of", b"value " * 40),  # a literal, with lengths of more than one byte
    (b"x-" + b"n" * 200, b""),
]


def encoded(lines):
    return pylsqpack.Encoder().encode(0, lines)[1]


def dynamic(lines):
    """`lines` encoded with references to the dynamic table, post-base ones among them."""
    encoder = pylsqpack.Encoder()
    encoder.apply_settings(4096, 16)
    for stream_id in range(0, 12, 4):
        _, section = encoder.encode(stream_id, lines)
    return section


@pytest.mark.parametrize("encode", [encoded, dynamic])
@pytest.mark.parametrize("count", range(1, len(LINES) + 1))
def test_lines_are_counted_in_every_representation(encode, count):
    section = encode(LINES[:count])
    assert has_more_lines(section, count - 1)
    assert not has_more_lines(section, count)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"\xc1", "indexed, static"),
        (b"\x80", "indexed, dynamic"),
        (b"\xff\x80\x01", "indexed, with an index of more bytes"),
        (b"\x10", "indexed, post-base"),
        (b"\x51\x01a", "literal, static name"),
        (b"\x40\x00", "literal, dynamic name, empty value"),
        (b"\x00\x01a", "literal, post-base name"),
        (b"\x21a\x01b", "literal name"),
        (b"\x27\x01" + b"n" * 8 + b"\x81\xff", "literal name of more bytes, Huffman value"),
    ],
)
def test_each_representation_is_one_line(line, what):
    assert has_more_lines(PREFIX + line * 3, 2), what
    assert not has_more_lines(PREFIX + line * 3, 3), what


def test_a_section_without_lines_has_none():
    assert not has_more_lines(PREFIX, 0)


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b"\x00",
        PREFIX + b"\xff",
        PREFIX + b"\x51",
        PREFIX + b"\x27\xff",
        PREFIX + b"\xff" * 40,
        b"\xff" + b"\x80" * 65_536,
    ],
)
def test_a_broken_section_is_left_to_the_decoder(section):
    assert not has_more_lines(section, 8)


def test_a_section_with_fewer_lines_has_not_more():
    assert not has_more_lines(PREFIX + b"\xc1", 8)
