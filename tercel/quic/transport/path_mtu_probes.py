"""Path MTU discovery on a connection: sends the probes, and uses the sizes that arrive.

Part of the fast path: a connection that sends little, or by aioquic's own code, sends no probes.
Uses private names of aioquic, with canaries in tests/quic/transport.
"""

from typing import Any

from aioquic.quic.packet_builder import QuicDeliveryState

from tercel.quic.transport.fast_receive import FastReceiver
from tercel.quic.transport.path_mtu import BASE_DATAGRAM_BYTES, PathMtu
from tercel.quic.transport.protection import NUMBER_BYTES, TAG_BYTES, first_byte, seal
from tercel.quic.transport.sent_packets import SentPacket

_PING_FRAME = b"\x01"

# Full datagrams that a path has carried before it is worth a probe.
_FULL_DATAGRAMS_FIRST = 16
# Time-outs without any answer after which large datagrams are not used for the next attempt.
_TIMEOUTS = 2


class ProbingConnection(FastReceiver):
    """Searches for the largest datagrams that the path carries, up to `max_datagram_bytes`."""

    __slots__ = ("_full_datagrams", "_most_datagram_bytes", "_mtu", "_mtu_address")

    def __init__(self, *, max_datagram_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._most_datagram_bytes = max_datagram_bytes
        self._mtu = PathMtu(max_datagram_bytes)
        self._mtu_address: Any = None
        self._full_datagrams = 0

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The datagrams to send, each with its address."""
        if not self._surveyed:
            # Neither a time-out nor another path leaves a survey as it was.
            self._follow_path()
        datagrams = FastReceiver.datagrams_to_send(self, now)
        if (
            datagrams
            and len(datagrams[0][0]) >= self._max_datagram_size
            and self._surveyed  # else aioquic's code sent them
        ):
            self._follow(len(datagrams))
            if self._full_datagrams >= _FULL_DATAGRAMS_FIRST:
                size = self._mtu.probe(now)
                if size is not None:
                    datagrams.append((self._probe_packet(size, now), self._mtu_address))
        return datagrams

    def _follow_path(self) -> None:
        if self._mtu.size > BASE_DATAGRAM_BYTES and self._loss._pto_count >= _TIMEOUTS:
            self._mtu.fall_back()
            self._apply_size()
        address = self._network_paths[0].addr if self._network_paths else None
        if address != self._mtu_address:
            self._use_path(address)

    def _use_path(self, address: Any) -> None:
        """Start on a new path with the size that every path carries (RFC 9000 14.3)."""
        self._mtu_address = address
        self._mtu = PathMtu(self._most_datagram_bytes)
        self._full_datagrams = 0
        self._apply_size()

    def _apply_size(self) -> None:
        size = self._mtu.size
        self._max_datagram_size = self._pacer._max_datagram_size = size
        # RFC 9002 7.2 and B.2: windows are counted in it.
        control: Any = self._loss._cc
        control._max_datagram_size = size
        if hasattr(control, "additive_increase_factor"):
            control.additive_increase_factor = size

    def _follow(self, count: int) -> None:
        """Track the first of `count` packets that were just built, which is of full size."""
        self._full_datagrams += count
        if self._mtu.size > BASE_DATAGRAM_BYTES:
            packet: Any = self._data_space.sent_packets.get(self._packet_number - count)
            if type(packet) is SentPacket:
                packet.handlers.append((self._on_large_delivery, (self._mtu,)))

    def _probe_packet(self, size: int, now: float) -> bytes:
        """A datagram of `size` bytes whose loss is not treated as congestion (RFC 9000 14.4)."""
        packet = SentPacket(self._packet_number, now)
        # In flight for its acknowledgement, not for the congestion window.
        packet.is_ack_eliciting = True
        packet.sent_bytes = size
        packet.handlers.append((self._on_probe_delivery, (self._mtu, size)))
        number, cid, keys = self._packet_number, self._peer_cid.cid, self._data_keys.send
        self._data_space.sent_packets[number] = packet  # type: ignore[assignment]
        self._register(packet, now, 1)
        payload = _PING_FRAME.ljust(size - 1 - len(cid) - NUMBER_BYTES - TAG_BYTES, b"\0")
        (datagram,) = seal(keys, first_byte(keys, self._spin_bit), cid, number, [payload])
        self._network_paths[0].bytes_sent += len(datagram)
        return datagram

    def _on_probe_delivery(self, delivery: QuicDeliveryState, mtu: PathMtu, size: int) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            mtu.probe_lost(size)
            return
        mtu.probe_acknowledged(size)
        if mtu is self._mtu:
            self._apply_size()

    def _on_large_delivery(self, delivery: QuicDeliveryState, mtu: PathMtu) -> None:
        if delivery is QuicDeliveryState.ACKED:
            mtu.acknowledged()
        elif mtu.lost() and mtu is self._mtu:
            self._apply_size()

    # -- what the peer takes ----------------------------------------------------------------------

    def _limit_datagrams(self, most: int) -> None:
        self._most_datagram_bytes = min(self._most_datagram_bytes, most)
