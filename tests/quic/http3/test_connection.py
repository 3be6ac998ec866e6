"""HTTP/3 framing without I/O: bytes of streams in, events out, credit accounted to the byte."""

import contextlib
from operator import attrgetter

import pylsqpack
import pytest

from tercel.quic.http3.connection import H3Connection
from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.frames import parse_settings
from tercel.quic.http3.request_parser import ContentReceived, MessageFailed, SectionReceived
from tercel.shared.errors import FieldsTooLarge, IncompleteMessage, MalformedMessage
from tercel.shared.settings import Settings
from tests.support.h3_client import frame, section

DATA, HEADERS, CANCEL_PUSH, SETTINGS = 0x00, 0x01, 0x03, 0x04
PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0x05, 0x07, 0x0D
RESERVED_HTTP2 = (0x02, 0x06, 0x08, 0x09)
GREASE = 0x21 + 0x1F * 5  # RFC 9114 7.2.8
CONTROL_STREAM, ENCODER_STREAM, DECODER_STREAM, GREASE_STREAM = 2, 6, 10, 14

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/upload"),
]
TRAILERS = [(b"x-checksum", b"42")]
HEAD = frame(HEADERS, section(REQUEST))
TAIL = frame(HEADERS, section(TRAILERS))


class FakeQuic:
    """What the layer above asks of a QUIC connection, written down."""

    def __init__(self):
        self.sent = {}
        self.granted = {}
        self.stopped = set()
        self._next = 3

    def can_send(self, stream_id):
        return stream_id not in self.stopped

    def kept_of(self, stream_id):
        return 0

    def may_open(self, stream_id):
        return stream_id % 4 == 0 and stream_id < 4 * 128

    def get_next_available_stream_id(self, is_unidirectional):
        assert is_unidirectional
        return self._next

    def send_stream_data(self, stream_id, data, end_stream=False):
        assert not end_stream
        assert stream_id not in self.stopped
        if stream_id not in self.sent:
            self._next += 4
        self.sent[stream_id] = self.sent.get(stream_id, b"") + data

    def grant(self, stream_id, size):
        assert size >= 0
        self.granted[stream_id] = self.granted.get(stream_id, 0) + size


class Peer:
    """An H3Connection, and the account of what went into it and came out."""

    def __init__(self, **settings):
        self.quic = FakeQuic()
        self.http = H3Connection(self.quic, Settings(**settings))
        self.received = {}
        self.content = {}
        self.events = []

    def receive(self, stream_id, data=b"", *, ended=False):
        self.received[stream_id] = self.received.get(stream_id, 0) + len(data)
        events = self.http.receive_data(stream_id, data, ended)
        for event in events:
            if isinstance(event, ContentReceived):
                size = self.content.get(event.stream_id, 0) + len(event.data)
                self.content[event.stream_id] = size
        self.events += events
        return [told(event) for event in events]

    def check_credit(self, *, waiting=0):
        """Every byte was granted, or is content the application has to consume, or waits."""
        granted = sum(self.quic.granted.values())
        content = sum(self.content.values())
        assert granted + content + waiting == sum(self.received.values())

    @property
    def decoder_stream(self):
        self.http.send_instructions()
        return self.quic.sent[11][1:]


def told(event):
    """An event as a tuple that can be compared."""
    match event:
        case SectionReceived():
            kind = "trailers" if event.trailing else "head"
            return (kind, event.stream_id, tuple(event.fields), event.ended)
        case ContentReceived():
            return ("content", event.stream_id, event.data, event.ended)
        case MessageFailed():
            return ("failed", event.stream_id, type(event.error))


def merged(events):
    """What `events` mean, however the bytes were cut: sections, content joined, the end."""
    heads, content, ended, failed = [], b"", False, None
    for event in events:
        match event:
            case ("content", _, data, end):
                content += data
                ended = ended or end
            case ("failed", _, kind):
                failed = kind
            case (kind, _, fields, end):
                heads.append((kind, fields))
                ended = ended or end
    return heads, content, ended, failed


@contextlib.contextmanager
def expect(code):
    with pytest.raises(H3ConnectionError) as caught:
        yield
    assert caught.value.code is code


def head_event(stream_id=0, ended=False):
    return ("head", stream_id, tuple(REQUEST), ended)


# -- what this side opens -----------------------------------------------------------------------


def test_settings_are_the_first_thing_on_the_control_stream():
    peer = Peer(max_field_section_bytes=20_000)
    control = peer.quic.sent[3]
    assert control[:2] == bytes((0x00, SETTINGS))
    settings = parse_settings(control[3:])
    assert control[2] == len(control[3:])
    assert settings.items() >= {0x01: 4096, 0x06: 20_000, 0x07: 16}.items()


