"""The sans-I/O HTTP/3 state of one connection (RFC 9114, RFC 9204): stream bytes in, events out.

Unaware of applications. aioquic's own HTTP/3 layer is not used, because it ends the connection over
one malformed message and puts no limit on a field section. Combines `request_parser`,
`control_streams` and `qpack`, which read request streams, unidirectional streams and field
sections, and opens this side's own streams.
"""

from tercel.quic.http3.control_streams import (
    CONTROL_STREAM,
    DECODER_STREAM,
    ENCODER_STREAM,
    ControlStreams,
)
from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.frames import (
    ENABLE_CONNECT_PROTOCOL,
    GOAWAY,
    MAX_FIELD_SECTION_SIZE,
    QPACK_BLOCKED_STREAMS,
    QPACK_MAX_TABLE_CAPACITY,
    encode_frame,
    encode_settings,
)
from tercel.quic.http3.qpack import BLOCKED_STREAMS, TABLE_CAPACITY_BYTES, FieldSections
from tercel.quic.http3.request_parser import H3Event, RequestStreams
from tercel.quic.transport.abuse_limits import Budgets
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.varint import encode_varint
from tercel.shared.settings import Settings

# Instructions to the peer's QPACK encoder that it has not taken yet: a byte or two for a request.
MAX_INSTRUCTION_BYTES = 65_536


class H3Connection:
    """The HTTP/3 state of a connection. Created once ALPN has chosen h3; sends SETTINGS at once."""

    def __init__(
        self, quic: QuicServerConnection, settings: Settings, budgets: Budgets | None = None
    ) -> None:
        budgets = budgets or Budgets()
        self._quic = quic
        self.sections = FieldSections(settings, budgets)
        self.requests = RequestStreams(self.sections, quic.grant, budgets)
        self._unidirectional = ControlStreams(self.sections, self.requests, budgets, quic.may_open)
        self._control_id = self._open(CONTROL_STREAM)
        quic.send_stream_data(
            self._control_id,
            encode_settings(
                (QPACK_MAX_TABLE_CAPACITY, TABLE_CAPACITY_BYTES),
                (MAX_FIELD_SECTION_SIZE, settings.max_field_section_bytes),
                (QPACK_BLOCKED_STREAMS, BLOCKED_STREAMS),
                (ENABLE_CONNECT_PROTOCOL, 1),
            ),
        )
        self._open(ENCODER_STREAM)
        self._decoder_id = self._open(DECODER_STREAM)

    @property
    def peer_settings(self) -> dict[int, int] | None:
        """The client's SETTINGS, None before they arrive."""
        return self._unidirectional.peer_settings

    # -- sending ------------------------------------------------------------------------------

    def send_goaway(self) -> None:
        """Announce that requests not seen yet will not be served (RFC 9114 5.2)."""
        self._quic.send_stream_data(
            self._control_id, encode_frame(GOAWAY, encode_varint(self.requests.next_id))
        )

    def send_instructions(self) -> None:
        """Write pending QPACK decoder instructions: once per iteration, each may be one byte."""
        instructions = self.sections.instructions
        if not instructions:
            return
        data = b"".join(instructions)
        instructions.clear()
        # A peer that stops this stream ends the connection, but that event may still be queued.
        if self._quic.can_send(self._decoder_id):
            self._quic.send_stream_data(self._decoder_id, data)
        if self._quic.kept_of(self._decoder_id) > MAX_INSTRUCTION_BYTES:
            # The peer gives no credit for them, or does not acknowledge them.
            self._quic.exceed(
                H3ConnectionError(ErrorCode.EXCESSIVE_LOAD, "too many untaken QPACK instructions")
            )

    # -- receiving ----------------------------------------------------------------------------

    def receive_data(self, stream_id: int, data: bytes, ended: bool) -> list[H3Event]:
        """Handle the next `data` of any stream; that of a request as `requests.receive`."""
        if stream_id & 2:
            self._quic.grant(stream_id, len(data))
            return self._unidirectional.receive(stream_id, data, ended)
        return self.requests.receive(stream_id, data, ended)

    def receive_reset(self, stream_id: int) -> None:
        """The peer reset its side of a stream."""
        if stream_id & 2:
            self._unidirectional.receive_reset(stream_id)
        else:
            self.requests.forget(stream_id)

    def receive_stop_sending(self, stream_id: int) -> None:
        """The peer asked to stop one of this side's streams."""
        if stream_id & 3 == 3:  # all that this side opens are critical
            raise H3ConnectionError(ErrorCode.CLOSED_CRITICAL_STREAM, "critical stream stopped")

    def _open(self, stream_type: int) -> int:
        stream_id: int = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(stream_id, encode_varint(stream_type))
        return stream_id
