"""Two servers in one state: how to copy a connection, and how to compare two."""

import copy
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any
from unittest import mock

from aioquic._crypto import AEAD, HeaderProtection
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import Epoch

from tercel.quic.transport.connection import QuicServerConnection

# What the fast path keeps for itself, and what is only a cache or looks different for no reason.
_APART = frozenset(
    (
        "_acknowledged_in",
        "_armed",
        "_configuration",
        "_data_keys",
        "_data_marks",
        "_data_space",
        "_due",
        "_ended",
        "_fast_path",
        "_known_times",
        "_limits_due",
        "_logger",
        "_parked",
        "_stale",
        "_streams_queue",
        "_surveyed",
        "tls",
    )
)


_PACKET = ("packet_number", "sent_time", "sent_bytes", "in_flight", "is_ack_eliciting")

# By type: how many integers and how many bytes are in a frame.
_OTHER = {
    0x01: (0, 0),  # PING
    0x04: (3, 0),  # RESET_STREAM
    0x05: (2, 0),  # STOP_SENDING
    0x18: (2, 1 + 8 + 16),  # NEW_CONNECTION_ID
    0x19: (1, 0),  # RETIRE_CONNECTION_ID
    0x1A: (0, 8),  # PATH_CHALLENGE
    0x1B: (0, 8),  # PATH_RESPONSE
}


def twin(server: QuicServerConnection) -> QuicServerConnection:
    """A copy of `server` that does everything by aioquic's code."""
    other = copied(server)
    other._fast_path = other._armed = other._surveyed = False
    return other


def copied(server: QuicServerConnection) -> QuicServerConnection:
    """A copy of `server` in the same state."""
    memo: dict[int, Any] = {
        id(shared): shared
        for shared in (server.tls, server.configuration, server._logger, server._crypto_buffers)
    }
    # Without state, and not to be copied.
    for pair in [*server._cryptos.values(), *server._cryptos_initial.values()]:
        for keys in (pair.recv, pair.send):
            memo.update({id(part): part for part in (keys.aead, keys.hp)})
    other = copy.deepcopy(server, memo)
    other._bind_methods()  # those of the one that was copied are no part of its state
    return other


@contextmanager
def chance(seed: object) -> Iterator[None]:
    """Let connection IDs, challenges and skipped packet numbers come out the same each time."""
    source = random.Random(repr(seed))
    with (
        mock.patch("os.urandom", source.randbytes),
        mock.patch("secrets.randbelow", source.randrange),
    ):
        yield


def state(server: QuicServerConnection) -> dict[str, Any]:
    """All that decides what the connection will do, to be compared."""
    server.kept()  # aioquic's code leaves it to be counted when it is asked for
    return {
        name: plain(value, set())
        for name, value in attributes(server).items()
        if name not in _APART and not name.startswith("_QuicConnection__")
    }


def attributes(thing: Any) -> dict[str, Any]:
    """What an object has of its own, in slots or in a dictionary."""
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names += getattr(thing, "__dict__", ())
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}


def plain(value: Any, seen: set[int]) -> Any:
    """`value` as something that can be compared and printed."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, Enum, range)):
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        return {plain(key, seen): plain(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return [plain(item, seen) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item, seen) for item in value)
    if isinstance(value, (AEAD, HeaderProtection)) or callable(value) or id(value) in seen:
        return type(value).__name__
    seen = seen | {id(value)}
    members = {
        name: plain(member, seen) for name, member in attributes(value).items() if name != "_logger"
    }
    if hasattr(value, "delivery_handlers"):
        # aioquic's QuicSentPacket or the fast path's: what counts is who hears of it, and when.
        members = {name: getattr(value, name) for name in _PACKET}
    return members


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in one or key not in other:
                found.append(f"{path}.{key} is only in one")
            else:
                found += differences(one[key], other[key], f"{path}.{key}")
        return found
    return [] if one == other else [f"{path}: {one!r} or {other!r}"]


def sent_frames(server: QuicServerConnection, datagrams: list[tuple[bytes, Any]]) -> "Frames":
    """What `server` has just sent, read with its own keys."""
    frames = Frames()
    keys = server._cryptos[Epoch.ONE_RTT].send
    cid_end = 1 + len(server._peer_cid.cid)
    for datagram, _ in datagrams:
        if datagram[0] & 0x80:
            frames.other.append(("long header",))
            continue
        header, number = keys.hp.remove(datagram, cid_end)
        number = server._packet_number - ((server._packet_number - number) & 0xFFFF)
        frames.add(keys.aead.decrypt(datagram[len(header) :], header, number))
        frames.sizes.append(len(datagram))
    return frames


class Frames:
    """The frames of some packets, whichever packet each was in."""

    def __init__(self) -> None:
        self.acknowledged: list[list[range]] = []
        self.limits: list[tuple[int, ...]] = []
        self.data: dict[int, set[int]] = {}
        """The offsets that were sent, of each stream."""
        self.ends: set[int] = set()
        """The streams whose end was sent."""
        self.other: list[tuple[Any, ...]] = []
        self.sizes: list[int] = []

    @property
    def size(self) -> int:
        """Bytes of stream data."""
        return sum(map(len, self.data.values()))

    def add(self, payload: bytes) -> None:
        """Take the frames of one packet."""
        position = 0

        def number() -> int:
            nonlocal position
            size = 1 << (payload[position] >> 6)
            value = int.from_bytes(payload[position : position + size], "big")
            position += size
            return value & ((1 << (8 * size - 2)) - 1)

        while position < len(payload):
            kind = number()
            if kind == 0x00:
                continue
            if kind == 0x02:
                self.acknowledged.append(_ranges(number))
            elif 0x08 <= kind <= 0x0F:
                stream_id = number()
                offset = number() if kind & 4 else 0
                length = number() if kind & 2 else len(payload) - position
                position += length
                offsets = self.data.setdefault(stream_id, set())
                assert offsets.isdisjoint(range(offset, offset + length)), "sent twice"
                offsets.update(range(offset, offset + length))
                if kind & 1:
                    self.ends.add(stream_id)
            elif kind in (0x10, 0x12, 0x13):
                self.limits.append((kind, number()))
            elif kind == 0x11:
                self.limits.append((kind, number(), number()))
            else:
                numbers, size = _OTHER[kind]
                values = [number() for _ in range(numbers)]
                self.other.append((kind, *values, payload[position : position + size]))
                position += size


def _ranges(number: Any) -> list[range]:
    largest, _, count = number(), number(), number()
    start = largest - number()
    ranges = [range(start, largest + 1)]
    for _ in range(count):
        stop = start - number() - 1
        start = stop - 1 - number()
        ranges.append(range(start, stop))
    return ranges


def space(server: QuicServerConnection) -> QuicPacketSpace:
    """The packet number space of 1-RTT packets."""
    return server._spaces[Epoch.ONE_RTT]