def test_the_qpack_streams_are_opened_with_their_types():
    peer = Peer()
    assert (peer.quic.sent[7], peer.quic.sent[11]) == (b"\x02", b"\x03")


def test_a_sent_section_needs_no_dynamic_table():
    frame_bytes = Peer().http.sections.encode(0, [(b":status", b"200"), (b"x", b"y")])
    _, fields = pylsqpack.Decoder(0, 0).feed_header(0, frame_bytes[2:])
    assert frame_bytes[:2] == bytes((HEADERS, len(frame_bytes) - 2))
    assert fields == [(b":status", b"200"), (b"x", b"y")]


def test_goaway_names_the_first_request_that_was_not_seen():
    peer = Peer()
    sent = len(peer.quic.sent[3])
    peer.http.send_goaway()
    assert peer.quic.sent[3][sent:] == frame(GOAWAY, b"\x00")
    peer.receive(8, HEAD)
    peer.receive(4, HEAD)
    sent = len(peer.quic.sent[3])
    peer.http.send_goaway()
    assert peer.quic.sent[3][sent:] == frame(GOAWAY, b"\x0c")


# -- a request ----------------------------------------------------------------------------------


def test_a_request_without_content_is_one_event():
    peer = Peer()
    assert peer.receive(0, HEAD, ended=True) == [head_event(ended=True)]
    peer.check_credit()


def test_a_request_with_content_and_trailers_comes_in_order():
    peer = Peer()
    events = peer.receive(0, HEAD + frame(DATA, b"abc") + frame(DATA, b"de") + TAIL, ended=True)
    assert events == [
        head_event(),
        ("content", 0, b"abc", False),
        ("content", 0, b"de", False),
        ("trailers", 0, tuple(TRAILERS), True),
    ]
    peer.check_credit()


def test_content_is_passed_on_before_its_frame_is_whole():
    peer = Peer()
    peer.receive(0, HEAD + frame(DATA, b"abcdef")[:4])
    assert told(peer.events[-1]) == ("content", 0, b"ab", False)
    assert peer.receive(0, b"cd") == [("content", 0, b"cd", False)]
    assert peer.receive(0, b"ef", ended=True) == [("content", 0, b"ef", True)]
    peer.check_credit()


def test_the_end_alone_ends_the_content():
    peer = Peer()
    peer.receive(0, HEAD + frame(DATA, b"abc"))
    assert peer.receive(0, ended=True) == [("content", 0, b"", True)]


def test_an_empty_data_frame_is_no_event():
    peer = Peer()
    assert peer.receive(0, HEAD + frame(DATA) * 3) == [head_event()]
    peer.check_credit()


MESSAGES = {
    "head alone": HEAD,
    "content": HEAD + frame(DATA, b"abc") + frame(DATA, b"d" * 70),
    "trailers": HEAD + frame(DATA, b"abc") + TAIL,
    "trailers at once": HEAD + TAIL,
    "unknown frames all over": frame(GREASE, b"x" * 70)
    + HEAD
    + frame(GREASE)
    + frame(DATA, b"abc")
    + frame(0x1234_5678, b"yy")
    + TAIL
    + frame(GREASE, b"z"),
    "lengths in their longest form": b"\xc0"
    + bytes(6)
    + b"\x01\xc0"
    + bytes(6)
    + bytes([len(section(REQUEST))])
    + section(REQUEST)
    + b"\x40\x00\x80\x00\x00\x03abc",
    "too many lines": frame(HEADERS, section([*REQUEST, *[(b"x", b"y")] * 20]))
    + frame(DATA, b"abc"),
    "too many lines in the trailers": HEAD
    + frame(DATA, b"abc")
    + frame(HEADERS, section([(b"x", b"y")] * 20)),
    "too large": frame(HEADERS, section([*REQUEST, (b"x", b"y" * 1000)])) + frame(DATA, b"abc"),
    "nothing": b"",
    "no section": frame(GREASE, b"abc"),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_means_the_same_wherever_it_is_cut(message):
    def outcome(parts):
        peer = Peer(max_fields=16, max_field_section_bytes=1024)
        events = [event for part in parts for event in peer.receive(0, part)]
        events += peer.receive(0, ended=True)
        peer.check_credit()
        heads, content, ended, failed = merged(events)
        # What came before a failure may have been passed on, or not.
        return failed or (heads, content, ended)

    whole = outcome([message])
    for cut in range(1, len(message)):
        assert outcome([message[:cut], message[cut:]]) == whole
    assert outcome([bytes([byte]) for byte in message]) == whole


# -- frames where they must not be --------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, b"x"),
        frame(DATA),
        HEAD + TAIL + frame(DATA, b"x"),
        HEAD + TAIL + TAIL,
        *(frame(kind, b"x") for kind in RESERVED_HTTP2),
        *(HEAD + frame(kind) for kind in RESERVED_HTTP2),
        *(frame(kind, b"\x00") for kind in (CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID)),
        HEAD + frame(PUSH_PROMISE, b"\x00"),
    ],
)
def test_a_frame_that_a_request_must_not_have_ends_the_connection(data):
    with expect(ErrorCode.FRAME_UNEXPECTED):
        Peer().receive(0, data)


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
def test_a_stream_that_ends_inside_a_headers_frame_ends_the_connection(cut):
    with expect(ErrorCode.FRAME_ERROR):
        Peer().receive(0, HEAD[:cut], ended=True)


