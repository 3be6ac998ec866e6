"""Headers of QUIC packets (RFC 9000 17), for a server that may be able to decrypt the packet.

Knows neither connections nor keys.
"""

from typing import NamedTuple

from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import Epoch

from tercel.quic.transport.varint import decode_varint

_LONG_HEADER = 0x80
_FIXED_BIT = 0x40
# RFC 9000 17.2, in versions that are known here.
_MOST_CID_BYTES = 20
_VERSION_2 = int(QuicProtocolVersion.VERSION_2)

# By the two bits of the type; None is Retry, which no server takes (RFC 9000 17.2, RFC 9369 3.2).
_EPOCHS = (Epoch.INITIAL, Epoch.ZERO_RTT, Epoch.HANDSHAKE, None)
_EPOCHS_2 = (None, Epoch.INITIAL, Epoch.ZERO_RTT, Epoch.HANDSHAKE)


class Head(NamedTuple):
    """The header of a packet up to its packet number."""

    epoch: Epoch
    version: int | None
    """None in a short header."""
    destination: bytes
    """The Destination Connection ID."""
    source: bytes
    number_at: int
    """Offset of the packet number in the datagram."""
    end: int
    """Offset of the packet's end in the datagram."""


def connection_ids(data: bytes) -> tuple[bytes, bytes, int]:
    """Destination and source connection ID of a long header, and where they end.

    Valid for every version of QUIC (RFC 8999 5.1). Raises IndexError when they are cut off.
    """
    destination_end = 6 + data[5]
    source_at = destination_end + 1
    source_end = source_at + data[destination_end]
    return data[6:destination_end], data[source_at:source_end], source_end


def read_head(data: bytes, start: int, cid_bytes: int) -> Head | None:
    """The header of the packet that begins at `start`; None if no server can receive it.

    `cid_bytes` is the length of connection IDs in short headers.
    """
    first = data[start]
    if not first & _LONG_HEADER:
        number_at, end = start + 1 + cid_bytes, len(data)
        if not first & _FIXED_BIT or number_at > end:
            return None
        return Head(Epoch.ONE_RTT, None, data[start + 1 : number_at], b"", number_at, end)
    try:
        version = int.from_bytes(data[start + 1 : start + 5], "big")
        epoch = (_EPOCHS_2 if version == _VERSION_2 else _EPOCHS)[first >> 4 & 0x03]
        destination_at = start + 6
        source_length_at = destination_at + data[start + 5]
        source_at = source_length_at + 1
        position = source_end = source_at + data[source_length_at]
        if (
            epoch is None
            or not version
            or not first & _FIXED_BIT
            or source_length_at - destination_at > _MOST_CID_BYTES
            or source_end - source_at > _MOST_CID_BYTES
        ):
            return None
        if epoch is Epoch.INITIAL:
            token_bytes, position = decode_varint(data, position)
            position += token_bytes
        length, number_at = decode_varint(data, position)
    except IndexError:
        return None  # cut off
    end = number_at + length
    if end > len(data):
        return None
    destination, source = data[destination_at:source_length_at], data[source_at:source_end]
    return Head(epoch, version, destination, source, number_at, end)
