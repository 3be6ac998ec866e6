"""HTTP/3 framing, field sections, QPACK and reassembly: every input has a defined end."""

import pylsqpack
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from tercel.quic.http3.errors import H3ConnectionError
from tercel.quic.http3.fields import HeadReader, trailers
from tercel.quic.http3.qpack_sizes import DynamicTableSizes
from tercel.quic.http3.request_parser import ContentReceived, MessageFailed, SectionReceived
from tercel.quic.transport.abuse_limits import MAX_FRAGMENTS, Budgets
from tercel.quic.transport.stream_receiver import Receiver
from tercel.shared.errors import MalformedMessage
from tests.quic.http3.test_connection import GREASE, Peer, insert, merged, told
from tests.support.h3_client import frame, headers, section

DATA, HEADERS, SETTINGS, GOAWAY, MAX_PUSH_ID = 0x00, 0x01, 0x04, 0x07, 0x0D

PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\0\0", b"\x02\x00\x80", b"\x00\x00\xd1", b"\xff" * 20, b"\x80" * 8]),
    st.just(section([(b":method", b"GET"), (b":path", b"/")])),
)
FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0D, GREASE]), PAYLOADS),
    st.just(headers()),
    st.just(headers(b"POST", b"/", (b"content-length", b"3")) + frame(DATA, b"abc")),
    st.just(frame(HEADERS, section([(b"x", b"y")]))),
    st.binary(max_size=12),
)
BYTES = st.lists(FRAMES, max_size=6).map(b"".join)
UNI_TYPES = st.sampled_from([b"\x00", b"\x02", b"\x03", b"\x01", b"\x40\x21", b"", b"\xff"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([0, 4, 8]), BYTES, st.booleans()),
        st.tuples(
            st.sampled_from([2, 6, 10, 14]),
            st.builds(
                bytes.__add__, UNI_TYPES, st.one_of(BYTES, st.just(insert(b"a", b"b" * 200)))
            ),
            st.booleans(),
        ),
        st.tuples(st.sampled_from([0, 4, 8, 2, 6]), st.none(), st.booleans()),
    ),
    max_size=8,
)


@given(STEPS)
def test_streams_of_any_bytes_end_in_events_or_an_error_of_the_connection(steps):
    peer = Peer()
    ended = set()
    try:
        for stream_id, data, end in steps:
            if stream_id in ended:
                continue
            if data is None:
                peer.http.receive_reset(stream_id)
                ended.add(stream_id)
                continue
            peer.receive(stream_id, data, ended=end)
            if end:
                ended.add(stream_id)
    except H3ConnectionError:
        return
    waiting = sum(
        len(frames.unfinished) for frames in peer.http.requests._open.values() if frames.blocked
    )
    if all(data is not None for _, data, _ in steps):
        # What a reset cuts off is the caller's to release.
        peer.check_credit(waiting=waiting)


@given(BYTES, st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_a_request_means_the_same_wherever_it_is_cut(data, cuts, end):
    cuts = sorted({cut for cut in cuts if cut < len(data)})
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def meaning(parts):
        peer = Peer()
        events = []
        try:
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                events += peer.receive(0, part, ended=end and last)
        except H3ConnectionError as error:
            return error.code
        heads, content, ended, failed = merged(events)
        return failed or (heads, content, ended)

    assert meaning(pieces) == meaning([data])


NAMES = st.one_of(
    st.sampled_from(
        [
            *(b":method", b":path", b":scheme", b":authority", b":protocol", b":status", b"host"),
            *(b"content-length", b"te", b"cookie", b"connection", b"X", b"x", b"a b", b""),
        ]
    ),
    st.binary(max_size=4),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(b"GET", b"CONNECT", b"/", b"*", b"https", b"ftp", b"a.test", b"", b"3", b"+3"),
            *(b"trailers", b"gzip", b" x", b"x\r\ny: z", b"websocket", b"a=b"),
        ]
    ),
    st.binary(max_size=6),
)
SECTIONS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]


