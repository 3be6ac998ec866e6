"""QUIC frames (RFC 9000 19, RFC 9221 4): a reader and a writer of the oracle's own.

Knows neither packets nor connections. The writer checks nothing: a script may send what no client
would.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PADDING, PING, ACK, ACK_ECN = 0x00, 0x01, 0x02, 0x03
RESET_STREAM, STOP_SENDING, CRYPTO, NEW_TOKEN = 0x04, 0x05, 0x06, 0x07
STREAM = 0x08
MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS_BIDI, MAX_STREAMS_UNI = 0x10, 0x11, 0x12, 0x13
DATA_BLOCKED, STREAM_DATA_BLOCKED, STREAMS_BLOCKED_BIDI, STREAMS_BLOCKED_UNI = range(0x14, 0x18)
NEW_CONNECTION_ID, RETIRE_CONNECTION_ID, PATH_CHALLENGE, PATH_RESPONSE = range(0x18, 0x1C)
CONNECTION_CLOSE, APPLICATION_CLOSE, HANDSHAKE_DONE = 0x1C, 0x1D, 0x1E
DATAGRAM, DATAGRAM_WITH_LENGTH = 0x30, 0x31

_OFFSET, _LENGTH, _FIN = 4, 2, 1
RESET_TOKEN_BYTES = 16

# The layout of a frame: its fields, each with its kind. `int` is a variable-length integer,
# `bytes` has one in front that is its length, a number is that of its bytes.
_LAYOUTS: dict[int, tuple[str, tuple[tuple[str, Any], ...]]] = {
    PING: ("PING", ()),
    RESET_STREAM: ("RESET_STREAM", (("stream_id", int), ("code", int), ("final_size", int))),
    STOP_SENDING: ("STOP_SENDING", (("stream_id", int), ("code", int))),
    CRYPTO: ("CRYPTO", (("offset", int), ("data", bytes))),
    NEW_TOKEN: ("NEW_TOKEN", (("token", bytes),)),
    MAX_DATA: ("MAX_DATA", (("maximum", int),)),
    MAX_STREAM_DATA: ("MAX_STREAM_DATA", (("stream_id", int), ("maximum", int))),
    MAX_STREAMS_BIDI: ("MAX_STREAMS_BIDI", (("maximum", int),)),
    MAX_STREAMS_UNI: ("MAX_STREAMS_UNI", (("maximum", int),)),
    DATA_BLOCKED: ("DATA_BLOCKED", (("limit", int),)),
    STREAM_DATA_BLOCKED: ("STREAM_DATA_BLOCKED", (("stream_id", int), ("limit", int))),
    STREAMS_BLOCKED_BIDI: ("STREAMS_BLOCKED_BIDI", (("limit", int),)),
    STREAMS_BLOCKED_UNI: ("STREAMS_BLOCKED_UNI", (("limit", int),)),
    NEW_CONNECTION_ID: (
        "NEW_CONNECTION_ID",
        (
            ("sequence", int),
            ("retire_prior_to", int),
            ("connection_id", "short bytes"),
            ("reset_token", RESET_TOKEN_BYTES),
        ),
    ),
    RETIRE_CONNECTION_ID: ("RETIRE_CONNECTION_ID", (("sequence", int),)),
    PATH_CHALLENGE: ("PATH_CHALLENGE", (("data", 8),)),
    PATH_RESPONSE: ("PATH_RESPONSE", (("data", 8),)),
    CONNECTION_CLOSE: (
        "CONNECTION_CLOSE",
        (("code", int), ("frame_type", int), ("reason", bytes)),
    ),
    APPLICATION_CLOSE: ("APPLICATION_CLOSE", (("code", int), ("reason", bytes))),
    HANDSHAKE_DONE: ("HANDSHAKE_DONE", ()),
    DATAGRAM_WITH_LENGTH: ("DATAGRAM", (("data", bytes),)),
}

# RFC 9000 13.2: what does not elicit an acknowledgement.
_NOT_ACK_ELICITING = frozenset(("PADDING", "ACK", "CONNECTION_CLOSE", "APPLICATION_CLOSE"))

Ranges = tuple[tuple[int, int], ...]
"""Runs of numbers, each its first and its last, in ascending order."""


class FrameError(Exception):
    """The payload is not a sequence of known frames."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was read."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, field: str) -> Any:
        return dict(self.fields)[field]

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{name}={shown(value)}" for name, value in self.fields)])

    @property
    def is_ack_eliciting(self) -> bool:
        """Whether its packet has to be acknowledged soon (RFC 9000 13.2)."""
        return self.name not in _NOT_ACK_ELICITING


def shown(value: Any) -> str:
    """`value`, or its size if it is long."""
    return f"{len(value)} bytes" if isinstance(value, bytes) and len(value) > 8 else repr(value)


# -- reading --------------------------------------------------------------------------------------


class Reader:
    """Takes integers and bytes from the front of `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises FrameError if there are fewer."""
        end = self.position + size
        if end > len(self.data):
            raise FrameError(f"{size} bytes expected, {len(self.data) - self.position} left")
        taken, self.position = self.data[self.position : end], end
        return taken

    def integer(self) -> int:
        """A variable-length integer (RFC 9000 16)."""
        first = self.take(1)[0]
        return int.from_bytes(bytes([first & 0x3F]) + self.take((1 << (first >> 6)) - 1), "big")


def read(payload: bytes) -> list[Frame]:
    """The frames of a packet; a run of PADDING is one. Raises FrameError."""
    reader = Reader(payload)
    found = []
    while not reader.is_at_end:
        found.append(_read_one(reader))
    return found


