"""QUIC packets (RFC 9000 17, RFC 9001 5, RFC 9369 3): headers and protection, for the oracle alone.

Protection itself is aioquic's `CryptoContext`. Knows no frames.
"""

from dataclasses import dataclass
from enum import Enum

from aioquic.quic.crypto import CryptoContext, CryptoPair, next_key_phase

from tests.oracle.frames import Reader, integer

VERSION_1, VERSION_2 = 0x00000001, 0x6B3343CF
TAG_BYTES = 16
NUMBER_BYTES = 2


class PacketType(Enum):
    """The types of protected packets, by the names of RFC 9000 12.4."""

    INITIAL = "Initial"
    ZERO_RTT = "0-RTT"
    HANDSHAKE = "Handshake"
    ONE_RTT = "1-RTT"


# The two bits of a long header, by version (RFC 9000 17.2, RFC 9369 3.2). Retry is the fourth.
_LONG_TYPES = {
    VERSION_1: [PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE],
    VERSION_2: [None, PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE],
}


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a packet's header that is not protected, and where the packet is."""

    type: PacketType
    version: int | None
    destination: bytes
    source: bytes
    number_at: int
    """Where the packet number is, from the packet's start."""
    size: int


def read_header(data: bytes, cid_length: int) -> Header:
    """The header of the first packet of `data`, sent to an ID of `cid_length` bytes."""
    if not data[0] & 0x80:
        cid = data[1 : 1 + cid_length]
        return Header(PacketType.ONE_RTT, None, cid, b"", 1 + cid_length, len(data))
    reader = Reader(data)
    first, version = reader.take(1)[0], int.from_bytes(reader.take(4), "big")
    destination, source = (reader.take(reader.take(1)[0]) for _ in range(2))
    kind = _LONG_TYPES[version][first >> 4 & 3]
    assert kind is not None, "a Retry packet"
    if kind is PacketType.INITIAL:
        reader.take(reader.integer())
    length = reader.integer()
    size = reader.position + length
    return Header(kind, version, destination, source, reader.position, size)


def long_header(
    kind: PacketType,
    *,
    version: int,
    destination: bytes,
    source: bytes,
    number: int,
    payload_bytes: int,
    token: bytes = b"",
    reserved: int = 0,
    number_bytes: int = NUMBER_BYTES,
) -> bytes:
    """A long header in plain (RFC 9000 17.2), for a payload that will have its tag."""
    bits = _LONG_TYPES[version].index(kind)
    first = 0xC0 | bits << 4 | reserved << 2 | number_bytes - 1
    parts = [bytes([first]), version.to_bytes(4, "big")]
    parts += [bytes([len(cid)]) + cid for cid in (destination, source)]
    if kind is PacketType.INITIAL:
        parts += [integer(len(token)), token]
    parts.append(integer(number_bytes + payload_bytes + TAG_BYTES, 2))
    return b"".join(parts) + _truncated(number, number_bytes)


def short_header(
    destination: bytes,
    number: int,
    *,
    key_phase: int = 0,
    reserved: int = 0,
    number_bytes: int = NUMBER_BYTES,
) -> bytes:
    """A short header in plain (RFC 9000 17.3.1)."""
    first = 0x40 | reserved << 3 | key_phase << 2 | number_bytes - 1
    return bytes([first]) + destination + _truncated(number, number_bytes)


def initial_keys(destination: bytes, version: int) -> CryptoPair:
    """A client's keys for Initial packets (RFC 9001 5.2)."""
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=True, version=version)
    return pair


def updated(keys: CryptoContext) -> CryptoContext:
    """The keys that follow `keys`; header protection stays (RFC 9001 6.1)."""
    following = next_key_phase(keys)
    following.hp = keys.hp
    return following


def _truncated(number: int, size: int) -> bytes:
    return (number & ((1 << 8 * size) - 1)).to_bytes(size, "big")
