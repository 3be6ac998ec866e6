"""One direction of a link: a queue, a rate and a delay. Knows nothing about what it carries."""

from collections import deque


class Link:
    """Carries packets in order. Seconds by any clock that does not go back."""

    def __init__(self, *, bits_per_second: float, delay: float, queue_packets: int) -> None:
        """`delay` is one way, in seconds; `queue_packets` may wait behind the one being sent."""
        self._seconds_per_byte = 8 / bits_per_second
        self._delay = delay
        self._queue_packets = queue_packets
        self._free_at = 0.0
        self._starts: deque[float] = deque()
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def offer(self, packet: bytes, now: float) -> bool:
        """Send `packet`; False if the queue was full, and the packet is lost."""
        while self._starts and self._starts[0] <= now:
            self._starts.popleft()
        start = max(now, self._free_at)
        if start > now:
            if len(self._starts) >= self._queue_packets:
                return False
            self._starts.append(start)
        self._free_at = start + len(packet) * self._seconds_per_byte
        self._on_the_way.append((self._free_at + self._delay, packet))
        return True

    def arrived(self, now: float) -> list[bytes]:
        """The packets that are at the other end by now."""
        packets = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            packets.append(self._on_the_way.popleft()[1])
        return packets

    def next_at(self) -> float | None:
        """When the next packet arrives; None if none is on the way."""
        return self._on_the_way[0][0] if self._on_the_way else None