@pytest.mark.parametrize(
    "rest", [frame(DATA, b"abc")[:-1], b"\x00", b"\x40", frame(GREASE, b"a")[:-1]]
)
def test_a_stream_that_ends_inside_any_frame_ends_the_connection(rest):
    peer = Peer()
    peer.receive(0, HEAD + rest)
    with expect(ErrorCode.FRAME_ERROR):
        peer.receive(0, ended=True)


@pytest.mark.parametrize("data", [b"", frame(GREASE, b"abc")])
def test_a_request_without_a_header_section_is_incomplete(data):
    peer = Peer()
    assert peer.receive(0, data, ended=True) == [("failed", 0, IncompleteMessage)]
    peer.check_credit()


def test_unknown_frames_are_ignored():
    peer = Peer()
    data = frame(GREASE, b"a" * 100) + HEAD + frame(0x3FFF_FFFF, b"b") + frame(DATA, b"c")
    assert peer.receive(0, data) == [head_event(), ("content", 0, b"c", False)]
    peer.check_credit()


# -- limits of a section ------------------------------------------------------------------------


def test_an_announced_section_over_the_limit_fails_before_it_is_stored():
    peer = Peer(max_field_section_bytes=1024)
    assert peer.receive(0, b"\x01\x44\x01") == [("failed", 0, FieldsTooLarge)]
    assert peer.receive(0, b"x" * 1025) == []
    assert peer.receive(0, ended=True) == []
    peer.check_credit()


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
def test_a_whole_section_over_the_limit_fails_its_message_alone(ended):
    peer = Peer(max_field_section_bytes=1024)
    large = frame(HEADERS, section([*REQUEST, (b"x", b"\xff" * 1024)]))
    assert peer.receive(0, large, ended=ended) == [("failed", 0, FieldsTooLarge)]
    assert peer.receive(4, HEAD, ended=True) == [head_event(4, ended=True)]
    peer.check_credit()


def test_a_section_is_measured_as_decoded():
    peer = Peer(max_field_section_bytes=1024)
    data = frame(HEADERS, section([*REQUEST, (b"x", b"e" * 1000)]))
    assert len(data) < 1024
    assert peer.receive(0, data) == [("failed", 0, FieldsTooLarge)]
    peer.check_credit()


def insert(name, value):
    """Instructions that set a table of 4096 bytes up with one line in it (RFC 9204 4.3)."""
    return (
        b"\x3f\xe1\x1f"
        + bytes([0x40 | len(name)])
        + name
        + b"\x7f"
        + varint7(len(value) - 127)
        + value
    )


def varint7(value):
    out = b""
    while value >= 128:
        out += bytes([value % 128 | 0x80])
        value //= 128
    return out + bytes([value])


def test_a_qpack_bomb_is_not_decoded():
    """64 KB of references to one line of 4,000 bytes would be 260 MB."""
    peer = Peer()
    peer.receive(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 4000))
    decoder = CountingDecoder(peer.http.sections._decoder)
    peer.http.sections._decoder = decoder
    bomb = frame(HEADERS, b"\x02\x00" + b"\x80" * 65_000)
    assert peer.receive(0, bomb, ended=True) == [("failed", 0, FieldsTooLarge)]
    assert decoder.sections == 0
    peer.check_credit()


class CountingDecoder:
    """A decoder that counts the sections it has to decode."""

    def __init__(self, decoder):
        self._decoder = decoder
        self.sections = 0

    def __getattr__(self, name):
        return getattr(self._decoder, name)

    def feed_header(self, stream_id, data):
        self.sections += 1
        return self._decoder.feed_header(stream_id, data)


def test_as_many_lines_as_are_allowed_are_decoded():
    peer = Peer(max_fields=16)
    lines = [*REQUEST, *[(b"x-%d" % i, b"y" * 30) for i in range(12)]]
    assert peer.receive(0, frame(HEADERS, section(lines)))[0][2] == tuple(lines)


def test_a_failed_message_does_not_touch_others():
    peer = Peer(max_field_section_bytes=1024)
    peer.receive(0, b"\x01\x44\x01")
    assert peer.receive(4, HEAD, ended=True) == [head_event(4, ended=True)]


# -- the control stream -------------------------------------------------------------------------


def control(*frames):
    return b"\x00" + b"".join(frames)


