"""What each kind of message costs per byte: no more where there is more of it.

A peer decides how much it sends before a message is whole, and in how small pieces. Each case does
its work at one size and at four times that: what copies, or looks through, all that is there for
each piece takes sixteen times as long then, what looks at each byte once four times. Limits are
raised for this, so that there is something to be seen.
"""

import gc
import itertools
import sys
import time
from types import SimpleNamespace

import pytest
from aioquic.quic.packet import QuicStreamFrame
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tercel.h1 import chunked
from tercel.h1.events import HeadReceived, MessageComplete, MessageFailed
from tercel.h1.parser import RequestParser
from tercel.quic.http3 import control_streams
from tercel.quic.http3.connection import H3Connection
from tercel.quic.http3.qpack_sizes import DynamicTableSizes
from tercel.quic.http3.request_parser import MessageFailed as H3MessageFailed
from tercel.quic.transport import stream_receiver
from tercel.quic.transport.abuse_limits import LIMITS, Budgets, Flood
from tercel.quic.transport.stream_receiver import Receiver
from tercel.shared.content import ContentBuffer
from tercel.shared.settings import Settings
from tercel.shared.websocket.frame import WebsocketFrameAssembler
from tercel.shared.websocket.input import FrameInput
from tests.quic.http3.test_connection import FakeQuic, insert, varint7
from tests.quic.pair import CLIENT, Pair
from tests.support.h3_client import CONTROL, DATA, ENCODER, HEADERS, SETTINGS, frame, headers
from tests.support.raw_quic import PADDING, PING, crypto, initial_packet, numbers, short_packet

SETTINGS_OF_ALL = Settings(
    max_field_section_bytes=1 << 26, max_target_bytes=1 << 26, max_fields=1 << 20
)
KNOWN_BY_ALL = b"Host: a\r\n"
CONTROL_ID, ENCODER_ID, GREASE_ID = 2, 6, 14
GREASE = 0x21 + 0x1F * 5
# Four times the time is what four times as much may take, sixteen times is quadratic.
MOST = 7
TRIES = 5


@pytest.fixture(autouse=True)
def no_limits(monkeypatch):
    """Of what would end the work before it costs anything."""
    monkeypatch.setattr(chunked, "MAX_EXTENSION_BYTES", 1 << 26)
    monkeypatch.setattr(control_streams, "_MAX_CONTROL_FRAME_BYTES", 1 << 26)
    monkeypatch.setattr(stream_receiver, "MAX_FRAGMENTS", 1 << 26)
    for flood in Flood:
        monkeypatch.setitem(LIMITS, flood, (1 << 40, 0.0))


def pieces(data, size=64):
    return [data[at : at + size] for at in range(0, len(data), size)]


# -- HTTP/1.1 -------------------------------------------------------------------------------------


def parsing(*data, begin=b"", size=64, last=HeadReceived):
    """Feed `begin`, then each of `data` in pieces; the last event has to be a `last`."""
    parser = RequestParser(SETTINGS_OF_ALL, scheme=b"http")
    events = parser.feed(begin) if begin else []
    parts = [part for each in data for part in pieces(each, size)]

    def run():
        for part in parts:
            events.extend(parser.feed(part))
        assert type(events[-1]) is last, events[-1]

    return run


def a_head(size):
    line = b"GET / HTTP/1.1\r\n" + KNOWN_BY_ALL
    return parsing(line + b"X: " + b"x" * size + b"\r\n\r\n")