@given(st.one_of(SECTIONS, SECTIONS.map(lambda lines: REQUEST + lines)))
def test_a_field_section_is_a_clean_head_or_malformed(lines):
    try:
        head = HeadReader().read(lines)[0]
    except MalformedMessage:
        return
    assert head.method
    assert head.authority
    text = head.method + head.target + head.authority
    assert not any(byte <= 0x20 or byte == 0x7F for byte in text)
    for name, value in head.fields:
        assert name == name.lower()
        assert name[:1] != b":"
        assert not any(byte in name + value for byte in b"\r\n\0")


@given(SECTIONS)
def test_a_trailer_section_is_clean_or_malformed(lines):
    try:
        kept = trailers(lines)
    except MalformedMessage:
        return
    assert all(name[:1] != b":" and b"\n" not in value for name, value in kept)


LINES = st.lists(
    st.tuples(st.binary(min_size=1, max_size=60).map(bytes.lower), st.binary(max_size=300)),
    min_size=1,
    max_size=12,
)


@given(st.lists(LINES, min_size=1, max_size=6))
def test_sections_are_measured_as_they_decode(sections):
    encoder = pylsqpack.Encoder()
    table = DynamicTableSizes(4096, Budgets())
    decoder = pylsqpack.Decoder(4096, 16)
    instructions = encoder.apply_settings(4096, 16)
    for number, lines in enumerate(sections):
        more, encoded = encoder.encode(4 * number, lines)
        table.receive(instructions + more)
        decoder.feed_encoder(instructions + more)
        instructions = b""
        size = table.measure(encoded, max_bytes=1_000_000)
        _, decoded = decoder.feed_header(4 * number, encoded)
        real = sum(len(name) + len(value) + 32 for name, value in decoded)
        assert len(decoded) == len(lines)
        assert size <= real <= size * 8 / 5 + 76 * len(lines)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_measuring_anything_ends_in_a_measure_or_an_error_of_the_connection(instructions, encoded):
    table = DynamicTableSizes(4096, Budgets())
    try:
        table.receive(instructions)
    except H3ConnectionError:
        return
    # The last line may be an entry of the table.
    assert 0 <= table.measure(encoded, max_bytes=64) <= 64 + 4096 + 64


@given(st.data())
def test_stream_data_in_any_order_and_overlap_comes_out_as_it_was(data):
    content = data.draw(st.binary(min_size=1, max_size=200))
    budgets = Budgets()
    receiver = Receiver(0, budgets)
    pieces = data.draw(
        st.lists(st.tuples(st.integers(0, len(content)), st.integers(0, 40)), max_size=20)
    )
    ranges = [(start, min(len(content), start + size)) for start, size in pieces]
    ranges += data.draw(st.permutations([(at, at + 20) for at in range(0, len(content), 20)]))
    out, ended = b"", False
    # The end may come in a frame of its own, at any time.
    ranges.insert(data.draw(st.integers(0, len(ranges))), (len(content), len(content)))
    only_alone = data.draw(st.booleans())
    for start, stop in ranges:
        stop = min(stop, len(content))
        event = receiver.handle_frame(
            QuicStreamFrame(
                data=content[start:stop],
                offset=start,
                fin=stop == len(content) and not (only_alone and start < stop),
            )
        )
        if isinstance(event, StreamDataReceived):
            assert not ended
            out += event.data
            ended = event.end_stream
        assert 0 <= budgets.fragments <= MAX_FRAGMENTS
    assert (out, ended) == (content, True)
    assert budgets.fragments == 0


def test_the_strategies_reach_what_they_are_to_reach():
    """Guards against properties that hold because nothing gets through."""
    peer = Peer()
    kinds = {type(event) for event in peer.http.receive_data(0, headers() + frame(0, b"x"), True)}
    assert kinds == {SectionReceived, ContentReceived}
    assert told(MessageFailed(0, MalformedMessage("x")))[0] == "failed"