def test_the_settings_of_the_peer_are_kept():
    peer = Peer()
    assert peer.http.peer_settings is None
    peer.receive(CONTROL_STREAM, control(frame(SETTINGS, b"\x06\x44\x00\x21\x05")))
    assert peer.http.peer_settings == {0x06: 1024}  # and not what nobody here knows
    peer.check_credit()


@pytest.mark.parametrize(
    "first", [GREASE, GOAWAY, MAX_PUSH_ID, CANCEL_PUSH, DATA, HEADERS, PUSH_PROMISE, 0x02]
)
def test_settings_come_first(first):
    with expect(ErrorCode.MISSING_SETTINGS):
        Peer().receive(CONTROL_STREAM, control(frame(first, b"\x00")))


def test_settings_come_once():
    with expect(ErrorCode.FRAME_UNEXPECTED):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS), frame(SETTINGS)))


@pytest.mark.parametrize("kind", [DATA, HEADERS, PUSH_PROMISE, *RESERVED_HTTP2])
def test_frames_of_requests_do_not_belong_on_the_control_stream(kind):
    with expect(ErrorCode.FRAME_UNEXPECTED):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS), frame(kind, b"x")))


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x03, 0x04, 0x05])
def test_settings_of_http2_are_refused(identifier):
    with expect(ErrorCode.SETTINGS_ERROR):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS, bytes((identifier, 1)))))


def test_a_setting_twice_is_refused():
    with expect(ErrorCode.SETTINGS_ERROR):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS, b"\x06\x05\x06\x05")))


@pytest.mark.parametrize("payload", [b"\x06", b"\x40", b"\x06\x40"])
def test_settings_that_are_cut_off_are_refused(payload):
    with expect(ErrorCode.FRAME_ERROR):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS, payload)))


@pytest.mark.parametrize("kind", [GOAWAY, MAX_PUSH_ID, CANCEL_PUSH])
@pytest.mark.parametrize("payload", [b"", b"\x40", b"\x00\x00"])
def test_frames_with_one_number_have_exactly_one(kind, payload):
    with expect(ErrorCode.FRAME_ERROR):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS), frame(kind, payload)))


def test_a_push_that_was_never_promised_cannot_be_cancelled():
    with expect(ErrorCode.ID_ERROR):
        Peer().receive(CONTROL_STREAM, control(frame(SETTINGS), frame(CANCEL_PUSH, b"\x00")))


@pytest.mark.parametrize(("kind", "first", "second"), [(GOAWAY, 4, 8), (MAX_PUSH_ID, 8, 4)])
def test_limits_of_the_peer_never_go_back(kind, first, second):
    peer = Peer()
    peer.receive(CONTROL_STREAM, control(frame(SETTINGS), frame(kind, bytes([first]))))
    peer.receive(CONTROL_STREAM, frame(kind, bytes([first])))
    with expect(ErrorCode.ID_ERROR):
        peer.receive(CONTROL_STREAM, frame(kind, bytes([second])))


@pytest.mark.parametrize(("kind", "first", "second"), [(GOAWAY, 8, 4), (MAX_PUSH_ID, 4, 8)])
def test_limits_of_the_peer_may_go_on(kind, first, second):
    peer = Peer()
    peer.receive(CONTROL_STREAM, control(frame(SETTINGS), frame(kind, bytes([first]))))
    assert peer.receive(CONTROL_STREAM, frame(kind, bytes([second]))) == []


@pytest.mark.parametrize("kind", [SETTINGS, GOAWAY, MAX_PUSH_ID])
def test_a_control_frame_that_would_have_to_be_stored_is_refused(kind):
    first = b"" if kind == SETTINGS else frame(SETTINGS)
    with expect(ErrorCode.EXCESSIVE_LOAD):
        Peer().receive(CONTROL_STREAM, control(first) + bytes([kind]) + b"\x50\x01")


def test_the_control_stream_may_be_cut_anywhere():
    data = control(
        frame(SETTINGS, b"\x06\x44\x00"),
        frame(GREASE, b"x" * 10),
        frame(GREASE),
        frame(MAX_PUSH_ID, b"\x05"),
        frame(GOAWAY, b"\x04"),
    )
    for cut in range(1, len(data)):
        peer = Peer()
        peer.receive(CONTROL_STREAM, data[:cut])
        peer.receive(CONTROL_STREAM, data[cut:])
        assert peer.http.peer_settings == {0x06: 1024}
        with expect(ErrorCode.ID_ERROR):  # so the last frame was read
            peer.receive(CONTROL_STREAM, frame(GOAWAY, b"\x08"))
        peer.check_credit()
    peer = Peer()
    for byte in data:
        peer.receive(CONTROL_STREAM, bytes([byte]))
    assert peer.http.peer_settings == {0x06: 1024}
    peer.check_credit()