def a_head_of_many_lines(size):
    lines = b"X: xxxxxxxx\r\n" * (size // 13)
    return parsing(b"GET / HTTP/1.1\r\n" + KNOWN_BY_ALL + lines + b"\r\n")


def a_target(size):
    return parsing(b"GET /" + b"x" * size + b" HTTP/1.1\r\n" + KNOWN_BY_ALL + b"\r\n")


def empty_lines(size):
    return parsing(b"\r\n" * (size // 2), b"GET / HTTP/1.1\r\n" + KNOWN_BY_ALL + b"\r\n")


CHUNKED = b"POST / HTTP/1.1\r\n" + KNOWN_BY_ALL + b"Transfer-Encoding: chunked\r\n\r\n"


def a_chunk_extension(size):
    data = b"1;" + b"x" * size + b"\r\na\r\n0\r\n\r\n"
    return parsing(data, begin=CHUNKED, last=MessageComplete)


def an_extension_of_the_last_chunk(size):
    return parsing(b"0;" + b"x" * size + b"\r\n\r\n", begin=CHUNKED, last=MessageComplete)


def chunks_of_one_byte(size):
    data = b"1\r\na\r\n" * (size // 6) + b"0\r\n\r\n"
    return parsing(data, begin=CHUNKED, size=7, last=MessageComplete)


def chunked_content(size):
    data = b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    return parsing(data, begin=CHUNKED, last=MessageComplete)


def a_trailer_section(size):
    data = b"0\r\n" + b"X: xxxxxxxx\r\n" * (size // 13) + b"\r\n"
    return parsing(data, begin=CHUNKED, last=MessageComplete)


def a_long_trailer(size):
    data = b"0\r\nX: " + b"x" * size + b"\r\n\r\n"
    return parsing(data, begin=CHUNKED, last=MessageComplete)


def content_of_known_length(size):
    begin = b"POST / HTTP/1.1\r\n" + KNOWN_BY_ALL + b"Content-Length: %d\r\n\r\n" % size
    return parsing(b"x" * size, begin=begin, last=MessageComplete)


def what_follows_an_unanswered_request(size):
    request = b"GET / HTTP/1.1\r\n" + KNOWN_BY_ALL + b"\r\n"
    return parsing(b"x" * size, begin=request)


def pipelined(request, size):
    """As many of `request` as there are in `size` bytes, at once, then one by one."""
    parser = RequestParser(SETTINGS_OF_ALL, scheme=b"http")
    data = request * (size // len(request))

    def run():
        events = parser.feed(data)
        while more := parser.resume():
            events.extend(more)
        assert not any(type(event) is MessageFailed for event in events)
        heads = sum(type(event) is HeadReceived for event in events)
        assert heads == size // len(request)

    return run


def pipelined_requests(size):
    return pipelined(b"GET / HTTP/1.1\r\n" + KNOWN_BY_ALL + b"\r\n", size)


def pipelined_requests_with_content(size):
    return pipelined(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + KNOWN_BY_ALL + b"\r\na", size)


def pipelined_requests_with_chunks(size):
    return pipelined(CHUNKED + b"1\r\na\r\n0\r\n\r\n", size)


# -- HTTP/3 ---------------------------------------------------------------------------------------


def receiving(*steps, silent=False):
    """Feed (stream ID, data, size of pieces) in turn; that has to bring events, unless `silent`."""
    http = H3Connection(FakeQuic(), SETTINGS_OF_ALL)
    parts = [(stream_id, part) for stream_id, data, size in steps for part in pieces(data, size)]

    def run():
        events = [
            event
            for stream_id, part in parts
            for event in http.receive_data(stream_id, part, False)
        ]
        assert bool(events) is not silent
        assert not any(type(event) is H3MessageFailed for event in events)

    return run


def a_field_section(size):
    line = b"\x21x\x7f" + varint7(60_000 - 127) + b"\xff" * 60_000
    section = headers()[2:] + line * (size // 60_000 + 1)
    return receiving((0, frame(HEADERS, section), 64))


WAITING = frame(HEADERS, b"\x02\x00" + headers()[4:] + b"\x80")
INSTRUCTIONS = b"\x02" + insert(b"a", b"x" * 200)


def content_behind_a_section_that_waits(size):
    content = frame(DATA, b"x" * size)
    return receiving((0, WAITING + content, 64), (ENCODER_ID, INSTRUCTIONS, 1000))


def small_frames_behind_a_section_that_waits(size):
    content = frame(DATA, b"xxxx") * (size // 6)
    return receiving((0, WAITING + content, 64), (ENCODER_ID, INSTRUCTIONS, 1000))


def a_section_that_waits(size):
    line = b"\x21x\x7f" + varint7(60_000 - 127) + b"x" * 60_000
    section = b"\x02\x00" + headers()[4:] + b"\x80" + line * (size // 60_000 + 1)
    data = frame(HEADERS, section)
    return receiving((0, data, 64), (ENCODER_ID, INSTRUCTIONS, 1000))


def content(size):
    return receiving((0, headers() + frame(DATA, b"x" * size), 64))


def an_unknown_frame(size):
    return receiving((0, headers() + frame(GREASE, b"x" * size), 64))


def settings(size):
    begin = bytes([CONTROL])
    pairs = b"".join(numbers(0x4000_0000 + key, 0) for key in range(size // 5))
    return receiving((CONTROL_ID, begin + frame(SETTINGS, pairs), 64), silent=True)


def unknown_frames_of_the_control_stream(size):
    begin = bytes([CONTROL]) + frame(SETTINGS)
    return receiving((CONTROL_ID, begin + frame(GREASE, b"xxxx") * (size // 6), 7), silent=True)


def an_unknown_stream(size):
    return receiving((GREASE_ID, numbers(GREASE) + b"x" * size, 64), silent=True)


def decoder_instructions(size):
    return receiving((10, b"\x03" + b"\x44" * size, 64), silent=True)


def encoder_instructions(size):
    begin = bytes([ENCODER]) + insert(b"a", b"x" * 127)
    return receiving((ENCODER_ID, begin + b"\x41a\x03xyz" * (size // 6), 7), silent=True)


def an_encoder_instruction(size):
    table = DynamicTableSizes(1 << 26, Budgets())
    parts = pieces(b"\x41a\x7f" + varint7(size - 127) + b"x" * size)

    def run():
        for part in parts:
            table.receive(part)
        assert table.inserted == 1

    return run


# -- QUIC -----------------------------------------------------------------------------------------


def reassembled(frames):
    stream = Receiver(0, Budgets())

    def run():
        events = [stream.handle_frame(each) for each in frames]
        assert events[-1] is not None

    return run


def stream_data_in_reverse(size):
    """At the larger size half of MAX_FRAGMENTS, which are kept in order in a list."""
    return reassembled(
        [QuicStreamFrame(data=b"xxxx", offset=at) for at in range(size // 64 - 4, -4, -4)]
    )


def stream_data_with_gaps_and_what_fills_them(size):
    odd = [QuicStreamFrame(data=b"x", offset=at) for at in range(1, size // 2, 2)]
    return reassembled([*odd, QuicStreamFrame(data=b"x" * (size // 2), offset=0)])


def stream_data_behind_a_gap(size):
    later = [QuicStreamFrame(data=b"x" * 64, offset=at) for at in range(1, size, 64)]
    return reassembled([*later, QuicStreamFrame(data=b"x", offset=0)])


def a_client_hello(size):
    """Up to 64 KiB, which is MAX_CRYPTO_BYTES."""
    pair = Pair(handshake=False)
    hello = b"\x01\x00\xff\xff" + b"x" * (size // 16 - 4)
    frames = [crypto(at, hello[at : at + 64]) for at in range(0, len(hello), 64)]
    packets = [
        initial_packet(pair.client, b"".join(frames[at : at + 8]))
        for at in range(0, len(frames), 8)
    ]

    def run():
        for packet in packets:
            pair.server.receive_datagram(packet, CLIENT, pair.now)
        assert pair.server.close_event is None

    return run


def padding_between_frames(size):
    pair = Pair()
    packet = short_packet(pair.client, (PADDING + PING) * (size // 8))

    def run():
        pair.server.receive_datagram(packet, CLIENT, pair.now)

    return run


# -- WebSocket ------------------------------------------------------------------------------------


class Source:
    """What an assembler holds back."""

    max_queue = 1
    input = None

    def pause_frames(self):
        self.input.paused = True
        return True

    def resume_frames(self):
        self.input.paused = False
        return True


def websocket():
    """The receiving half of a WebSocket on which nobody reads yet."""
    source = Source()
    protocol = ServerProtocol(state=State.OPEN, max_size=None)
    assembler = WebsocketFrameAssembler(source)

    def process(event):
        if isinstance(event, Frame):
            assembler.feed(event)

    source.input = FrameInput(
        protocol, assembler, process=process, answer=lambda is_ping: None, room=lambda: sys.maxsize
    )
    return SimpleNamespace(source=source, input=source.input, messages=assembler)


def masked(opcode, payload, *, fin=True):
    return Frame(opcode, payload, fin).serialize(mask=True)


def messages_that_nobody_reads(size):
    """Held while the queue is full, then taken in small portions."""
    conversation = websocket()
    data = masked(Opcode.BINARY, b"xxxx") * (size // 10)
    parts = pieces(data)

    def run():
        for part in parts:
            conversation.input.receive(part)
        taken = 0
        while conversation.messages.readable:
            with pytest.raises(StopIteration):
                conversation.messages.get().send(None)
            taken += 1
            if not conversation.input.paused:
                conversation.input.receive()
        assert taken == size // 10

    return run


def a_frame(size):
    conversation = websocket()
    parts = pieces(masked(Opcode.BINARY, b"x" * size))

    def run():
        for part in parts:
            conversation.input.receive(part)
        assert conversation.messages.size == size

    return run


def fragments(size):
    conversation = websocket()
    data = masked(Opcode.BINARY, b"x", fin=False)
    parts = pieces(data + masked(Opcode.CONT, b"x", fin=False) * (size // 7), 7)

    def run():
        for part in parts:
            conversation.input.receive(part)
        assert conversation.messages.size == size // 7 + 1

    return run


# -- content that waits for the application -------------------------------------------------------


def content_in_one_piece(size):
    data = b"x" * (4 * size)

    def run():
        buffer = ContentBuffer(lambda _: None)
        buffer.append(data)
        # In small parts: how long one copy takes says more of the machine's caches.
        taken = itertools.takewhile(bool, iter(lambda: buffer.take(1024), None))
        assert sum(map(len, taken)) == len(data)

    return run


KINDS = [
    *(a_head, a_head_of_many_lines, a_target, empty_lines),
    *(a_chunk_extension, an_extension_of_the_last_chunk, chunks_of_one_byte, chunked_content),
    *(a_trailer_section, a_long_trailer, content_of_known_length),
    *(what_follows_an_unanswered_request, pipelined_requests),
    *(pipelined_requests_with_content, pipelined_requests_with_chunks),
    *(a_field_section, content_behind_a_section_that_waits, a_section_that_waits),
    *(small_frames_behind_a_section_that_waits, content, an_unknown_frame, settings),
    *(unknown_frames_of_the_control_stream, an_unknown_stream, decoder_instructions),
    *(encoder_instructions, an_encoder_instruction),
    *(stream_data_in_reverse, stream_data_with_gaps_and_what_fills_them),
    *(stream_data_behind_a_gap, a_client_hello, padding_between_frames),
    *(messages_that_nobody_reads, a_frame, fragments, content_in_one_piece),
]
SIZE = 1 << 18


def seconds(kind, size):
    run = kind(size)
    started = time.thread_time()
    run()
    return time.thread_time() - started


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_four_times_as_much_costs_no_more_per_byte(kind):
    gc.collect()
    gc.disable()
    try:
        ratios = []
        while not ratios or ratios[-1] >= MOST:
            # What else the machine does only ever makes one of them take longer.
            assert len(ratios) < TRIES, f"{min(ratios):.1f} times as long at best"
            small = min(seconds(kind, SIZE), seconds(kind, SIZE))
            ratios.append(seconds(kind, 4 * SIZE) / small)
    finally:
        gc.enable()
