"""Field sections and their compression (RFC 9204) on one connection. Knows no frames but HEADERS.

Sans-I/O. Instructions for the peer's encoder are collected; the owner of the decoder stream writes
them.
"""

from contextlib import suppress

import pylsqpack

from tercel.quic.http3.errors import ErrorCode, H3ConnectionError
from tercel.quic.http3.fields import check_section_size, request_line, sendable
from tercel.quic.http3.frames import HEADERS
from tercel.quic.http3.qpack_sizes import DynamicTableSizes
from tercel.quic.transport.abuse_limits import Budgets
from tercel.quic.transport.varint import encode_varint
from tercel.shared.errors import FieldsTooLarge, LocalProtocolError, MalformedMessage
from tercel.shared.messages import Fields
from tercel.shared.settings import Settings

TABLE_CAPACITY_BYTES = 4096
BLOCKED_STREAMS = 16
# What a section may become at the most to be decoded without being measured before: no more than
# is in memory for other reasons, while to measure takes longer than to decode.
_MOST_UNMEASURED_BYTES = 262_144
_HEADERS = encode_varint(HEADERS)
# Set Dynamic Table Capacity (RFC 9204 4.3.1).
_CAPACITY_OF_ZERO = b"\x20"


class FieldSections:
    """Both directions of QPACK, within the limits of the settings."""

    def __init__(self, settings: Settings, budgets: Budgets) -> None:
        self.max_bytes = settings.max_field_section_bytes
        self._max_fields = settings.max_fields
        self._most_unmeasured = max(self.max_bytes, _MOST_UNMEASURED_BYTES)
        self._table = DynamicTableSizes(TABLE_CAPACITY_BYTES, budgets)
        self._decoder = pylsqpack.Decoder(TABLE_CAPACITY_BYTES, BLOCKED_STREAMS)
        # RFC 9204 3.2.3: the capacity is zero until the encoder sets it; ls-qpack begins with the
        # largest, and would take insertions before that.
        self._decoder.feed_encoder(_CAPACITY_OF_ZERO)
        # Without a dynamic table a section encodes to the same bytes on every connection, needs
        # no acknowledgement and never waits for another stream.
        self._encoder = pylsqpack.Encoder()
        self.instructions: list[bytes] = []
        """Pending instructions for the peer's encoder, to be sent on the decoder stream."""

    def encode(self, stream_id: int, fields: Fields) -> bytes:
        """`fields` as a HEADERS frame, without what HTTP/3 forbids.

        Raises LocalProtocolError for a name or a value of 64 KiB and more, which ls-qpack does not
        encode.
        """
        try:
            _, section = self._encoder.encode(stream_id, sendable(fields))
        except ValueError as error:
            raise LocalProtocolError(f"a field that HTTP/3 cannot carry: {error}") from error
        return _HEADERS + encode_varint(len(section)) + section

    def decode(self, stream_id: int, section: bytes) -> Fields | None:
        """The lines of a section; None if it has to wait for the encoder stream.

        Raises FieldsTooLarge, also for a section that would be too large and is therefore not
        decoded, and MalformedMessage.
        """
        if len(section) * self._table.largest > self._most_unmeasured:
            self._measure(section)
        fields: Fields
        try:
            instructions, fields = self._decoder.feed_header(stream_id, section)
        except pylsqpack.StreamBlocked:
            return None
        except pylsqpack.DecompressionFailed:
            return self._decode_refused(stream_id, section)
        if instructions:
            self.instructions.append(instructions)
        # A section of n bytes has n lines at the most.
        if len(fields) > self._max_fields or len(section) * self._table.largest > self.max_bytes:
            self._check_size(fields)
        return fields

    def resume(self, stream_id: int, section: bytes) -> Fields:
        """The lines of a section that was blocked, as `decode`."""
        # Only now it is known what its references stand for.
        if len(section) * self._table.largest > self._most_unmeasured:
            self._measure(section)
        fields: Fields
        try:
            instructions, fields = self._decoder.resume_header(stream_id)
        except pylsqpack.DecompressionFailed:
            return self._decode_refused(stream_id, section)
        self.instructions.append(instructions)
        self._check_size(fields)
        return fields

    def cancel(self, stream_id: int) -> None:
        """Cancel the sections of a stream, which will not be read (RFC 9204 2.2.2.2).

        The encoder is told even if no part of the table, or of the stream, has arrived yet: later
        instructions may be those that these sections refer to.
        """
        self.instructions.append(self._decoder.cancel_stream(stream_id))

    def receive_encoder_stream(self, data: bytes) -> list[int]:
        """Handle the peer's encoder stream; returns the streams that are no longer blocked."""
        self._table.receive(data)
        try:
            unblocked: list[int] = self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError as error:
            raise H3ConnectionError(
                ErrorCode.QPACK_ENCODER_STREAM_ERROR, "bad encoder instruction"
            ) from error
        return unblocked

    def receive_decoder_stream(self, data: bytes) -> None:
        """Handle the peer's decoder stream."""
        try:
            self._encoder.feed_decoder(data)
        except pylsqpack.DecoderStreamError as error:
            raise H3ConnectionError(
                ErrorCode.QPACK_DECODER_STREAM_ERROR, "bad decoder instruction"
            ) from error

    def _measure(self, section: bytes) -> None:
        """Raise FieldsTooLarge for a section that would be too large, before it is decoded."""
        # Lines are counted when it is known which are cookies, and will be one. Until then their
        # size is the bound: each counts 32 bytes and its text.
        size = self._table.measure(section, max_bytes=self.max_bytes)
        if size > self.max_bytes:
            raise FieldsTooLarge(f"field section of {size} bytes or more")

    def _check_size(self, fields: Fields) -> None:
        """Raise FieldsTooLarge when a decoded section is over its limits."""
        try:
            check_section_size(fields, max_bytes=self.max_bytes, max_fields=self._max_fields)
        except FieldsTooLarge as error:
            error.request_line = request_line(fields)
            raise

    def _decode_refused(self, stream_id: int, section: bytes) -> Fields:
        """Decode a section that ls-qpack rejects: without lines, with an empty name, or broken.

        The first two are valid QPACK (RFC 9204 4.5), so the connection continues. Raises
        MalformedMessage, FieldsTooLarge, and H3ConnectionError for a section that is broken.
        """
        named = self._table.with_names(section)
        if named == b"":
            return []
        if named is not None:
            # Decoded all the same, as something else in it may be broken.
            with suppress(pylsqpack.DecompressionFailed):
                self._decoder.feed_header(stream_id, named)
                # RFC 9110 5.1: a name is a token. Whoever gives up the stream tells the encoder.
                raise MalformedMessage("a field without a name")
        raise H3ConnectionError(ErrorCode.QPACK_DECOMPRESSION_FAILED, "undecodable field section")
