"""IP packets with UDP in them: read and rewritten as bytes, checksums included (RFC 768, 8200)."""

import socket
import struct
from dataclasses import dataclass

_IPV4_HEADER_BYTES = 20
_IPV6_HEADER_BYTES = 40
_UDP_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address in network form, and a UDP port."""

    address: bytes
    port: int

    def __str__(self) -> str:
        family = socket.AF_INET if len(self.address) == 4 else socket.AF_INET6
        return f"{socket.inet_ntop(family, self.address)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Datagram:
    """Where the parts of one UDP datagram are in its packet."""

    source: Endpoint
    destination: Endpoint
    payload: bytes
    udp_at: int


def is_unicast(packet: bytes) -> bool:
    """Whether `packet` goes to one host; the rest (router solicitations) stays where it is."""
    match packet[0] >> 4:
        case 4:
            return packet[16] < 224
        case 6:
            return packet[24] != 0xFF
        case _:
            return False


def parse(packet: bytes) -> Datagram | None:
    """The UDP datagram in `packet`; None if there is none, or not the whole of one."""
    if packet[0] >> 4 == 4:
        udp_at = (packet[0] & 0x0F) * 4
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        if packet[9] != socket.IPPROTO_UDP or fragment:
            return None
        addresses = packet[12:16], packet[16:20]
    else:
        udp_at = _IPV6_HEADER_BYTES
        if packet[6] != socket.IPPROTO_UDP:
            return None
        addresses = packet[8:24], packet[24:40]
    if len(packet) < udp_at + _UDP_HEADER_BYTES:
        return None
    source_port, destination_port = struct.unpack_from("!HH", packet, udp_at)
    return Datagram(
        source=Endpoint(addresses[0], source_port),
        destination=Endpoint(addresses[1], destination_port),
        payload=packet[udp_at + _UDP_HEADER_BYTES :],
        udp_at=udp_at,
    )


def rewritten(
    packet: bytes,
    datagram: Datagram,
    *,
    source: Endpoint | None = None,
    destination: Endpoint | None = None,
    payload: bytes | None = None,
) -> bytes:
    """`packet` with other ends or another payload of the same length, and right checksums."""
    source = source or datagram.source
    destination = destination or datagram.destination
    data = bytearray(packet)
    udp_at = datagram.udp_at
    addresses = source.address + destination.address
    if len(source.address) == 4:
        data[12:20] = addresses
        data[10:12] = b"\0\0"
        data[10:12] = _checksum(bytes(data[:udp_at]))
    else:
        data[8:40] = addresses
    struct.pack_into("!HH", data, udp_at, source.port, destination.port)
    if payload is not None:
        data[udp_at + _UDP_HEADER_BYTES :] = payload
    data[udp_at + 6 : udp_at + 8] = b"\0\0"
    udp = bytes(data[udp_at:])
    pseudo_header = addresses + struct.pack("!II", len(udp), socket.IPPROTO_UDP)
    # RFC 768: a checksum of zero says that there is none, so its other form is sent.
    data[udp_at + 6 : udp_at + 8] = _checksum(pseudo_header + udp).replace(b"\0\0", b"\xff\xff")
    return bytes(data)


def _checksum(data: bytes) -> bytes:
    # The sum of 16-bit words with end-around carry is the remainder by 65,535.
    if len(data) % 2:
        data += b"\0"
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF).to_bytes(2, "big")
