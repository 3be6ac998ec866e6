"""What one client may do too much of on one connection, and how much that is.

Each of these is legal once and an attack a hundred thousand times: it costs the client a few bytes
and the server a task, an answer or an entry in a table. Knows neither frames nor sockets.
"""

from enum import IntEnum

from tercel.quic.errors import ErrorCode, H3ConnectionError
from tercel.shared.token_bucket import TokenBucket


class Flood(IntEnum):
    """What is counted. The comments say who does it in earnest, and how often."""

    CANCELLATIONS = 0
    """Requests reset, stopped or malformed (rapid reset, CVE-2023-44487). A browser that leaves a
    page gives up all of its requests at once."""
    CONTROL_FRAMES = 1
    """QUIC frames that bring nothing: PING, *_BLOCKED, a second ACK in a packet, a limit that is
    not raised. A client sends a few each second, more after losses."""
    IDLE_PACKETS = 2
    """Packets without content and without a new acknowledgement: padding, keep-alives, probes,
    acknowledgements that the network put out of order."""
    CONNECTION_IDS = 3
    """NEW_CONNECTION_ID and RETIRE_CONNECTION_ID (CVE-2024-22189). Eight of them at the start, and
    a few with every change of the network."""
    PATHS = 4
    """PATH_CHALLENGE, each of which wants an answer (CVE-2023-49295)."""
    FRAMES = 5
    """HTTP/3 frames that are unknown, empty or without effect, beyond a few per request. Browsers
    send a PRIORITY_UPDATE when a picture scrolls into view."""
    STREAMS = 6
    """Unidirectional streams. Three of them at the start, and now and then one to ignore."""
    DRIBBLE = 7
    """Content, or stream data, in pieces of next to nothing."""
    TABLE_ENTRIES = 8
    """Instructions of QPACK encoders, which may take one byte and copy 4,096 (RFC 9204 4.3.4)."""
    REPETITIONS = 9
    """Stream data that is there already. Clients send again what was not lost when
    acknowledgements come late or not at all."""
    KEY_UPDATES = 10
    """Key updates (RFC 9001 6), each of which costs as much as five packets. quic-go makes one in
    100,000 packets, most clients none."""


# How many at once, and how many per second in the long run.
LIMITS: dict[Flood, tuple[int, float]] = {
    Flood.CANCELLATIONS: (512, 20.0),
    Flood.CONTROL_FRAMES: (2048, 200.0),
    Flood.IDLE_PACKETS: (4096, 2000.0),
    Flood.CONNECTION_IDS: (128, 2.0),
    Flood.PATHS: (64, 4.0),
    Flood.FRAMES: (512, 100.0),
    Flood.STREAMS: (64, 4.0),
    Flood.DRIBBLE: (8192, 4000.0),
    Flood.TABLE_ENTRIES: (4096, 2000.0),
    Flood.REPETITIONS: (8192, 2000.0),
    Flood.KEY_UPDATES: (32, 1.0),
}

# The last piece of content may be as short as it likes; shorter ones before it dribble.
DRIBBLE_BYTES = 4

# Pieces of stream data that may wait for what comes before them, on all streams of a connection.
# Each takes some hundred bytes beside its data (RUSTSEC-2026-0185); a connection's default window
# in packets of 1,200 bytes, every second of them lost, is 7,000.
MAX_FRAGMENTS = 8192


class Budgets:
    """The budgets of one connection. Its owner says what time it is by `passes`."""

    __slots__ = ("_buckets", "_now", "filled", "fragments")

    def __init__(self) -> None:
        self.fragments = 0
        """Pieces that wait now; their owners count them up and down."""
        self.filled = 0
        """A number that grows whenever stream data was kept to wait, or filled a gap."""
        self._now = 0.0
        # Most connections meet three of them.
        self._buckets: list[TokenBucket | None] = [None] * len(LIMITS)

    def passes(self, now: float) -> None:
        """It is `now`: seconds, by any clock that does not go back."""
        self._now = now

    def spend(self, flood: Flood, amount: int = 1) -> None:
        """Count one more of `flood`. Raises H3ConnectionError once it is too many."""
        bucket = self._buckets[flood]
        if bucket is None:
            burst, rate = LIMITS[flood]
            bucket = self._buckets[flood] = TokenBucket(rate, burst=burst)
        if not bucket.admit(self._now, amount):
            raise TooMuch(flood)


class TooMuch(H3ConnectionError):
    """A client did more of something than anyone does in earnest."""

    def __init__(self, flood: Flood) -> None:
        what = flood.name.lower().replace("_", " ")
        super().__init__(ErrorCode.EXCESSIVE_LOAD, f"too many {what}")
        self.flood = flood
