"""Captures in pcap's own format, one IP packet a record."""

import struct
from typing import BinaryIO

_MAGIC = 0xA1B2C3D4
_RAW_IP = 101
_SNAP_BYTES = 65_535


class PcapWriter:
    """Writes IP packets to `file`, which the caller closes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAP_BYTES, _RAW_IP))

    def write(self, packet: bytes, timestamp: float) -> None:
        """Add `packet`; `timestamp` is in seconds since 1970."""
        seconds, rest = divmod(timestamp, 1)
        size = len(packet)
        self._file.write(struct.pack("<IIII", int(seconds), int(rest * 1e6), size, size) + packet)
