"""The oracle's own reader and writer of frames, held to the examples of the RFCs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import frames
from tests.oracle.frames import Frame, FrameError
from tests.oracle.packets import VERSION_1, PacketType, initial_keys, long_header, read_header

integers = st.integers(0, (1 << 62) - 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
    ],
)
def test_integers_are_those_of_rfc_9000(text, value):
    """RFC 9000 A.1."""
    assert frames.Reader(bytes.fromhex(text)).integer() == value
    assert frames.integer(value).hex() == text
    assert frames.Reader(bytes.fromhex("4025")).integer() == 37 == frames.Reader(b"\x25").integer()


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 300), min_size=1))
def test_an_acknowledgement_says_what_was_meant(numbers):
    (frame,) = frames.read(frames.ack(frames.ranges_of(numbers), delay=7, ecn=(1, 2, 3)))
    found = {number for first, last in frame["ranges"] for number in range(first, last + 1)}
    assert found == numbers
    assert (frame["delay"], frame["ecn"]) == (7, (1, 2, 3))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(integers, integers, st.binary(max_size=50), st.booleans())
def test_frames_are_read_as_they_were_written(first, second, data, fin):
    written = [
        (frames.ping(), Frame("PING")),
        (
            frames.stream(first, data, offset=second, fin=fin),
            Frame(
                "STREAM",
                (("stream_id", first), ("offset", second), ("data", data), ("fin", fin)),
            ),
        ),
        (frames.crypto(data, first), Frame("CRYPTO", (("offset", first), ("data", data)))),
        (
            frames.connection_close(first, second, data),
            Frame("CONNECTION_CLOSE", (("code", first), ("frame_type", second), ("reason", data))),
        ),
        (
            frames.stop_sending(first, second),
            Frame("STOP_SENDING", (("stream_id", first), ("code", second))),
        ),
    ]
    assert frames.read(b"".join(part for part, _ in written)) == [frame for _, frame in written]


@pytest.mark.parametrize("wrong", [b"\x21", b"\x40", b"\x0a\x00\x05abc", b"\x02\x01\x00\x00\x02"])
def test_what_is_no_frame_is_an_error(wrong):
    with pytest.raises(FrameError):
        frames.read(wrong)


def test_an_initial_is_sealed_as_in_rfc_9001():
    """RFC 9001 A.2: the header's protection, and the packet's end."""
    keys = initial_keys(bytes.fromhex("8394c8f03e515708"), VERSION_1)
    hello = bytes.fromhex(
        "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c"
        "00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006"
        "001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa4"
        "7fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403"
        "050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000"
        "ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
    ).ljust(1162, b"\0")
    header = long_header(
        PacketType.INITIAL,
        version=VERSION_1,
        destination=bytes.fromhex("8394c8f03e515708"),
        source=b"",
        number=2,
        payload_bytes=len(hello),
        number_bytes=4,
    )
    packet = keys.send.encrypt_packet(header, hello, 2)
    assert packet[:22].hex() == "c000000001088394c8f03e5157080000449e7b9aec34"
    assert packet[-16:].hex() == "e221af44860018ab0856972e194cd934"
    found = read_header(packet, 0)
    assert (found.type, found.size, found.number_at) == (PacketType.INITIAL, 1200, 18)