# -- unidirectional streams ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
def test_critical_streams_come_once(kind):
    peer = Peer()
    peer.receive(CONTROL_STREAM, bytes([kind]))
    with expect(ErrorCode.STREAM_CREATION_ERROR):
        peer.receive(ENCODER_STREAM, bytes([kind]))


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
def test_critical_streams_never_end(kind):
    peer = Peer()
    peer.receive(CONTROL_STREAM, bytes([kind]))
    with expect(ErrorCode.CLOSED_CRITICAL_STREAM):
        peer.receive(CONTROL_STREAM, ended=True)


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
def test_critical_streams_are_never_reset(kind):
    peer = Peer()
    peer.receive(CONTROL_STREAM, bytes([kind]))
    with expect(ErrorCode.CLOSED_CRITICAL_STREAM):
        peer.http.receive_reset(CONTROL_STREAM)


@pytest.mark.parametrize("stream_id", [3, 7, 11])
def test_critical_streams_of_this_side_are_never_stopped(stream_id):
    with expect(ErrorCode.CLOSED_CRITICAL_STREAM):
        Peer().http.receive_stop_sending(stream_id)


def test_a_request_may_be_stopped():
    Peer().http.receive_stop_sending(0)


def test_clients_do_not_push():
    with expect(ErrorCode.STREAM_CREATION_ERROR):
        Peer().receive(CONTROL_STREAM, b"\x01")


@pytest.mark.parametrize("kind", [b"\x21", b"\x40\x5f", b"\xc0\x00\x00\x01\x00\x00\x00\x00"])
def test_streams_of_unknown_types_are_ignored(kind):
    peer = Peer()
    for byte in kind:
        assert peer.receive(GREASE_STREAM, bytes([byte])) == []
    assert peer.receive(GREASE_STREAM, b"\x00" * 5000) == []
    assert peer.receive(GREASE_STREAM, b"x", ended=True) == []
    peer.check_credit()
    assert peer.http._unidirectional._open == {}


def test_a_stream_of_an_unknown_type_may_be_reset():
    peer = Peer()
    peer.receive(GREASE_STREAM, b"\x21abc")
    peer.http.receive_reset(GREASE_STREAM)
    assert peer.http._unidirectional._open == {}


@pytest.mark.parametrize("data", [b"", b"\x40"])
def test_a_stream_that_ends_before_its_type_leaves_nothing_behind(data):
    peer = Peer()
    assert peer.receive(GREASE_STREAM, data, ended=True) == []
    assert peer.http._unidirectional._open == {}
    peer.check_credit()


# -- QPACK --------------------------------------------------------------------------------------


class Encoder:
    """A peer that uses the dynamic table, and so makes sections wait for its encoder stream."""

    def __init__(self):
        self._encoder = pylsqpack.Encoder()
        self.instructions = b"\x02" + self._encoder.apply_settings(4096, 16)

    def head(self, stream_id, *, path=b"/dynamic"):
        fields = [*REQUEST[:3], (b":path", path), (b"x-token", b"0123456789" * 3)]
        return frame(HEADERS, self.section(stream_id, fields)), fields

    def section(self, stream_id, fields):
        instructions, encoded = self._encoder.encode(stream_id, fields)
        self.instructions += instructions
        return encoded

    def flush(self):
        data, self.instructions = self.instructions, b""
        return data


def blocked():
    """A peer with a blocked section on stream 0, and the instructions it waits for."""
    encoder = Encoder()
    encoder.head(40)
    head, fields = encoder.head(0)
    peer = Peer()
    assert peer.receive(0, head) == []
    assert peer.http.requests._open[0].blocked
    return peer, encoder, fields


def test_a_blocked_section_comes_when_its_instructions_have():
    peer, encoder, fields = blocked()
    peer.check_credit()
    events = peer.receive(ENCODER_STREAM, encoder.flush())
    assert events == [("head", 0, tuple(fields), False)]
    assert peer.receive(0, ended=True) == [("content", 0, b"", True)]
    peer.check_credit()


def test_what_follows_a_blocked_section_waits_without_credit():
    peer, encoder, fields = blocked()
    data = frame(DATA, b"abc") + TAIL
    assert peer.receive(0, data[:3]) == []
    assert peer.receive(0, data[3:], ended=True) == []
    peer.check_credit(waiting=len(data))
    assert peer.receive(ENCODER_STREAM, encoder.flush()) == [
        ("head", 0, tuple(fields), False),
        ("content", 0, b"abc", False),
        ("trailers", 0, tuple(TRAILERS), True),
    ]
    peer.check_credit()
    assert peer.http.requests._open == {}


