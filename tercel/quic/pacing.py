"""How packets are spread over a round trip (RFC 9002 7.7)."""

from aioquic.quic.recovery import QuicPacketPacer

# RFC 9002 7.7: a little faster than one window per round trip, so that all of it is used.
_GAIN = 1.25
# As much as this time brings may go in one burst, as Linux does it for TCP: a loop's timers have a
# resolution of a millisecond. aioquic allows 16 packets, one every so many microseconds: 13 of
# them were sent at a time, and 150 Mbit/s were the most.
_BURST_SECONDS = 0.001


class Pacer(QuicPacketPacer):
    """aioquic's, with bursts for loops whose timers are coarse."""

    pause = 0.0
    """Seconds until sending goes on when the bucket is empty."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Take a new window in bytes and a new round-trip time in seconds."""
        super().update_rate(congestion_window, smoothed_rtt)
        if self.packet_time is not None:
            self.packet_time /= _GAIN
            self.bucket_max = max(self.bucket_max / _GAIN, _BURST_SECONDS)
            self.pause = max(self.packet_time, _BURST_SECONDS / 2)

    def update_after_send(self, now: float) -> None:
        """Note that a packet was sent."""
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
