"""The paths of a connection whose client migrates (RFC 9000 9) or gets a new NAT binding.

Uses private names of aioquic, with canaries in tests/quic/transport. aioquic challenges a new
path once, spends the anti-amplification limit of an unvalidated address on data, and keeps the
congestion window and the connection ID of the previous path.
"""

import math
from collections.abc import Callable
from typing import Any

from aioquic.quic.congestion.base import create_congestion_control
from aioquic.quic.connection import (
    ACK_FRAME_CAPACITY,
    PATH_CHALLENGE_FRAME_CAPACITY,
    QuicNetworkPath,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

from tercel.quic.transport.handshake_state import HandshakeStateConnection
from tercel.quic.transport.protection import NUMBER_BYTES, TAG_BYTES
from tercel.quic.transport.sent_packets import SentPacket, SentPiece

_PING_BYTES = 1
# RFC 9000 8.2.1: a challenge's datagram has to be as large where the limit permits it.
_FULL_CHALLENGE_BYTES = 1200
# Challenges for which an unvalidated address always has room, after the one that is sent.
_REPETITIONS = 2


def _plain_ends(address: Any) -> tuple[Any, Any]:
    return address[0], None


class MigratingConnection(HandshakeStateConnection):
    """A server's QUIC connection that follows its client from one address to another.

    For an address passed to `receive_datagram`, `ends` returns the peer's host, without its port,
    and the local address, both comparable.
    """

    __slots__ = ("_ends", "_estimated_host")

    def __init__(
        self, *, ends: Callable[[Any], tuple[Any, Any]] = _plain_ends, **options: Any
    ) -> None:
        super().__init__(**options)
        self._ends = ends
        self._estimated_host: Any = None
        """The peer's host for which round-trip time and congestion window were measured."""

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Take one datagram from `addr`."""
        before = self._network_paths[0].addr if self._network_paths else None
        if before is not None and addr != before and not self._handshake_complete:
            # RFC 9000 9: nobody moves before the handshake is confirmed. aioquic would take the
            # client's last flight as proof of an address that has never heard of the server.
            return
        cid = self._peer_cid
        super().receive_datagram(data, addr, now)
        if not self._network_paths:
            return
        path = self._network_paths[0]
        host, end = self._ends(path.addr)
        if (
            before is not None
            and path.addr != before
            and cid is self._peer_cid
            and end != self._ends(before)[1]
        ):
            # RFC 9000 9.5: not from two addresses, even if the client has used one for both.
            self.change_connection_id()
        if path.is_validated and host != self._estimated_host:
            if self._estimated_host is not None:
                self._forget_estimates()
            self._estimated_host = host

    def _send_probe(self) -> None:
        super()._send_probe()
        if self._handshake_complete and not self._network_paths[0].is_validated:
            # RFC 9000 8.2.1: to be repeated. aioquic repeats the oldest packet, of the old path,
            # and a challenge only after an acknowledgement, which may never come.
            self._network_paths[0].local_challenge_sent = False

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        if self._handshake_complete and not network_path.is_validated:
            self._save_room(builder, network_path, now)
        super()._write_application(builder, network_path, now)

    def _save_room(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        """Reserve part of the path's anti-amplification limit (RFC 9000 8) for more challenges.

        A client that only acknowledges gives room for 130 bytes, and may be silent from then on: if
        a single challenge with data uses them all and is lost, neither side ever sends again.
        """
        room = builder.max_total_bytes
        if room is None:
            return
        challenges = not network_path.local_challenge_sent
        least = 1 + len(self._peer_cid.cid) + NUMBER_BYTES + TAG_BYTES
        least += PATH_CHALLENGE_FRAME_CAPACITY + _PING_BYTES
        least += PATH_CHALLENGE_FRAME_CAPACITY * len(network_path.remote_challenges)
        ack_at = self._spaces[Epoch.ONE_RTT].ack_at
        acknowledges = ack_at is not None and ack_at <= now
        if acknowledges:
            least += ACK_FRAME_CAPACITY
        # What timers wait for has to be sent, or they would fire again at once.
        needed = least if challenges or acknowledges or self._probe_pending else 0
        if challenges and room >= _FULL_CHALLENGE_BYTES:
            needed = _FULL_CHALLENGE_BYTES
        builder.max_total_bytes = max(room - _REPETITIONS * least, min(room, needed), 0)

    def _forget_estimates(self) -> None:
        """Reset the estimates (RFC 9000 9.4); packets of the previous path do not count."""
        loss = self._loss
        loss._cc = create_congestion_control(
            self._configuration.congestion_control_algorithm,
            max_datagram_size=self._max_datagram_size,
        )
        loss._rtt_initialized = False
        loss._rtt_latest = loss._rtt_smoothed = loss._rtt_variance = 0.0
        loss._rtt_min = math.inf
        loss._pacer.packet_time = None
        for space in loss.spaces:
            sent: dict[int, Any] = space.sent_packets
            for number, packet in sent.items():
                if type(packet) is SentPiece:
                    sent[number] = _general(packet)
                else:
                    packet.in_flight = False


def _general(piece: SentPiece) -> SentPacket:
    """The same packet, but not in flight."""
    packet = SentPacket(piece.packet_number, piece.sent_time)
    packet.sent_bytes = piece.sent_bytes
    packet.is_ack_eliciting = True
    packet.pieces.append((piece.stream, piece.start, piece.stop, False))
    return packet