def test_what_follows_in_the_same_packet_waits_without_credit():
    encoder = Encoder()
    encoder.head(40)
    head, fields = encoder.head(0)
    peer = Peer()
    rest = frame(DATA, b"abc")
    assert peer.receive(0, head + rest, ended=True) == []
    peer.check_credit(waiting=len(rest))
    events = peer.receive(ENCODER_STREAM, encoder.flush())
    assert merged(events) == ([("head", tuple(fields))], b"abc", True, None)
    peer.check_credit()


def test_trailers_can_be_blocked_too():
    encoder = Encoder()
    lines = [(b"x-long-name", b"0123456789" * 3)]
    encoder.section(40, lines)
    tail = frame(HEADERS, encoder.section(0, lines))
    peer = Peer()
    assert merged(peer.receive(0, HEAD + frame(DATA, b"abc") + tail, ended=True))[1:3] == (
        b"abc",
        False,
    )
    peer.check_credit()
    assert peer.receive(ENCODER_STREAM, encoder.flush()) == [
        ("trailers", 0, tuple(lines), False),
        ("content", 0, b"", True),
    ]
    peer.check_credit()


def test_other_requests_go_on_while_one_is_blocked():
    peer, _, _ = blocked()
    assert peer.receive(4, HEAD, ended=True) == [head_event(4, ended=True)]


def test_a_decoded_section_is_acknowledged():
    peer, encoder, _ = blocked()
    peer.receive(ENCODER_STREAM, encoder.flush())
    assert peer.decoder_stream == b"\x80"  # RFC 9204 4.4.1, stream 0


def test_a_section_that_need_not_wait_is_acknowledged_too():
    encoder = Encoder()
    encoder.head(40)
    head, fields = encoder.head(4)
    peer = Peer()
    peer.receive(ENCODER_STREAM, encoder.flush())
    assert peer.receive(4, head, ended=True) == [("head", 4, tuple(fields), True)]
    assert peer.decoder_stream == b"\x84"
    peer.check_credit()


@pytest.mark.parametrize("how", ["receive_reset", "requests.forget", "requests.discard"])
def test_a_blocked_section_that_is_given_up_is_cancelled_and_gives_its_credit_back(how):
    peer, encoder, _ = blocked()
    peer.receive(ENCODER_STREAM, b"\x02")
    peer.receive(0, frame(DATA, b"abc"))
    attrgetter(how)(peer.http)(0)
    assert peer.decoder_stream == b"\x40"  # RFC 9204 4.4.2, stream 0
    peer.check_credit()
    assert peer.receive(ENCODER_STREAM, encoder.flush()[1:]) == []
    peer.check_credit()


def test_a_blocked_request_that_has_ended_is_forgotten_when_it_is_discarded():
    peer, _, _ = blocked()
    peer.receive(0, ended=True)
    peer.http.requests.discard(0)
    assert peer.http.requests._open == {}


def test_a_blocked_section_over_its_limit_fails_when_it_is_decoded():
    encoder = Encoder()
    lines = [(b"x-long-name", b"0123456789" * 30)]
    encoder.section(40, lines)
    encoder.section(44, lines)
    data = frame(HEADERS, encoder.section(0, lines * 4)) + frame(DATA, b"abc")
    peer = Peer(max_field_section_bytes=1024)
    assert peer.receive(0, data, ended=True) == []
    assert peer.http.requests._open[0].blocked
    assert peer.receive(ENCODER_STREAM, encoder.flush()) == [("failed", 0, FieldsTooLarge)]
    peer.check_credit()
    assert peer.http.requests._open == {}


def test_giving_up_a_request_is_told_to_the_encoder_once():
    peer = Peer()
    peer.receive(0, HEAD)
    peer.http.requests.discard(0)
    assert peer.decoder_stream == b"\x40"
    peer.receive(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 200))
    peer.receive(4, HEAD)
    peer.http.requests.discard(4)
    peer.http.requests.discard(4)
    assert peer.decoder_stream == b"\x40\x44"


def test_a_request_that_is_reset_before_any_of_it_has_come_is_told_to_the_encoder():
    peer = Peer()
    peer.http.receive_reset(0)
    assert peer.decoder_stream == b"\x40"


@pytest.mark.parametrize("how", ["receive_reset", "requests.discard"])
@pytest.mark.parametrize("begun", [b"", b"\x02"], ids=["no encoder stream", "an encoder stream"])
def test_instructions_may_come_after_the_section_that_waited_for_them_was_given_up(how, begun):
    peer, encoder, _ = blocked()
    other, fields = encoder.head(4)
    assert peer.receive(4, other, ended=True) == []
    if begun:
        peer.receive(ENCODER_STREAM, begun)
    attrgetter(how)(peer.http)(0)
    events = peer.receive(ENCODER_STREAM, encoder.flush()[len(begun) :])
    assert merged(events) == ([("head", tuple(fields))], b"", True, None)
    peer.check_credit()


