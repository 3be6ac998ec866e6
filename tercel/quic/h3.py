"""HTTP/3 framing of one connection (RFC 9114 6, 7; RFC 9204): stream bytes in, events out.

Sans-I/O and unaware of applications. aioquic's own HTTP/3 layer is not used, because it ends the
connection over one malformed message and puts no limit on a field section.

A fault of the whole connection raises H3ConnectionError; a fault of one message is a
MessageFailed event, so the other requests go on.
"""

import pylsqpack

from tercel.quic.budget import DRIBBLE_BYTES, Budgets, Flood
from tercel.quic.connection import QuicServerConnection
from tercel.quic.errors import ErrorCode, H3ConnectionError
from tercel.quic.fields import check_section_size, sendable
from tercel.quic.qpack import TableSizes, section_acknowledgment
from tercel.quic.varint import encode_varint
from tercel.shared.errors import FieldsTooLarge, IncompleteMessage, RemoteProtocolError
from tercel.shared.messages import Field, Fields, RequestHead
from tercel.shared.settings import Settings

# Frame types (RFC 9114 11.2.1).
DATA = 0x00
HEADERS = 0x01
CANCEL_PUSH = 0x03
SETTINGS = 0x04
PUSH_PROMISE = 0x05
GOAWAY = 0x07
MAX_PUSH_ID = 0x0D
_CONTROL_ONLY = frozenset((CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID))
# RFC 9114 7.2.8: HTTP/2 frames without a counterpart here.
_RESERVED_FRAMES = frozenset((0x02, 0x06, 0x08, 0x09))

# Settings (RFC 9114 7.2.4.1, RFC 9204 5).
QPACK_MAX_TABLE_CAPACITY = 0x01
MAX_FIELD_SECTION_SIZE = 0x06
QPACK_BLOCKED_STREAMS = 0x07
ENABLE_CONNECT_PROTOCOL = 0x08  # RFC 9220 3
_RESERVED_SETTINGS = frozenset((0x00, 0x02, 0x03, 0x04, 0x05))
_TABLE_CAPACITY_BYTES = 4096
_BLOCKED_STREAMS = 16
# Legal (RFC 9204 4.5), for trailers for instance, but ls-qpack takes it for a broken one.
_EMPTY_SECTION = b"\0\0"

# Unidirectional stream types (RFC 9114 6.2).
_CONTROL_STREAM = 0x00
_PUSH_STREAM = 0x01
_ENCODER_STREAM = 0x02
_DECODER_STREAM = 0x03

# The frames of a control stream are short; a longer one that has to be read whole is an attack.
_MAX_CONTROL_FRAME_BYTES = 4096

# Requests that are recognised by their bytes, and how many bytes those may be.
_MOST_KNOWN = 16
_MOST_KNOWN_BYTES = 512

# Sections that were sent. Most responses of one second, and so of one date, begin alike; found
# here, one takes 1 us instead of 4. They are the same on every connection: no table is used.
_MOST_ENCODED = 128
_ENCODED: dict[tuple[Field, ...], bytes] = {}

# Frames to be ignored that a request may bring before they cost its connection's budget: clients
# send one now and then to keep servers from choking on them (RFC 9114 7.2.8).
_FREE_FRAMES = 8


class KnownRequest:
    """A request of one HEADERS frame and nothing else, which came on this connection before."""

    __slots__ = ("fields", "head", "refers")

    def __init__(self, fields: Fields, refers: bool) -> None:
        self.fields = fields
        """Not to be changed: whoever sends the same bytes again gets the same list."""
        self.refers = refers
        """Whether it needs the dynamic table, and so has to be acknowledged."""
        self.head: tuple[RequestHead, int | None] | None = None
        """What the receiver of the event made of it, for the next time."""


class SectionReceived:
    """A decoded header section, or the trailer section when `trailing`."""

    __slots__ = ("ended", "fields", "known", "stream_id", "trailing")

    def __init__(self, stream_id: int, fields: Fields, trailing: bool, ended: bool) -> None:
        self.stream_id = stream_id
        self.fields = fields
        self.trailing = trailing
        self.ended = ended
        self.known: KnownRequest | None = None


