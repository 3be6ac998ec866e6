"""What may happen to a UDP datagram on the way. Each fault belongs to one direction.

Everything else (ICMP, TCP) passes untouched.
"""

import random
from collections.abc import Collection
from typing import Protocol

from interop.simulator.packets import Datagram, rewritten

# A change further in hits the encrypted payload; near the front it hits all kinds of headers.
_CORRUPTED_WITHIN_BYTES = 50


class Fault(Protocol):
    """Decides about one datagram at a time, in order."""

    def apply(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        """What goes on: `packet`, another one, or None. `now` counts from the first datagram."""


class RandomLoss:
    """Drops each datagram with a probability, but never more than `burst` in a row."""

    def __init__(self, probability: float, burst: int, random: random.Random) -> None:
        self._probability = probability
        self._burst = burst
        self._random = random
        self._in_a_row = 0

    def apply(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        if self._in_a_row < self._burst and self._random.random() < self._probability:
            self._in_a_row += 1
            return None
        self._in_a_row = 0
        return packet


class RandomCorruption:
    """Changes one byte of a datagram with a probability, but of `burst` in a row at most.

    Version Negotiation has no integrity check (RFC 9000 21.11), so it is spared.
    """

    def __init__(self, probability: float, burst: int, random: random.Random) -> None:
        self._probability = probability
        self._burst = burst
        self._random = random
        self._in_a_row = 0

    def apply(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        payload = datagram.payload
        if (
            not payload
            or _is_version_negotiation(payload)
            or self._in_a_row >= self._burst
            or self._random.random() >= self._probability
        ):
            self._in_a_row = 0
            return packet
        self._in_a_row += 1
        position = self._random.randrange(min(len(payload), _CORRUPTED_WITHIN_BYTES))
        changed = bytearray(payload)
        changed[position] ^= self._random.randrange(1, 256)
        return rewritten(packet, datagram, payload=bytes(changed))


class Drops:
    """Drops datagrams by their number, counted from 1."""

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = frozenset(numbers)
        self._count = 0

    def apply(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        self._count += 1
        return None if self._count in self._numbers else packet


class Blackhole:
    """Drops everything for a while, once."""

    def __init__(self, *, after: float, duration: float) -> None:
        """Seconds."""
        self._from = after
        self._until = after + duration

    def apply(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        return None if self._from <= now < self._until else packet


def _is_version_negotiation(payload: bytes) -> bool:
    return bool(payload[0] & 0x80) and payload[1:5] == b"\0\0\0\0"
