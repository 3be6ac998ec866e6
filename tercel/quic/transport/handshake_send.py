"""Sends the packets before the fast path is open, without building packets in vain.

To find out that there is nothing to send, aioquic starts a packet in each packet number space on
each transmission: four times in a handshake, for five packets. The code here writes the same bytes,
frame by frame, by aioquic's own methods; uncommon frames are left to aioquic. Uses private names of
aioquic, with canaries in tests/quic/transport.
"""

from contextlib import suppress
from typing import Any, TypeVar

from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY, QuicNetworkPath
from aioquic.quic.events import ConnectionIdIssued
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from tercel.quic.transport.handshake_receive import HandshakeReceiver
from tercel.quic.transport.packet_builder import (
    PacketBuilder,
    pack_connection_id,
    pack_crypto,
    pack_stream,
)

_Builder = TypeVar("_Builder", bound=QuicPacketBuilder)

_EARLIER = (Epoch.INITIAL, Epoch.HANDSHAKE)
_PACKET_TYPES = {
    Epoch.INITIAL: QuicPacketType.INITIAL,
    Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE,
    Epoch.ONE_RTT: QuicPacketType.ONE_RTT,
}


class HandshakeSender(HandshakeReceiver):
    """A QUIC connection that starts a packet only if there is something to send."""

    def _are_limits_due(self) -> bool:
        """Whether flow control limits are to be announced; True here, as it is not known."""
        return True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The datagrams to send, each with its address."""
        if self._close_pending and not self._is_closed():
            return self._send_close(now)
        if (
            not self._fast_path
            or self._quic_logger is not None
            or len(self._network_paths) != 1
            or self._is_closed()
        ):
            return super().datagrams_to_send(now)
        if self._is_idle(now):
            self._pacing_at = None
            if self._cryptos[Epoch.ONE_RTT].send.is_valid():
                self._pacing_at = self._loss._pacer.next_send_time(now=now)
            return []
        return self._send(now)

    def _send(self, now: float) -> list[tuple[bytes, Any]]:
        # As aioquic's, for one path and no CONNECTION_CLOSE.
        path, control, size = self._network_paths[0], self._loss._cc, self._max_datagram_size
        builder = self._begin_packets(PacketBuilder, path)
        self._pacing_at = None
        flight = control.congestion_window - control.bytes_in_flight
        if flight < size and (self._probe_pending or self._handshake_data_stranded()):
            flight = size
        builder.max_flight_bytes = flight
        try:
            if not self._handshake_confirmed:
                for epoch in _EARLIER:
                    self._write_handshake(builder, epoch, now)
            self._write_application(builder, path, now)
        except QuicPacketBuilderStop:
            pass
        return self._register_packets(builder, path, now)

    def _send_close(self, now: float) -> list[tuple[bytes, Any]]:
        """CONNECTION_CLOSE at each level that the peer may be able to decrypt (RFC 9000 10.2.3).

        Unlike aioquic's, it respects the anti-amplification limit of a path that is not validated
        (8.1): the reason is left out if it does not fit, and nothing is sent if the frame does not
        fit.
        """
        path, closing = self._network_paths[0], self._close_event
        assert closing is not None  # noqa: S101  # it is pending
        builder = self._begin_packets(QuicPacketBuilder, path, quic_logger=self._quic_logger)
        epochs = () if self._handshake_confirmed else _EARLIER
        for epoch in (*epochs, Epoch.ONE_RTT):
            keys = self._cryptos[epoch]
            if not keys.send.is_valid():
                continue
            with suppress(QuicPacketBuilderStop):
                builder.start_packet(_PACKET_TYPES[epoch], keys)
                reason = closing.reason_phrase
                room = builder.remaining_buffer_space - TRANSPORT_CLOSE_FRAME_CAPACITY
                self._write_connection_close_frame(
                    builder=builder,
                    epoch=epoch,
                    error_code=closing.error_code,
                    frame_type=closing.frame_type,
                    reason_phrase=reason if len(reason.encode()) <= room else "",
                )
        self._close_pending = False
        self._close_begin(is_initiator=True, now=now)
        return self._flush_builder(
            builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now
        )

    def _begin_packets(
        self, kind: type[_Builder], path: QuicNetworkPath, **options: Any
    ) -> _Builder:
        """The packet builder for `path`, within its anti-amplification limit (RFC 9000 8.1)."""
        builder = kind(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=self._max_datagram_size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            peer_token=self._peer_token,
            spin_bit=self._spin_bit,
            version=self._version,  # type: ignore[arg-type]  # known from the first packet
            **options,
        )
        if not path.is_validated:
            builder.max_total_bytes = 3 * path.bytes_received - path.bytes_sent
        return builder

    def _register_packets(
        self, builder: PacketBuilder, path: QuicNetworkPath, now: float
    ) -> list[tuple[bytes, Any]]:
        # As aioquic's `_flush_builder`.
        datagrams, packets = builder.flush()
        if datagrams:
            self._packet_number = builder.packet_number
        for packet in packets:
            packet.sent_time = now
            self._loss.on_packet_sent(packet=packet, space=self._spaces[packet.epoch])
            if packet.is_ack_eliciting and not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_timeout()  # RFC 9000 10.1
                self._ack_eliciting_sent_since_receipt = True
        path.bytes_sent += sum(map(len, datagrams))
        return [(datagram, path.addr) for datagram in datagrams]

    def _is_idle(self, now: float) -> bool:
        """Whether there is nothing to send, as after most acknowledgements in a handshake."""
        if self._probe_pending:
            return False
        if not self._handshake_confirmed and any(
            self._spaces[epoch].ack_at is not None
            or not self._crypto_streams[epoch].sender.buffer_is_empty
            for epoch in _EARLIER
            if self._cryptos[epoch].send.is_valid()
        ):
            return False
        if not self._cryptos[Epoch.ONE_RTT].send.is_valid():
            return True
        ack_at = self._spaces[Epoch.ONE_RTT].ack_at
        return (
            not (
                (ack_at is not None and ack_at <= now)
                or self._is_uncommon(self._network_paths[0])
                or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
                or any(not stream.sender.buffer_is_empty for stream in self._streams_queue)
                or (self._handshake_complete and self._has_news())
            )
            and not self._are_limits_due()
        )

    def _has_news(self) -> bool:
        """Whether HANDSHAKE_DONE or NEW_CONNECTION_ID frames are to be sent."""
        return self._handshake_done_pending or any(
            not connection_id.was_sent for connection_id in self._host_cids
        )

    def _write_handshake(self, builder: QuicPacketBuilder, epoch: Epoch, now: float) -> None:
        if type(builder) is not PacketBuilder or self._probe_pending:
            super()._write_handshake(builder, epoch, now)
            return
        keys = self._cryptos[epoch]
        if not keys.send.is_valid():
            return
        kind = QuicPacketType.INITIAL if epoch is Epoch.INITIAL else QuicPacketType.HANDSHAKE
        space, stream = self._spaces[epoch], self._crypto_streams[epoch]
        while space.ack_at is not None or not stream.sender.buffer_is_empty:
            builder.start_packet(kind, keys)
            if space.ack_at is not None:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if not stream.sender.buffer_is_empty:
                pack_crypto(builder, stream)
            if builder.packet_is_empty:
                return

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        keys = self._cryptos[Epoch.ONE_RTT]
        if (
            type(builder) is not PacketBuilder
            or not keys.send.is_valid()
            or self._is_uncommon(network_path)
        ):
            super()._write_application(builder, network_path, now)
            return
        space, pacer = self._spaces[Epoch.ONE_RTT], self._loss._pacer
        while True:
            if space.ack_at is None or space.ack_at >= now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, keys)
            if space.ack_at is not None and space.ack_at <= now:
                self._write_ack_frame(builder=builder, space=space, now=now)
            left = self._write_frames(builder, space)
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)
            if not left:
                return

    def _is_uncommon(self, network_path: QuicNetworkPath) -> bool:
        """Whether a frame is to be sent that `_write_frames` does not handle."""
        return bool(
            self._probe_pending
            or self._ping_pending
            or self._datagrams_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or network_path.remote_challenges
            or (self._handshake_complete and not network_path.is_validated)
        ) or any(map(_is_stream_uncommon, self._streams_queue))

    def _write_frames(self, builder: PacketBuilder, space: QuicPacketSpace) -> bool:
        """Fill a packet; returns whether there may be more for another."""
        if self._handshake_complete:
            if self._handshake_done_pending:
                self._write_handshake_done_frame(builder=builder)
                self._handshake_done_pending = False
            for connection_id in self._host_cids:
                if not connection_id.was_sent:
                    pack_connection_id(builder, connection_id, self._on_new_connection_id_delivery)
                    self._events.append(ConnectionIdIssued(connection_id.cid))
            self._write_connection_limits(builder=builder, space=space)
        for stream in self._streams.values():
            self._write_stream_limits(builder=builder, space=space, stream=stream)
        crypto_stream = self._crypto_streams[Epoch.ONE_RTT]
        if not crypto_stream.sender.buffer_is_empty:
            pack_crypto(builder, crypto_stream)
        return self._write_streams(builder) or not crypto_stream.sender.buffer_is_empty

    def _write_streams(self, builder: PacketBuilder) -> bool:
        """Send stream data, and requeue the streams that were served behind the others.

        Returns whether there may be more.
        """
        served, left = [], False
        try:
            for stream in self._streams_queue:
                sender = stream.sender
                if sender.buffer_is_empty:
                    continue
                if stream.is_blocked:
                    left = True
                    continue
                credit = self._remote_max_data - self._remote_max_data_used
                used = pack_stream(
                    builder,
                    stream,
                    min(sender.highest_offset + credit, stream.max_stream_data_remote),
                )
                self._remote_max_data_used += used
                if used > 0:
                    served.append(stream)
                if not sender.buffer_is_empty:
                    left = True
        finally:
            # A packet that is full ends this by an exception.
            if served:
                self._streams_queue = [
                    stream for stream in self._streams_queue if stream not in served
                ]
                self._streams_queue += served
        return left


def _is_stream_uncommon(stream: QuicStream) -> bool:
    sender, receiver = stream.sender, stream.receiver
    return (
        (receiver.is_finished and sender.is_finished)
        or receiver.stop_pending
        or sender.reset_pending
    )