class ContentReceived:
    """Content of a message; `ended` says that its stream has ended, and `data` may be empty."""

    __slots__ = ("data", "ended", "stream_id")

    def __init__(self, stream_id: int, data: bytes, ended: bool) -> None:
        self.stream_id = stream_id
        self.data = data
        self.ended = ended


class MessageFailed:
    """The message on this stream is malformed or too large; nothing more comes of it."""

    __slots__ = ("error", "stream_id")

    def __init__(self, stream_id: int, error: RemoteProtocolError) -> None:
        self.stream_id = stream_id
        self.error = error


H3Event = SectionReceived | ContentReceived | MessageFailed


class _RequestFrames:
    """Where the parser stands on one request stream."""

    __slots__ = (
        "blocked",
        "buffer",
        "discarding",
        "ended",
        "frame_left",
        "frame_type",
        "ignored",
        "section",
        "sections",
    )

    def __init__(self) -> None:
        self.buffer = b""
        """The beginning of a frame header, or of a HEADERS frame, that is not complete."""
        self.frame_type: int | None = None
        """The frame inside which parsing stopped: DATA or one to ignore; None between frames."""
        self.frame_left = 0
        """Bytes of that frame still to come."""
        self.sections = 0
        """Field sections so far: 1 after the header section, 2 after the trailers."""
        self.ended = False
        self.blocked = False
        """A section waits for the QPACK encoder stream; `buffer` holds what came after it."""
        self.section = b""
        """That section, still encoded."""
        self.discarding = False
        self.ignored = 0
        """Frames that were empty or unknown."""


