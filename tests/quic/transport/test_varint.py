"""Variable-length integers, against the examples of the RFC and against aioquic."""

import pytest
from aioquic.buffer import encode_uint_var

from tercel.quic.transport.varint import decode_varint, encode_varint, varint_size

EDGES = [0, 1, 0x3F, 0x40, 0x3FFF, 0x4000, 0x3FFF_FFFF, 0x4000_0000, (1 << 62) - 1]


@pytest.mark.parametrize("value", EDGES)
def test_an_integer_is_encoded_as_shortly_as_can_be(value):
    assert encode_varint(value) == encode_uint_var(value)
    assert varint_size(value) == len(encode_varint(value))


@pytest.mark.parametrize("value", EDGES)
def test_what_is_encoded_is_decoded(value):
    data = b"\xff" + encode_varint(value) + b"\xff"
    assert decode_varint(data, 1) == (value, len(data) - 1)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_the_examples_of_rfc_9000_a_1(data, value):
    raw = bytes.fromhex(data)
    assert decode_varint(raw, 0) == (value, len(raw))
    for cut in range(len(raw)):
        with pytest.raises(IndexError):
            decode_varint(raw[:cut], 0)


def test_more_than_62_bits_are_refused():
    with pytest.raises(OverflowError):
        encode_varint(1 << 62)
