"""Pacing: spreads packets over a round trip (RFC 9002 7.7)."""

from aioquic.quic.recovery import QuicPacketPacer

# RFC 9002 7.7: a little faster than one window per round trip, so that all of it is used.
_GAIN = 1.25
# As much as this time brings may go in one burst, as Linux does it for TCP: a loop's timers have a
# resolution of a millisecond. aioquic allows 16 packets, one every so many microseconds: 13 of
# them were sent at a time, and 150 Mbit/s were the most.
_BURST_SECONDS = 0.001

# aioquic's.
_LEAST_RTT = _LEAST_PACKET_SECONDS = 0.000001
_MOST_PACKET_SECONDS = 1.0
_LEAST_BURST_PACKETS, _MOST_BURST_PACKETS = 2, 16


class Pacer(QuicPacketPacer):
    """aioquic's pacer, with bursts for event loops whose timers are coarse."""

    pause = 0.0
    """Seconds until sending resumes when the bucket is empty."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Set a new window in bytes and a new round-trip time in seconds."""
        # As aioquic's, in one step, then with the gain: for each acknowledgement, 1 us is a lot.
        size = self._max_datagram_size
        rate = congestion_window / (smoothed_rtt if smoothed_rtt > _LEAST_RTT else _LEAST_RTT)
        packet_time = size / rate
        if packet_time > _MOST_PACKET_SECONDS:
            packet_time = _MOST_PACKET_SECONDS
        elif packet_time < _LEAST_PACKET_SECONDS:
            packet_time = _LEAST_PACKET_SECONDS
        burst = congestion_window // 4
        if burst > _MOST_BURST_PACKETS * size:
            burst = _MOST_BURST_PACKETS * size
        elif burst < _LEAST_BURST_PACKETS * size:
            burst = _LEAST_BURST_PACKETS * size
        most = burst / rate
        if self.bucket_time > most:
            self.bucket_time = most
        self.packet_time = packet_time = packet_time / _GAIN
        most /= _GAIN
        self.bucket_max = most if most > _BURST_SECONDS else _BURST_SECONDS
        self.pause = packet_time if packet_time > _BURST_SECONDS / 2 else _BURST_SECONDS / 2

    def update_after_send(self, now: float) -> None:
        """Record that a packet was sent."""
        if self.packet_time is not None:
            self.update_bucket(now=now)
            # Below zero, too: what went beyond the bucket's content comes back before the next
            # burst. aioquic forgets it, which is up to a packet for each time it is asked.
            self.bucket_time -= self.packet_time

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        """When the next packet may be sent; None for now."""
        if super().next_send_time(now) is None:
            return None
        return now + self.pause