class H3Connection:
    """The HTTP/3 half of a connection. Created once ALPN has chosen h3; sends SETTINGS at once."""

    def __init__(
        self, quic: QuicServerConnection, settings: Settings, budgets: Budgets | None = None
    ) -> None:
        self._quic = quic
        self._budgets = budgets or Budgets()
        self._table = TableSizes(_TABLE_CAPACITY_BYTES, self._budgets)
        self._max_section = settings.max_field_section_bytes
        self._max_fields = settings.max_fields
        self._decoder = pylsqpack.Decoder(_TABLE_CAPACITY_BYTES, _BLOCKED_STREAMS)
        # Without a dynamic table a section encodes to the same bytes on every connection, needs
        # no acknowledgement and never waits for another stream.
        self._encoder = pylsqpack.Encoder()
        self._instructions: list[bytes] = []
        self._table_in_use = False
        self._requests: dict[int, _RequestFrames] = {}
        # Valid until the dynamic table changes.
        self._known: dict[bytes, KnownRequest] = {}
        self._uni: dict[int, tuple[int | None, bytes]] = {}
        self._critical: dict[int, int] = {}
        self._ignored_left: dict[int, int] = {}
        self._announced_ids: dict[int, int] = {}
        self.peer_settings: dict[int, int] | None = None
        """The client's SETTINGS, None until they have come."""
        self.next_request_id = 0
        """One above the highest request stream seen: what GOAWAY names (RFC 9114 5.2)."""
        self._control_id = self._open_uni(_CONTROL_STREAM)
        quic.send_stream_data(
            self._control_id,
            encode_frame(
                SETTINGS,
                b"".join(
                    encode_varint(item)
                    for pair in (
                        (QPACK_MAX_TABLE_CAPACITY, _TABLE_CAPACITY_BYTES),
                        (MAX_FIELD_SECTION_SIZE, self._max_section),
                        (QPACK_BLOCKED_STREAMS, _BLOCKED_STREAMS),
                        (ENABLE_CONNECT_PROTOCOL, 1),
                    )
                    for item in pair
                ),
            ),
        )
        self._open_uni(_ENCODER_STREAM)
        self._decoder_id = self._open_uni(_DECODER_STREAM)

    # -- sending ------------------------------------------------------------------------------

    def encode_section(self, stream_id: int, fields: Fields) -> bytes:
        """`fields` as a HEADERS frame, without what HTTP/3 forbids."""
        lines = tuple(fields)
        frame = _ENCODED.get(lines)
        if frame is None:
            _, section = self._encoder.encode(stream_id, sendable(fields))
            frame = encode_frame(HEADERS, section)
            if len(frame) <= _MOST_KNOWN_BYTES:
                if len(_ENCODED) >= _MOST_ENCODED:
                    _ENCODED.clear()
                _ENCODED[lines] = frame
        return frame

    def send_goaway(self) -> None:
        """Tell the peer which requests will not be served: those not seen yet (RFC 9114 5.2)."""
        self._quic.send_stream_data(
            self._control_id, encode_frame(GOAWAY, encode_varint(self.next_request_id))
        )

    def send_instructions(self) -> None:
        """Write what the QPACK encoder is to be told: once per turn, as each takes one byte."""
        if not self._instructions:
            return
        data = b"".join(self._instructions)
        self._instructions.clear()
        # A peer that stops this stream ends the connection, but that event may still be queued.
        if self._quic.can_send(self._decoder_id):
            self._quic.send_stream_data(self._decoder_id, data)

    # -- receiving ----------------------------------------------------------------------------

    def receive_data(self, stream_id: int, data: bytes, ended: bool) -> list[H3Event]:
        """Take the next `data` of a stream.

        Everything but content is consumed here, and its credit granted; the credit for content is
        the caller's to grant when the application has read it.
        """
        if stream_id & 2:
            self._quic.grant(stream_id, len(data))
            return self._receive_uni(stream_id, data, ended)
        frames = self._requests.get(stream_id)
        is_whole = ended and frames is None
        if is_whole and data in self._known:
            return [self._repeated(stream_id, data)]
        if frames is None:
            frames = self._requests[stream_id] = _RequestFrames()
            self.next_request_id = max(self.next_request_id, stream_id + 4)
        events: list[H3Event] = []
        self._receive_request(stream_id, frames, data, ended, events)
        if is_whole and len(data) <= _MOST_KNOWN_BYTES:
            self._remember(data, events)
        return events

    def receive_reset(self, stream_id: int) -> None:
        """The peer reset its side of a stream."""
        if stream_id & 2:
            if stream_id in self._critical:
                raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream reset")
            if self._uni.pop(stream_id, None) is None:
                self._budgets.spend(Flood.STREAMS)
        else:
            self.forget(stream_id)

    def receive_stop_sending(self, stream_id: int) -> None:
        """The peer asked to stop one of this side's streams."""
        if stream_id & 3 == 3:  # all that this side opens are critical
            raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream stopped")

    def is_discarding(self, stream_id: int) -> bool:
        """Whether a request stream was given up by this side while it was still coming."""
        frames = self._requests.get(stream_id)
        return frames is not None and frames.discarding

    def awaits_head(self, stream_id: int) -> bool:
        """Whether the header section of a request stream has still to come."""
        frames = self._requests.get(stream_id)
        return frames is None or not (frames.sections or frames.discarding)

    def discard(self, stream_id: int) -> None:
        """Drop, and give credit for, all that still comes on a request stream."""
        frames = self._requests.get(stream_id)
        if frames is not None:
            self._abandon(stream_id, frames)
            if frames.ended:
                del self._requests[stream_id]

    def forget(self, stream_id: int) -> None:
        """Nothing comes on a request stream any more."""
        frames = self._requests.pop(stream_id, None)
        if frames is not None:
            self._abandon(stream_id, frames)

    # -- request streams ------------------------------------------------------------------------

    def _remember(self, data: bytes, events: list[H3Event]) -> None:
        """Keep what became of a whole request, if that is one HEADERS frame and was served."""
        header = frame_header(data, 0)
        if header is None or header[0] != HEADERS or header[1] + header[2] != len(data):
            return
        if len(events) == 1 and isinstance(event := events[0], SectionReceived):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            # RFC 9204 4.5.1.1: the Required Insert Count comes first, and 0 is a zero byte.
            self._known[data] = KnownRequest(event.fields, refers=data[header[2]] != 0)

    def _repeated(self, stream_id: int, data: bytes) -> SectionReceived:
        """The event for bytes that are known. Saves 8 of 50 us of a small request."""
        self.next_request_id = max(self.next_request_id, stream_id + 4)
        self._quic.grant(stream_id, len(data))
        known = self._known[data]
        if known.refers:
            self._send_instructions(section_acknowledgment(stream_id))
        event = SectionReceived(stream_id, known.fields, False, True)
        event.known = known
        return event

    def _receive_request(
        self,
        stream_id: int,
        frames: _RequestFrames,
        data: bytes,
        ended: bool,
        events: list[H3Event],
    ) -> None:
        if ended:
            frames.ended = True
        if frames.blocked:
            # Not parsed yet, so no credit either: the stream's window bounds this.
            frames.buffer += data
            return
        content_size = 0
        if not frames.discarding:
            try:
                content_size = self._parse(stream_id, frames, data, events)
            except RemoteProtocolError as error:
                if isinstance(error, H3ConnectionError):
                    raise
                self._abandon(stream_id, frames)
                content_size = 0
                events[:] = [MessageFailed(stream_id, error)]
        uncredited = content_size + (len(frames.buffer) if frames.blocked else 0)
        if len(data) > uncredited:
            self._quic.grant(stream_id, len(data) - uncredited)
        if frames.ended and not frames.blocked:
            self._end_request(stream_id, frames, events)

    def _end_request(self, stream_id: int, frames: _RequestFrames, events: list[H3Event]) -> None:
        self._requests.pop(stream_id, None)
        if frames.discarding:
            return
        if frames.buffer or (frames.frame_type is not None and frames.frame_left):
            # RFC 9114 7.1: a frame that the end of the stream cuts off.
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, "stream ended inside a frame")
        if frames.sections == 0:
            events.append(MessageFailed(stream_id, IncompleteMessage("no header section")))
        elif events and not isinstance(events[-1], MessageFailed):
            events[-1].ended = True
        else:
            events.append(ContentReceived(stream_id, b"", True))

    def _parse(
        self, stream_id: int, frames: _RequestFrames, data: bytes, events: list[H3Event]
    ) -> int:
        """Parse as far as `data` reaches; returns how many content bytes went into `events`."""
        content_size = 0
        if frames.buffer:
            data = frames.buffer + data
            frames.buffer = b""
        position, end = 0, len(data)
        while position < end:
            if frames.frame_type is not None:
                size = min(frames.frame_left, end - position)
                if frames.frame_type == DATA:
                    content = data[position : position + size]
                    events.append(ContentReceived(stream_id, content, False))
                    content_size += size
                position += size
                frames.frame_left -= size
                if not frames.frame_left:
                    frames.frame_type = None
                continue
            header = frame_header(data, position)
            if header is None:
                frames.buffer = data[position:]
                break
            frame_type, length, payload = header
            if frame_type == HEADERS:
                self._check_headers_allowed(frames, length)
                if payload + length > end:
                    frames.buffer = data[position:]
                    break
                position = payload + length
                section = self._decode(stream_id, frames, data[payload:position])
                if section is None:
                    frames.buffer = data[position:]
                    break
                events.append(self._section_event(stream_id, frames, section))
                continue
            self._check_frame_allowed(frames, frame_type)
            self._count_frame(frames, frame_type, length)
            if length:
                frames.frame_type, frames.frame_left = frame_type, length
            position = payload
        return content_size

    def _count_frame(self, frames: _RequestFrames, frame_type: int, length: int) -> None:
        """Bound what costs a client two bytes and this side a turn of a loop."""
        if frame_type == DATA and length:
            if length < DRIBBLE_BYTES:
                self._budgets.spend(Flood.DRIBBLE)
            return
        frames.ignored += 1
        if frames.ignored > _FREE_FRAMES:
            self._budgets.spend(Flood.FRAMES)

    def _check_headers_allowed(self, frames: _RequestFrames, length: int) -> None:
        if frames.sections == 2:
            raise H3ConnectionError(ErrorCode.FRAME_UNEXPECTED, "HEADERS after the trailers")
        # Checked before the section is buffered. Encoded, it is smaller than decoded.
        if length > self._max_section:
            raise FieldsTooLarge(f"encoded field section of {length} bytes")

    def _check_frame_allowed(self, frames: _RequestFrames, frame_type: int) -> None:
        if frame_type == DATA:
            if frames.sections != 1:
                raise H3ConnectionError(
                    ErrorCode.FRAME_UNEXPECTED, "DATA before the header section or after trailers"
                )
        elif (
            frame_type in _CONTROL_ONLY
            or frame_type in _RESERVED_FRAMES
            or frame_type == PUSH_PROMISE
        ):
            raise H3ConnectionError(
                ErrorCode.FRAME_UNEXPECTED, f"frame 0x{frame_type:x} on a request stream"
            )
        # RFC 9114 9: every other frame is unknown here, and ignored.

    def _section_event(
        self, stream_id: int, frames: _RequestFrames, fields: Fields
    ) -> SectionReceived:
        check_section_size(fields, max_bytes=self._max_section, max_fields=self._max_fields)
        frames.sections += 1
        return SectionReceived(stream_id, fields, frames.sections == 2, False)

    # -- QPACK --------------------------------------------------------------------------------

    def _decode(self, stream_id: int, frames: _RequestFrames, section: bytes) -> Fields | None:
        """Decode a section; None when it has to wait for the encoder stream."""
        if section == _EMPTY_SECTION:
            return []
        self._check_decoded_size(section)
        try:
            instructions, fields = self._decoder.feed_header(stream_id, section)
        except pylsqpack.StreamBlocked:
            frames.blocked = True
            frames.section = section
            return None
        except pylsqpack.DecompressionFailed as error:
            raise H3ConnectionError(
                ErrorCode.QPACK_DECOMPRESSION_FAILED, "undecodable field section"
            ) from error
        if instructions:
            self._send_instructions(instructions)
        return fields

    def _check_decoded_size(self, section: bytes) -> None:
        """Refuse what would be too large, before it is decoded."""
        # A section of n bytes has n lines at the most: most are too short to be looked through.
        if len(section) * self._table.largest <= self._max_section:
            return
        measure = self._table.measure(section, max_lines=self._max_fields)
        if measure.lines > self._max_fields:
            raise FieldsTooLarge(f"over {self._max_fields} field lines")
        if measure.size > self._max_section:
            raise FieldsTooLarge(f"field section of {measure.size} bytes or more")

    def _receive_encoder_instructions(self, data: bytes) -> list[H3Event]:
        self._table_in_use = True
        self._known.clear()
        self._table.receive(data)
        try:
            unblocked = self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError as error:
            raise H3ConnectionError(
                ErrorCode.QPACK_ENCODER_STREAM_ERROR, "bad encoder instruction"
            ) from error
        events: list[H3Event] = []
        for stream_id in unblocked:
            events.extend(self._resume(stream_id, self._requests[stream_id]))
        return events

    def _resume(self, stream_id: int, frames: _RequestFrames) -> list[H3Event]:
        try:
            # Only now it is known what its references stand for.
            self._check_decoded_size(frames.section)
        except FieldsTooLarge as error:
            self._abandon(stream_id, frames)
            if frames.ended:
                self._requests.pop(stream_id, None)
            return [MessageFailed(stream_id, error)]
        frames.section = b""
        try:
            instructions, fields = self._decoder.resume_header(stream_id)
        except pylsqpack.DecompressionFailed as error:
            raise H3ConnectionError(
                ErrorCode.QPACK_DECOMPRESSION_FAILED, "undecodable field section"
            ) from error
        self._send_instructions(instructions)
        frames.blocked = False
        waiting, frames.buffer = frames.buffer, b""
        events: list[H3Event] = []
        try:
            events.append(self._section_event(stream_id, frames, fields))
        except FieldsTooLarge as error:
            self._abandon(stream_id, frames)
            events.append(MessageFailed(stream_id, error))
        rest: list[H3Event] = []
        self._receive_request(stream_id, frames, waiting, frames.ended, rest)
        return events + rest

    def _abandon(self, stream_id: int, frames: _RequestFrames) -> None:
        """Read no more of a request stream, and give credit for what waits to be parsed."""
        if frames.discarding:
            return
        frames.discarding = True
        if frames.blocked:
            frames.blocked = False
            self._quic.grant(stream_id, len(frames.buffer))
        frames.buffer = frames.section = b""
        if self._table_in_use:
            # RFC 9204 4.4.2: the encoder must not wait for sections that nobody will read.
            self._send_instructions(self._decoder.cancel_stream(stream_id))

    def _send_instructions(self, data: bytes) -> None:
        self._instructions.append(data)

    # -- unidirectional streams ---------------------------------------------------------------

    def _receive_uni(self, stream_id: int, data: bytes, ended: bool) -> list[H3Event]:
        stream_type, buffer = self._uni.get(stream_id, (None, b""))
        data = buffer + data
        if stream_type is None:
            header = read_varint(data, 0)
            if header is None:
                if ended:  # RFC 9114 6.2: it may end before it has said its type
                    self._uni.pop(stream_id, None)
                    self._budgets.spend(Flood.STREAMS)
                else:
                    self._uni[stream_id] = (None, data)
                return []
            stream_type, position = header
            data = data[position:]
            self._uni[stream_id] = (stream_type, b"")
            self._budgets.spend(Flood.STREAMS)
            self._begin_uni(stream_id, stream_type)
        if ended and stream_id in self._critical:
            raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream closed")
        if ended:
            self._uni.pop(stream_id, None)
        if stream_type == _CONTROL_STREAM:
            self._uni[stream_id] = (stream_type, self._receive_control(stream_id, data))
        elif stream_type == _ENCODER_STREAM:
            return self._receive_encoder_instructions(data)
        elif stream_type == _DECODER_STREAM:
            try:
                self._encoder.feed_decoder(data)
            except pylsqpack.DecoderStreamError as error:
                raise H3ConnectionError(
                    ErrorCode.QPACK_DECODER_STREAM_ERROR, "bad decoder instruction"
                ) from error
        # RFC 9114 6.2: a stream of another type is unknown here; what it brings is dropped.
        return []

    def _begin_uni(self, stream_id: int, stream_type: int) -> None:
        if stream_type == _PUSH_STREAM:
            raise H3ConnectionError(ErrorCode.STREAM_CREATION_ERROR, "push stream from a client")
        if stream_type in (_CONTROL_STREAM, _ENCODER_STREAM, _DECODER_STREAM):
            if stream_type in self._critical.values():
                raise H3ConnectionError(
                    ErrorCode.STREAM_CREATION_ERROR, f"second stream of type {stream_type}"
                )
            self._critical[stream_id] = stream_type

    def _receive_control(self, stream_id: int, data: bytes) -> bytes:
        """Handle the frames of the control stream; returns what is incomplete."""
        left = self._ignored_left.pop(stream_id, 0)
        position = min(left, len(data))
        if left > position:
            self._ignored_left[stream_id] = left - position
        while position < len(data):
            header = frame_header(data, position)
            if header is None:
                break
            frame_type, length, payload = header
            if self.peer_settings is None and frame_type != SETTINGS:
                raise H3ConnectionError(ErrorCode.MISSING_SETTINGS, "first frame is not SETTINGS")
            self._check_control_frame(frame_type, length)
            if frame_type != SETTINGS:
                self._budgets.spend(Flood.FRAMES)
            if frame_type not in _CONTROL_ONLY:
                position = payload + length
                if position > len(data):
                    self._ignored_left[stream_id] = position - len(data)
                    return b""
                continue
            if payload + length > len(data):
                break
            self._handle_control_frame(frame_type, data[payload : payload + length])
            position = payload + length
        return data[position:]

    def _check_control_frame(self, frame_type: int, length: int) -> None:
        if frame_type in (DATA, HEADERS, PUSH_PROMISE) or frame_type in _RESERVED_FRAMES:
            raise H3ConnectionError(
                ErrorCode.FRAME_UNEXPECTED, f"frame 0x{frame_type:x} on the control stream"
            )
        if frame_type in _CONTROL_ONLY and length > _MAX_CONTROL_FRAME_BYTES:
            raise H3ConnectionError(ErrorCode.EXCESSIVE_LOAD, f"control frame of {length} bytes")

    def _handle_control_frame(self, frame_type: int, payload: bytes) -> None:
        if frame_type == SETTINGS:
            if self.peer_settings is not None:
                raise H3ConnectionError(ErrorCode.FRAME_UNEXPECTED, "second SETTINGS")
            self.peer_settings = parse_settings(payload)
            return
        # GOAWAY, MAX_PUSH_ID and CANCEL_PUSH concern pushes, which this server never makes.
        value = read_varint(payload, 0)
        if value is None or value[1] != len(payload):
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, f"bad frame 0x{frame_type:x}")
        if frame_type == CANCEL_PUSH:
            raise H3ConnectionError(ErrorCode.ID_ERROR, "CANCEL_PUSH of a push never promised")
        # RFC 9114 5.2, 7.2.7: GOAWAY never names a larger ID, MAX_PUSH_ID never a smaller one.
        known = self._announced_ids.setdefault(frame_type, value[0])
        if value[0] > known if frame_type == GOAWAY else value[0] < known:
            raise H3ConnectionError(ErrorCode.ID_ERROR, f"frame 0x{frame_type:x} goes back")
        self._announced_ids[frame_type] = value[0]

    def _open_uni(self, stream_type: int) -> int:
        stream_id: int = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(stream_id, encode_varint(stream_type))
        return stream_id


