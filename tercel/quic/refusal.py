"""The packet that refuses a client without a connection (RFC 9000 5.2.2). Knows no sockets."""

from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicProtocolVersion

from tercel.quic.transport.keys import KeyPair
from tercel.quic.transport.packet_header import connection_ids
from tercel.quic.transport.protection import NUMBER_BYTES, TAG_BYTES, seal_any
from tercel.quic.transport.varint import encode_varint

# RFC 9000 17.2.2, RFC 9369 3.2: the first byte of an Initial before its protection.
_FIRST_BYTES = {
    QuicProtocolVersion.VERSION_1: 0xC0 | (NUMBER_BYTES - 1),
    QuicProtocolVersion.VERSION_2: 0xD0 | (NUMBER_BYTES - 1),
}
_NO_TOKEN = b"\0"
_NUMBER = 0
# A length in two bytes (RFC 9000 16), as aioquic and others write it.
_LENGTH_BITS = 0x4000


def refusal(initial: bytes, code: QuicErrorCode, reason: str) -> bytes:
    """A datagram that answers `initial` with CONNECTION_CLOSE and a QUIC error code.

    `initial` is a datagram that begins with an Initial of a supported version. The answer is not
    ack-eliciting, so it needs no padding (RFC 9000 14.1) and is much smaller than `initial`.
    """
    version = QuicProtocolVersion(int.from_bytes(initial[1:5], "big"))
    destination, source, _ = connection_ids(initial)
    payload = _connection_close(code, reason.encode())
    header = b"".join(
        (
            bytes((_FIRST_BYTES[version],)),
            initial[1:5],
            bytes((len(source),)),
            source,
            # No other has been made, nor will be.
            bytes((len(destination),)),
            destination,
            _NO_TOKEN,
            (_LENGTH_BITS | NUMBER_BYTES + len(payload) + TAG_BYTES).to_bytes(2, "big"),
            _NUMBER.to_bytes(NUMBER_BYTES, "big"),
        )
    )
    keys = KeyPair()
    # RFC 9001 5.2: of what the client has sent its Initial to.
    keys.setup_initial(cid=destination, is_client=False, version=version)
    return seal_any(keys.send, header, _NUMBER, payload)


def _connection_close(code: int, reason: bytes) -> bytes:
    """A CONNECTION_CLOSE frame of type 0x1c that names no frame (RFC 9000 19.19)."""
    return b"".join(
        (
            encode_varint(QuicFrameType.TRANSPORT_CLOSE),
            encode_varint(code),
            encode_varint(QuicFrameType.PADDING),
            encode_varint(len(reason)),
            reason,
        )
    )