def test_sections_that_are_given_up_do_not_count_as_blocked():
    peer = Peer()
    for stream_id in range(0, 4 * 100, 4):
        assert peer.receive(stream_id, frame(HEADERS, b"\x02\x00\x80")) == []
        peer.http.receive_reset(stream_id)
    assert peer.receive(400, frame(HEADERS, b"\x02\x00\x80")) == []


def test_a_decoder_stream_that_was_stopped_is_not_written_to():
    peer, encoder, fields = blocked()
    peer.quic.stopped.add(11)
    assert peer.receive(ENCODER_STREAM, encoder.flush())[0][2] == tuple(fields)
    peer.http.requests.discard(0)
    assert peer.decoder_stream == b""


def test_an_empty_section_is_a_section():
    peer = Peer()
    empty = frame(HEADERS, b"\0\0")
    assert peer.receive(0, HEAD + empty, ended=True)[1] == ("trailers", 0, (), True)
    assert peer.receive(4, empty, ended=True) == [("head", 4, (), True)]
    peer.check_credit()


def test_more_blocked_streams_than_promised_end_the_connection():
    encoder = Encoder()
    heads = [encoder.head(stream_id)[0] for stream_id in range(0, 4 * 20, 4)]
    peer = Peer()
    with expect(ErrorCode.QPACK_DECOMPRESSION_FAILED):
        for number, head in enumerate(heads):
            peer.receive(4 * number, b"\x01\x03\x02\x00\x80" if number else head)


@pytest.mark.parametrize("prefix", [b"\0\0", b"\0\x05", b"\0\x7f\x80\x00"], ids=bytes.hex)
def test_a_section_may_be_empty_whatever_its_base(prefix):
    peer = Peer()
    peer.receive(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 200))
    assert peer.receive(0, HEAD + frame(HEADERS, prefix), ended=True)[1:] == [
        ("trailers", 0, (), True)
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00\x00\xff\xff\xff\xff",
        b"\x00\x00\x80",
        b"\xff" * 12,
        *(b"", b"\x00", b"\xff", b"\x00\x00\x21", b"\x00\x00\x21a\x05ab"),
        b"\x00\x80",  # RFC 9204 4.5.1.2: a Base below zero
        b"\x00\x00\xff\x24",  # static line 99
        b"\x00\x00\x51\x81\x18",  # Huffman code with zeros as padding (RFC 7541 5.2)
        b"\x00\x00\x51\x82\x1f\xff",  # or with a byte of it
        b"\x00\x00\x51\x84\xff\xff\xff\xff",  # or with EOS
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("nameless", [b"", b"\x20\x01x"], ids=["", "after a line without a name"])
@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
def test_an_undecodable_section_ends_the_connection(payload, nameless, ended):
    payload = payload[:2] + nameless + payload[2:] if len(payload) > 2 else payload
    with expect(ErrorCode.QPACK_DECOMPRESSION_FAILED):
        Peer().receive(0, frame(HEADERS, payload), ended=ended)


NAMELESS = {
    "literal": b"\x20\x01v",
    "Huffman": b"\x28\x01v",
    "never indexed": b"\x30\x01v",
    "without a value": b"\x20\x00",
    "after others": b"\xd1\x21a\x01b\x51\x00\x20\x01v",
    "before others": b"\x20\x01v\xd1\x21a\x01b",
    "twice": b"\x20\x01v\x20\x01v",
    "with an instruction's bytes as its value": b"\x20\x02\x20\x20",
}


@pytest.mark.parametrize("lines", NAMELESS.values(), ids=NAMELESS.keys())
def test_a_field_without_a_name_fails_its_message_alone(lines):
    peer = Peer()
    data = frame(HEADERS, b"\0\0" + lines)
    assert peer.receive(0, data, ended=True) == [("failed", 0, MalformedMessage)]
    assert peer.receive(4, HEAD + data, ended=True)[-1] == ("failed", 4, MalformedMessage)
    assert peer.receive(8, HEAD, ended=True) == [head_event(8, ended=True)]
    peer.check_credit()


@pytest.mark.parametrize("lines", NAMELESS.values(), ids=NAMELESS.keys())
def test_a_field_without_a_name_that_had_to_wait_fails_its_message_alone(lines):
    peer = Peer()
    assert peer.receive(0, frame(HEADERS, b"\x02\0\x80" + lines) + b"\0\3abc") == []
    events = peer.receive(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 200))
    assert events == [("failed", 0, MalformedMessage)]
    assert peer.decoder_stream == b"\x40"
    assert peer.receive(4, frame(HEADERS, b"\x02\0\x80"), ended=True)[0][:2] == ("head", 4)
    peer.check_credit()


