"""QUIC packets with frames of a test's own, sealed with the keys of aioquic's client."""

from typing import Any

from aioquic.buffer import encode_uint_var
from aioquic.tls import Epoch

PADDING, PING, ACK, CRYPTO = b"\x00", b"\x01", b"\x02", b"\x06"


def numbers(*values: int) -> bytes:
    """Variable-length integers (RFC 9000 16)."""
    return b"".join(encode_uint_var(value) for value in values)


def ack(largest: int, first_range: int = 0) -> bytes:
    """An ACK frame of one range, which ends with `largest`."""
    return ACK + numbers(largest, 0, 0, first_range)


def crypto(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame."""
    return CRYPTO + numbers(offset, len(data)) + data


def stream(stream_id: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    """A STREAM frame with offset and length."""
    return numbers(0x0E | fin, stream_id, offset, len(data)) + data


def short_packet(quic: Any, payload: bytes) -> bytes:
    """A 1-RTT packet of the client `quic`."""
    keys = quic._cryptos[Epoch.ONE_RTT]
    number = _next_number(quic)
    header = bytes([0x41 | keys.key_phase << 2]) + quic._peer_cid.cid + number
    packet: bytes = keys.encrypt_packet(header, payload.ljust(4, PADDING), quic._packet_number - 1)
    return packet


def initial_packet(quic: Any, payload: bytes, *, size: int = 1200) -> bytes:
    """A datagram of `size` bytes with an Initial of the client `quic`."""
    keys = quic._cryptos[Epoch.INITIAL]
    header = (
        b"\xc1"
        + quic._version.to_bytes(4, "big")
        + bytes([len(quic._peer_cid.cid)])
        + quic._peer_cid.cid
        + bytes([len(quic.host_cid)])
        + quic.host_cid
        + encode_uint_var(len(quic._peer_token))
        + quic._peer_token
    )
    length = size - len(header) - 2
    number = _next_number(quic)
    header += (0x4000 | length).to_bytes(2, "big") + number
    payload = payload.ljust(length - 2 - 16, PADDING)
    packet: bytes = keys.encrypt_packet(header, payload, quic._packet_number - 1)
    return packet


def _next_number(quic: Any) -> bytes:
    number = quic._packet_number
    quic._packet_number += 1
    return bytes([number >> 8 & 0xFF, number & 0xFF])
