"""The unidirectional streams of a client (RFC 9114 6.2): control, QPACK, and ignored types.

Sans-I/O. An error on any of them is a connection error and raises H3ConnectionError.
"""

from collections.abc import Callable

from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.frames import (
    CANCEL_PUSH,
    CONTROL_ONLY,
    DATA,
    GOAWAY,
    HEADERS,
    PRIORITY_UPDATE,
    PRIORITY_UPDATE_OF_PUSH,
    PUSH_PROMISE,
    RESERVED_FRAMES,
    SETTINGS,
    frame_header,
    parse_settings,
    read_varint,
)
from tercel.quic.http3.partial_input import PartialInput
from tercel.quic.http3.qpack import FieldSections
from tercel.quic.http3.request_parser import H3Event, RequestStreams
from tercel.quic.transport.abuse_limits import Budgets, Flood

# Stream types (RFC 9114 6.2, RFC 9204 4.2).
CONTROL_STREAM = 0x00
PUSH_STREAM = 0x01
ENCODER_STREAM = 0x02
DECODER_STREAM = 0x03

# The frames of a control stream are short; a longer one that has to be read whole is an attack.
_MAX_CONTROL_FRAME_BYTES = 4096


class ControlStreams:
    """The unidirectional streams that a client opened."""

    def __init__(
        self,
        sections: FieldSections,
        requests: RequestStreams,
        budgets: Budgets,
        may_open: Callable[[int], bool],
    ) -> None:
        """`may_open` says whether the client may open, or has opened, a request stream."""
        self._may_open = may_open
        self._sections = sections
        self._requests = requests
        self._budgets = budgets
        self._open: dict[int, tuple[int | None, bytes]] = {}
        self._critical: dict[int, int] = {}
        self._ignored_left: dict[int, int] = {}
        self._announced_ids: dict[int, int] = {}
        self._unfinished = PartialInput()
        """The incomplete frame of the control stream."""
        self.peer_settings: dict[int, int] | None = None
        """The client's SETTINGS, None before they arrive."""

    def receive(self, stream_id: int, data: bytes, ended: bool) -> list[H3Event]:
        """Handle the next `data` of a stream, all of which is consumed."""
        stream_type, buffer = self._open.get(stream_id, (None, b""))
        data = buffer + data
        if stream_type is None:
            header = read_varint(data, 0)
            if header is None:
                if ended:  # RFC 9114 6.2: it may end before it has said its type
                    self._open.pop(stream_id, None)
                    self._budgets.spend(Flood.STREAMS)
                else:
                    self._open[stream_id] = (None, data)
                return []
            stream_type, position = header
            data = data[position:]
            self._open[stream_id] = (stream_type, b"")
            self._budgets.spend(Flood.STREAMS)
            self._begin(stream_id, stream_type)
        if ended and stream_id in self._critical:
            raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream closed")
        if ended:
            self._open.pop(stream_id, None)
        if stream_type == CONTROL_STREAM:
            control = self._unfinished.continued(data)
            if control is not None:
                self._receive_control(stream_id, control)
        elif stream_type == ENCODER_STREAM:
            return self._requests.unblock(self._sections.receive_encoder_stream(data))
        elif stream_type == DECODER_STREAM:
            self._sections.receive_decoder_stream(data)
        # RFC 9114 6.2: a stream of another type is unknown here; what it brings is dropped.
        return []

    def receive_reset(self, stream_id: int) -> None:
        """The peer reset a stream."""
        if stream_id in self._critical:
            raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream reset")
        if self._open.pop(stream_id, None) is None:
            self._budgets.spend(Flood.STREAMS)

    def _begin(self, stream_id: int, stream_type: int) -> None:
        if stream_type == PUSH_STREAM:
            raise H3ConnectionError(ErrorCode.STREAM_CREATION_ERROR, "push stream from a client")
        if stream_type in (CONTROL_STREAM, ENCODER_STREAM, DECODER_STREAM):
            if stream_type in self._critical.values():
                raise H3ConnectionError(
                    ErrorCode.STREAM_CREATION_ERROR, f"second stream of type {stream_type}"
                )
            self._critical[stream_id] = stream_type

    def _receive_control(self, stream_id: int, data: bytes) -> None:
        """Handle the frames of the control stream."""
        left = self._ignored_left.pop(stream_id, 0)
        position = min(left, len(data))
        if left > position:
            self._ignored_left[stream_id] = left - position
        while position < len(data):
            header = frame_header(data, position)
            if header is None:
                self._unfinished.keep(data[position:], len(data) - position + 1)
                return
            frame_type, length, payload = header
            if self.peer_settings is None and frame_type != SETTINGS:
                raise H3ConnectionError(ErrorCode.MISSING_SETTINGS, "first frame is not SETTINGS")
            self._check_control_frame(frame_type, length)
            if frame_type != SETTINGS:
                self._budgets.spend(Flood.FRAMES)
            if frame_type not in CONTROL_ONLY:
                position = payload + length
                if position > len(data):
                    self._ignored_left[stream_id] = position - len(data)
                continue
            if payload + length > len(data):
                self._unfinished.keep(data[position:], payload + length - position)
                return
            self._handle_control_frame(frame_type, data[payload : payload + length])
            position = payload + length

    def _check_control_frame(self, frame_type: int, length: int) -> None:
        if frame_type in (DATA, HEADERS, PUSH_PROMISE) or frame_type in RESERVED_FRAMES:
            raise H3ConnectionError(
                ErrorCode.FRAME_UNEXPECTED, f"frame 0x{frame_type:x} on the control stream"
            )
        if frame_type in CONTROL_ONLY and length > _MAX_CONTROL_FRAME_BYTES:
            raise H3ConnectionError(ErrorCode.EXCESSIVE_LOAD, f"control frame of {length} bytes")

    def _handle_control_frame(self, frame_type: int, payload: bytes) -> None:
        if frame_type == SETTINGS:
            if self.peer_settings is not None:
                raise H3ConnectionError(ErrorCode.FRAME_UNEXPECTED, "second SETTINGS")
            self.peer_settings = parse_settings(payload)
            return
        value = read_varint(payload, 0)
        if frame_type in (PRIORITY_UPDATE, PRIORITY_UPDATE_OF_PUSH):
            self._check_prioritized(frame_type, value)
            return
        # GOAWAY, MAX_PUSH_ID and CANCEL_PUSH concern pushes, which this server never makes.
        if value is None or value[1] != len(payload):
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, f"bad frame 0x{frame_type:x}")
        if frame_type == CANCEL_PUSH:
            raise H3ConnectionError(ErrorCode.ID_ERROR, "CANCEL_PUSH of a push never promised")
        # RFC 9114 5.2, 7.2.7: GOAWAY never names a larger ID, MAX_PUSH_ID never a smaller one.
        known = self._announced_ids.setdefault(frame_type, value[0])
        if value[0] > known if frame_type == GOAWAY else value[0] < known:
            raise H3ConnectionError(ErrorCode.ID_ERROR, f"frame 0x{frame_type:x} goes back")

    def _check_prioritized(self, frame_type: int, element: tuple[int, int] | None) -> None:
        """Reject a PRIORITY_UPDATE with an invalid target (RFC 9218 7.2); others have no effect."""
        if element is None:
            raise H3ConnectionError(ErrorCode.FRAME_ERROR, f"bad frame 0x{frame_type:x}")
        if frame_type == PRIORITY_UPDATE_OF_PUSH:
            raise H3ConnectionError(ErrorCode.ID_ERROR, "PRIORITY_UPDATE of a push never promised")
        if not self._may_open(element[0]):
            raise H3ConnectionError(ErrorCode.ID_ERROR, "PRIORITY_UPDATE of no request stream")