@pytest.mark.parametrize("text", ["value", "name"])
def test_a_line_that_is_longer_than_the_library_decodes_is_too_large(text):
    # RFC 7541 appendix B: eight times "a" are five bytes.
    code = b"\x18\xc6\x31\x8c\x63" * 8192
    size = varint7(len(code) - 127 if text == "value" else len(code) - 7)
    line = b"\x51\xff" + size + code if text == "value" else b"\x2f" + size + code + b"\x01v"
    peer = Peer()
    data = frame(HEADERS, b"\0\0" + line)
    assert peer.receive(0, data, ended=True) == [("failed", 0, FieldsTooLarge)]


def test_a_line_that_is_longer_than_the_library_decodes_is_too_large_under_any_limit():
    peer = Peer(max_field_section_bytes=1 << 20)
    data = frame(HEADERS, section(REQUEST) + b"\x21x\x7f" + varint7(65_536 - 127) + b"v" * 65_536)
    assert peer.receive(0, data, ended=True) == [("failed", 0, FieldsTooLarge)]


def test_a_section_that_is_undecodable_after_its_wait_ends_the_connection():
    peer = Peer()
    # Required Insert Count 1, but a reference to an entry that does not exist.
    peer.receive(0, frame(HEADERS, b"\x02\x00\xbf\x20"))
    assert peer.http.requests._open[0].blocked
    with expect(ErrorCode.QPACK_DECOMPRESSION_FAILED):
        peer.receive(ENCODER_STREAM, b"\x02" + insert(b"a", b"x" * 200))


@pytest.mark.parametrize("instruction", [b"\x3f\xff\xff\x7f", b"\x80\x00", b"\x05"])
def test_a_bad_encoder_instruction_ends_the_connection(instruction):
    with expect(ErrorCode.QPACK_ENCODER_STREAM_ERROR):
        Peer().receive(ENCODER_STREAM, b"\x02" + instruction)


@pytest.mark.parametrize("instruction", [b"\x84", b"\x01", b"\x00"])
def test_an_acknowledgement_of_nothing_ends_the_connection(instruction):
    with expect(ErrorCode.QPACK_DECODER_STREAM_ERROR):
        Peer().receive(DECODER_STREAM, b"\x03" + instruction)


def test_a_cancelled_stream_is_no_error():
    peer = Peer()
    assert peer.receive(DECODER_STREAM, b"\x03\x44") == []
    peer.check_credit()


# -- giving up ----------------------------------------------------------------------------------


def test_discarded_content_gets_its_credit_and_no_event():
    peer = Peer()
    peer.receive(0, HEAD + b"\x00\x44\x00" + b"x" * 100)
    peer.http.requests.discard(0)
    assert peer.receive(0, b"x" * 500) == []
    assert peer.receive(0, b"not even frames", ended=True) == []
    peer.check_credit()
    assert peer.http.requests._open == {}


def test_a_discarded_request_does_not_hold_what_was_incomplete():
    peer = Peer()
    peer.receive(0, HEAD[:-1])
    peer.http.requests.discard(0)
    assert peer.http.requests._open[0].unfinished.take() == b""
    peer.check_credit()


def test_discarding_what_has_ended_does_nothing():
    peer = Peer()
    peer.receive(0, HEAD, ended=True)
    peer.http.requests.discard(0)
    peer.http.requests.forget(0)
    peer.check_credit()


def test_a_reset_forgets_the_request():
    peer = Peer()
    peer.receive(0, HEAD[:5])
    peer.http.receive_reset(0)
    assert peer.http.requests._open == {}
    peer.check_credit()


def test_a_finished_request_leaves_nothing_behind():
    peer = Peer()
    peer.receive(0, HEAD + frame(DATA, b"abc") + TAIL, ended=True)
    assert peer.http.requests._open == {}


# -- requests that come again -------------------------------------------------------------------


def test_a_request_that_comes_again_is_the_same_event():
    peer = Peer()
    for stream_id in (0, 4, 8):
        assert peer.receive(stream_id, HEAD, ended=True) == [head_event(stream_id, ended=True)]
    assert peer.http.requests.next_id == 12
    peer.check_credit()


def test_a_section_that_comes_again_refers_to_what_the_table_has_then():
    encoder = Encoder()
    encoder.head(40)
    head, _ = encoder.head(4)
    peer = Peer()
    peer.receive(ENCODER_STREAM, encoder.flush())
    peer.receive(4, head, ended=True)
    # RFC 9204 4.3.1: without capacity nothing is left in the table that it could refer to.
    peer.receive(ENCODER_STREAM, b"\x20")
    with pytest.raises(H3ConnectionError) as caught:
        peer.receive(8, head, ended=True)
    assert caught.value.code is ErrorCode.QPACK_DECOMPRESSION_FAILED


def test_a_section_that_is_too_large_is_refused_again():
    peer = Peer(max_fields=2)
    for stream_id in (0, 4):
        assert peer.receive(stream_id, HEAD, ended=True) == [("failed", stream_id, FieldsTooLarge)]
