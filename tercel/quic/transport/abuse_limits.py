"""Abuse limits: how much of each costly action one client may perform on one connection.

Each action is legal once and an attack when repeated a hundred thousand times: it costs the client
a few bytes and the server a task, an answer or an entry in a table. Knows neither frames nor
sockets.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from tercel.quic.transport.errors import EXCESSIVE_LOAD, ApplicationCloseError
from tercel.shared.token_bucket import TokenBucket


class Flood(IntEnum):
    """The actions that are counted, each with how often legitimate clients perform it."""

    CANCELLATIONS = 0
    """Requests reset, stopped or malformed (rapid reset, CVE-2023-44487). A browser that leaves a
    page gives up all of its requests at once: some hundred."""
    CONTROL_FRAMES = 1
    """QUIC frames without effect: PING, *_BLOCKED, a second ACK in a packet, a limit that is
    not raised. A client sends a few each second, more after losses."""
    IDLE_PACKETS = 2
    """Packets without content and without a new acknowledgement: padding, keep-alives, probes,
    acknowledgements that the network put out of order."""
    CONNECTION_IDS = 3
    """NEW_CONNECTION_ID and RETIRE_CONNECTION_ID (CVE-2024-22189). Eight of them at the start, and
    a few with every change of the network."""
    PATHS = 4
    """PATH_CHALLENGE, each of which requires an answer (CVE-2023-49295)."""
    FRAMES = 5
    """HTTP/3 frames that are unknown, empty or without effect, and PRIORITY_UPDATE."""
    STREAMS = 6
    """Unidirectional streams. Three at the start, and an occasional one of an unknown type."""
    DRIBBLE = 7
    """Content, or stream data, in tiny pieces."""
    TABLE_ENTRIES = 8
    """Instructions of QPACK encoders, which may take one byte and copy 4,096 (RFC 9204 4.3.4)."""
    REPETITIONS = 9
    """Stream data that was received already. Clients retransmit data that was not lost when
    acknowledgements are late or missing."""
    KEY_UPDATES = 10
    """Key updates (RFC 9001 6), each of which costs as much as five packets. quic-go makes one in
    100,000 packets, most clients none."""


# How many at once, and how many per second in the long run; EARNED adds to it. Browsers and other
# clients were measured: none comes to a tenth of a burst (docs/limits.md).
LIMITS: dict[Flood, tuple[int, float]] = {
    Flood.CANCELLATIONS: (4096, 20.0),
    Flood.CONTROL_FRAMES: (4096, 200.0),
    Flood.IDLE_PACKETS: (4096, 2000.0),
    Flood.CONNECTION_IDS: (128, 2.0),
    Flood.PATHS: (64, 4.0),
    Flood.FRAMES: (2048, 100.0),
    Flood.STREAMS: (64, 4.0),
    Flood.DRIBBLE: (8192, 4000.0),
    Flood.TABLE_ENTRIES: (4096, 2000.0),
    Flood.REPETITIONS: (8192, 2000.0),
    Flood.KEY_UPDATES: (32, 1.0),
}


class Work(NamedTuple):
    """Legitimate work of a client: the amount done so far, or the credit that each unit earns."""

    requests: float = 0
    """Request streams opened."""
    answers: float = 0
    """Responses written completely."""
    packets: float = 0
    """Packets of this side that the client has acknowledged."""
    kilobytes: float = 0
    """Stream data consumed, in units of 1,024 bytes."""

    def credit_for(self, done: "Work") -> float:
        """The credit that `done` earns at these rates."""
        return (
            self.requests * done.requests
            + self.answers * done.answers
            + self.packets * done.packets
            + self.kilobytes * done.kilobytes
        )


# What work earns. Time alone is no measure: who sends twice as many requests a second also cancels
# twice as many, and a fast upload meets a flow-control limit more often than a slow one.
EARNED: dict[Flood, Work] = {
    # A request that is only begun to be given up earns nothing.
    Flood.CANCELLATIONS: Work(answers=1),
    # RESET_STREAM, STOP_SENDING and MAX_STREAM_DATA of each request; *_BLOCKED of each window.
    Flood.CONTROL_FRAMES: Work(requests=4, packets=1 / 16, kilobytes=1 / 16),
    # Those frames in packets of their own; an acknowledgement that comes late for each packet; one
    # packet that is sent again for each that is new.
    Flood.IDLE_PACKETS: Work(requests=4, packets=1, kilobytes=1),
    # quic-go takes another connection ID each 10,000 packets.
    Flood.CONNECTION_IDS: Work(packets=1 / 512, kilobytes=1 / 512),
    Flood.PATHS: Work(),
    # Chromium sends a PRIORITY_UPDATE for each request, and again when an image comes into view.
    Flood.FRAMES: Work(requests=4),
    Flood.STREAMS: Work(),
    Flood.DRIBBLE: Work(requests=4, kilobytes=1),
    # Browsers insert the new fields of a request: its path, a cookie.
    Flood.TABLE_ENTRIES: Work(requests=8),
    Flood.REPETITIONS: Work(requests=2, kilobytes=1),
    Flood.KEY_UPDATES: Work(),
}

# The last piece of content may be as short as it likes; shorter ones before it dribble.
DRIBBLE_BYTES = 4

# Pieces of stream data that may wait for what comes before them, on all streams of a connection.
# Each takes some hundred bytes beside its data (RUSTSEC-2026-0185); a connection's default window
# in packets of 1,200 bytes, every second of them lost, is 7,000.
MAX_FRAGMENTS = 8192


class Budgets:
    """The budgets of one connection. Its owner sets the time by `passes`.

    A budget refills with time, and with the work that `work` reports.
    """

    __slots__ = ("_budgets", "_now", "_pending", "_unsettled", "_work", "filled", "fragments")

    def __init__(self, work: Callable[[], Work] = Work) -> None:
        """`work` returns what the client has done so far."""
        self.fragments = 0
        """Out-of-order pieces stored now; their owners update the count."""
        self.filled = 0
        """A number that grows whenever stream data was stored out of order, or filled a gap."""
        self._work = work
        self._now = 0.0
        self._pending = [0] * len(LIMITS)
        """Amounts that were spent and not settled yet."""
        self._unsettled = [_most_unsettled(burst) for burst, _ in LIMITS.values()]
        """The maximum of `_pending`, never more than the rest."""
        # Few connections ever spend so much that one has to be settled.
        self._budgets: list[_Budget | None] = [None] * len(LIMITS)

    def passes(self, now: float) -> None:
        """Set the time to `now`: seconds, by any monotonic clock."""
        self._now = now

    def spend(self, flood: Flood, amount: int = 1) -> None:
        """Count one more of `flood`. Raises ApplicationCloseError if the budget is exceeded."""
        pending = self._pending
        pending[flood] += amount
        if pending[flood] > self._unsettled[flood]:
            self._settle(flood)

    def peaks(self) -> dict[Flood, float]:
        """The highest used part of each burst: 1.0 is all of it."""
        peaks = {}
        for flood, (burst, _) in LIMITS.items():
            budget = self._budgets[flood]
            left, lowest = (burst, burst) if budget is None else (budget.left, budget.lowest)
            peaks[flood] = 1 - max(0.0, min(lowest, left - self._pending[flood])) / burst
        return peaks

    def _settle(self, flood: Flood) -> None:
        budget = self._budgets[flood]
        if budget is None:
            budget = self._budgets[flood] = _Budget(flood)
        if not budget.settle(self._pending[flood], self._now, self._work()):
            raise BudgetExceeded(flood)
        self._pending[flood] = 0
        self._unsettled[flood] = min(_most_unsettled(LIMITS[flood][0]), int(budget.left))


def _most_unsettled(burst: int) -> int:
    """How much is spent before time and work are read; until then, spending is one addition."""
    return min(max(burst // 100, 8), burst)


class _Budget:
    """The state of one budget."""

    __slots__ = ("_bucket", "_earned", "_rates", "lowest")

    def __init__(self, flood: Flood) -> None:
        burst, rate = LIMITS[flood]
        self._bucket = TokenBucket(rate, burst=burst)
        self._rates = EARNED[flood]
        self._earned = 0.0
        self.lowest = float(burst)
        """The lowest rest so far."""

    @property
    def left(self) -> float:
        """The rest at the last `settle`."""
        return self._bucket.left

    def settle(self, spent: int, now: float, work: Work) -> bool:
        """Add what was earned, then take what was spent; False if the rest is not enough."""
        bucket, earned = self._bucket, self._rates.credit_for(work)
        bucket.give(earned - self._earned)
        self._earned = earned
        admitted = bucket.admit(now, spent)
        self.lowest = min(self.lowest, bucket.left) if admitted else 0.0
        return admitted


class BudgetExceeded(ApplicationCloseError):
    """The peer exceeded an abuse limit."""

    def __init__(self, flood: Flood) -> None:
        what = flood.name.lower().replace("_", " ")
        super().__init__(EXCESSIVE_LOAD, f"too many {what}")
        self.flood = flood
