"""IP packets by hand, and the checksums they have to have."""

import ipaddress
import struct

CLIENT4, SERVER4 = "193.167.0.100", "193.167.100.100"
CLIENT6, SERVER6 = "fd00:cafe:cafe::100", "fd00:cafe:cafe:100::100"


def checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def udp_packet(
    payload: bytes,
    *,
    source: str = CLIENT4,
    destination: str = SERVER4,
    ports: tuple[int, int] = (50_000, 443),
    tos: int = 0,
) -> bytes:
    """A packet as a kernel would send it."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    size = 8 + len(payload)
    header = struct.pack("!HHHH", *ports, size, 0)
    found = checksum(ends + struct.pack("!II", size, 17) + header + payload) or 0xFFFF
    udp = header[:6] + struct.pack("!H", found) + payload
    if len(ends) == 32:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, size, 17, 64) + ends + udp
    ip = struct.pack("!BBHHHBBH", 0x45, tos, 20 + size, 7, 0, 64, 17, 0) + ends
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp


def is_valid(packet: bytes) -> bool:
    """Whether every checksum in it is right."""
    if packet[0] >> 4 == 4:
        if checksum(packet[:20]) != 0:
            return False
        ends, udp = packet[12:20], packet[20:]
    else:
        ends, udp = packet[8:40], packet[40:]
    return checksum(ends + struct.pack("!II", len(udp), 17) + udp) == 0
