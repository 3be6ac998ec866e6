"""The legitimate work of one client, read from counters that exist anyway. No I/O."""

from typing import TYPE_CHECKING

from aioquic.quic.connection import Limit

from tercel.quic.transport.abuse_limits import Work

if TYPE_CHECKING:
    from aioquic.quic.recovery import QuicPacketSpace


class WorkDone:
    """Reads the counters of one connection; nothing is counted a second time.

    `requests` and `data` are the limits that this side set for request streams and stream data.
    """

    __slots__ = ("_data", "_requests", "_window", "answers", "packets", "unconsumed")

    def __init__(self, requests: Limit, data: Limit) -> None:
        self._requests = requests
        self._data = data
        self._window = data.value
        self.packets: QuicPacketSpace | None = None
        """The packets whose acknowledgements count."""
        self.answers = 0
        """Responses that were written completely."""
        self.unconsumed = 0
        """Credit for stream data that was returned without consumption."""

    def so_far(self) -> Work:
        """The work done since the connection began."""
        return Work(
            requests=self._requests.used,
            answers=self.answers,
            packets=0 if self.packets is None else self.packets.largest_acked_packet,
            # Not what was received: by that a reset and a gap count as if all of it had come.
            kilobytes=(self._data.value - self._window - self.unconsumed) / 1024,
        )