def encode_frame(frame_type: int, payload: bytes) -> bytes:
    """A whole frame (RFC 9114 7.1)."""
    return encode_varint(frame_type) + encode_varint(len(payload)) + payload


def frame_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Type, length and payload position of the frame at `position`; None if that is cut off."""
    frame_type = read_varint(data, position)
    if frame_type is None:
        return None
    length = read_varint(data, frame_type[1])
    if length is None:
        return None
    return frame_type[0], length[0], length[1]


def read_varint(data: bytes, position: int) -> tuple[int, int] | None:
    """The variable-length integer at `position` and the position after it (RFC 9000 16)."""
    if position >= len(data):
        return None
    first = data[position]
    if first < 0x40:
        return first, position + 1
    size = 1 << (first >> 6)
    end = position + size
    if end > len(data):
        return None
    return int.from_bytes(data[position:end], "big") & ((1 << (8 * size - 2)) - 1), end


def parse_settings(payload: bytes) -> dict[int, int]:
    """The settings in a SETTINGS frame (RFC 9114 7.2.4)."""
    settings: dict[int, int] = {}
    position = 0
    while position < len(payload):
        identifier = read_varint(payload, position)
        value = None if identifier is None else read_varint(payload, identifier[1])
        if identifier is None or value is None:
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, "SETTINGS cut off")
        if identifier[0] in _RESERVED_SETTINGS:
            raise H3ConnectionError(
                ErrorCode.SETTINGS_ERROR, f"reserved setting 0x{identifier[0]:x}"
            )
        if identifier[0] in settings:
            raise H3ConnectionError(ErrorCode.SETTINGS_ERROR, f"setting 0x{identifier[0]:x} twice")
        settings[identifier[0]] = value[0]
        position = value[1]
    return settings