def read_as_far_as_possible(payload: bytes) -> list[Frame | bytes]:
    """The frames of a packet, up to one that is wrong: from there on it is bytes."""
    reader = Reader(payload)
    found: list[Frame | bytes] = []
    while not reader.is_at_end:
        begin = reader.position
        try:
            found.append(_read_one(reader))
        except FrameError:
            return [*found, payload[begin:]]
    return found


def _read_one(reader: Reader) -> Frame:
    kind = reader.integer()
    if kind == PADDING:
        start = reader.position
        while not reader.is_at_end and not reader.data[reader.position]:
            reader.position += 1
        return Frame("PADDING", (("size", reader.position - start + 1),))
    if kind in (ACK, ACK_ECN):
        return _read_ack(reader, kind)
    if STREAM <= kind < STREAM + 8:
        return _read_stream(reader, kind)
    if kind == DATAGRAM:
        return Frame("DATAGRAM", (("data", reader.take(len(reader.data) - reader.position)),))
    if kind not in _LAYOUTS:
        raise FrameError(f"unknown frame type {kind:#x}")
    name, layout = _LAYOUTS[kind]
    return Frame(name, tuple((field, _read_field(reader, of)) for field, of in layout))


def _read_field(reader: Reader, kind: Any) -> int | bytes:
    if kind is int:
        return reader.integer()
    if kind is bytes:
        return reader.take(reader.integer())
    return reader.take(reader.take(1)[0] if kind == "short bytes" else kind)


def _read_ack(reader: Reader, kind: int) -> Frame:
    largest, delay, count = reader.integer(), reader.integer(), reader.integer()
    smallest = largest - reader.integer()
    ranges = [(smallest, largest)]
    for _ in range(count):
        largest = smallest - reader.integer() - 2
        smallest = largest - reader.integer()
        ranges.insert(0, (smallest, largest))
    if smallest < 0:
        raise FrameError("negative packet number")
    counts = tuple(reader.integer() for _ in range(3)) if kind == ACK_ECN else None
    return Frame("ACK", (("ranges", tuple(ranges)), ("delay", delay), ("ecn", counts)))


def _read_stream(reader: Reader, kind: int) -> Frame:
    stream_id = reader.integer()
    offset = reader.integer() if kind & _OFFSET else 0
    size = reader.integer() if kind & _LENGTH else len(reader.data) - reader.position
    data = reader.take(size)
    fields = (
        ("stream_id", stream_id),
        ("offset", offset),
        ("data", data),
        ("fin", bool(kind & _FIN)),
    )
    return Frame("STREAM", fields)


# -- writing --------------------------------------------------------------------------------------


def integer(value: int, size: int | None = None) -> bytes:
    """A variable-length integer of `size` bytes, by default as few as possible (RFC 9000 16)."""
    if size is None:
        size = next(size for size in (1, 2, 4, 8) if value < 1 << (8 * size - 2))
    return (value | (size.bit_length() - 1) << (8 * size - 2)).to_bytes(size, "big")


def encode(kind: int, *fields: int | bytes) -> bytes:
    """A frame of any type: integers are variable-length, bytes are as they are."""
    written = [field if isinstance(field, bytes) else integer(field) for field in fields]
    return integer(kind) + b"".join(written)


def sized(data: bytes) -> bytes:
    """`data` behind its length."""
    return integer(len(data)) + data


def padding(size: int = 1) -> bytes:
    """`size` PADDING frames."""
    return bytes(size)


def ping() -> bytes:
    """PING."""
    return encode(PING)


def ack(ranges: Iterable[tuple[int, int]], *, delay: int = 0, ecn: Any = None) -> bytes:
    """An ACK of ascending ranges of packet numbers, with ECN counts if they are given."""
    (smallest, largest), *others = sorted(ranges, reverse=True)
    fields = [largest, delay, len(others), largest - smallest]
    for first, last in others:
        fields += [smallest - last - 2, last - first]
        smallest = first
    return encode(ACK if ecn is None else ACK_ECN, *fields, *(ecn or ()))


def crypto(data: bytes, offset: int = 0) -> bytes:
    """CRYPTO."""
    return encode(CRYPTO, offset, sized(data))


def stream(
    stream_id: int, data: bytes = b"", *, offset: int = 0, fin: bool = False, length: bool = True
) -> bytes:
    """STREAM, with an offset if it is not 0; without a length it has to be the last."""
    kind = STREAM | (_OFFSET if offset else 0) | (_LENGTH if length else 0) | fin
    fields = [stream_id, *([offset] if offset else [])]
    return encode(kind, *fields, sized(data) if length else data)


def reset_stream(stream_id: int, code: int = 0, final_size: int = 0) -> bytes:
    """RESET_STREAM."""
    return encode(RESET_STREAM, stream_id, code, final_size)


def stop_sending(stream_id: int, code: int = 0) -> bytes:
    """STOP_SENDING."""
    return encode(STOP_SENDING, stream_id, code)


def new_connection_id(
    sequence: int, connection_id: bytes, *, retire_prior_to: int = 0, token: bytes = bytes(16)
) -> bytes:
    """NEW_CONNECTION_ID."""
    length = bytes([len(connection_id)])
    return encode(NEW_CONNECTION_ID, sequence, retire_prior_to, length, connection_id, token)


def connection_close(code: int = 0, frame_type: int = 0, reason: bytes = b"") -> bytes:
    """CONNECTION_CLOSE of the transport."""
    return encode(CONNECTION_CLOSE, code, frame_type, sized(reason))


def application_close(code: int = 0, reason: bytes = b"") -> bytes:
    """CONNECTION_CLOSE of the application."""
    return encode(APPLICATION_CLOSE, code, sized(reason))


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """`numbers` as runs."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return tuple(runs)
