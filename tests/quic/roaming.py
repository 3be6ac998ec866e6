"""A pair with a network between, whose client gets other addresses, in virtual time."""

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

from tests.quic.pair import CLIENT, SERVER, Pair

DELAY = 0.02
"""Seconds, each way."""
_BYTES_PER_SECOND = 1_000_000
_QUEUE_SECONDS = 0.025
# As on a real clock: a timer fires a little late, never a rounding error too soon.
_TICK = 1e-6


class RoamingPair(Pair):
    """Passes datagrams with a rate and a delay; what goes to an address of before gets lost.

    `lost` decides for each datagram, its way ("up" or "down") and its address, whether it gets
    lost. `moves` are the client's next addresses, each with the time from which on it has it.
    """

    def __init__(self, **options: Any) -> None:
        self.address: Any = CLIENT
        self.moves: list[tuple[float, Any]] = []
        self.lost: Callable[[str, bytes, Any], bool] = lambda way, data, address: False
        self.sent: list[tuple[float, Any, int]] = []
        """Of the server: when, to where, and how many bytes."""
        self.got = 0
        self.ended = False
        self._under_way: list[tuple[float, int, str, bytes, Any]] = []
        self._order = count()
        self._free_at = {"up": 0.0, "down": 0.0}
        super().__init__(**options)

    def download(self, size: int) -> None:
        """Ask for `size` bytes and begin to send them."""
        self.client.send_stream_data(0, b"GET", end_stream=True)
        self.run(4 * DELAY)
        self.server.send_stream_data(0, bytes(size), end_stream=True)

    def longest_gap(self, since: float) -> float:
        """The longest time in which the server sent nothing, in seconds."""
        times = [since, *(at for at, _, _ in self.sent if at > since)]
        return max(after - before for before, after in pairwise(times))

    def run(self, seconds: float = 1.0) -> None:
        """Let time go by until the download has ended, but not more than `seconds`."""
        end = self.now + seconds
        while not self.ended:
            self.exchange()
            due = self._next_at()
            if due >= end:
                self.now = end
                return
            self.now = max(self.now, due) + _TICK
            self._arrive()
            for side in (self.client, self.server):
                timer = side.get_timer()
                if timer is not None and timer <= self.now:
                    side.handle_timer(self.now)
            self._collect(self.server, self.server_events)
            self._collect(self.client, self.client_events)
            self._count()

    def client_sends(self) -> bool:
        """Send what the client has to send now from where it is."""
        datagrams = self.client.datagrams_to_send(self.now)
        for data, _ in datagrams:
            self._send("up", data, self.address)
        return bool(datagrams)

    def server_sends(self) -> bool:
        """Send what the server has to send now."""
        if not self.server.network_paths:
            return False
        datagrams = self.server.datagrams_to_send(self.now)
        for data, address in datagrams:
            self.sent.append((self.now, address, len(data)))
            self._send("down", data, address)
        return bool(datagrams)

    def _send(self, way: str, data: bytes, address: Any) -> None:
        start = max(self.now, self._free_at[way])
        if start - self.now <= _QUEUE_SECONDS and not self.lost(way, data, address):
            self._free_at[way] = start + len(data) / _BYTES_PER_SECOND
            arrival = self._free_at[way] + DELAY
            heapq.heappush(self._under_way, (arrival, next(self._order), way, data, address))

    def _next_at(self) -> float:
        timers = [side.get_timer() for side in (self.client, self.server)]
        times = [timer for timer in timers if timer is not None]
        times += [at for at, *_ in (*self._under_way[:1], *self.moves[:1])]
        return min(times)

    def _arrive(self) -> None:
        while self.moves and self.moves[0][0] <= self.now:
            _, self.address = self.moves.pop(0)
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, way, data, address = heapq.heappop(self._under_way)
            if way == "up":
                self.server.receive_datagram(data, address, self.now)
            elif address == self.address:
                self.client.receive_datagram(data, SERVER, self.now)

    def _count(self) -> None:
        for event in self.client_events:
            if getattr(event, "stream_id", None) == 0:
                self.got += len(getattr(event, "data", b""))
                self.ended = self.ended or bool(getattr(event, "end_stream", False))
        self.client_events.clear()


def losing(share: float, seed: object) -> Callable[[str, bytes, Any], bool]:
    """What loses a share of all datagrams."""
    chance = random.Random(repr(seed)).random
    return lambda way, data, address: chance() < share
