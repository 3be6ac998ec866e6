"""The packets of a handshake, and of the time until the warm path is open, without idle steps.

aioquic begins a packet to find out that there is nothing for it, in each packet number space and
each time that something is sent: four times in a handshake, for five packets. What is written here
is what aioquic writes, frame by frame, by its own methods; whatever is uncommon it writes itself.
Touches names of aioquic that start with an underscore, with canaries in tests/quic/test_brief.py.
"""

from typing import Any

from aioquic.quic.connection import QuicNetworkPath
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender
from aioquic.tls import Epoch

from tercel.quic.parameters import ParameterConnection

_EARLIER = (Epoch.INITIAL, Epoch.HANDSHAKE)


class BriefConnection(ParameterConnection):
    """A QUIC connection that begins no packet for nothing."""

    def _are_limits_due(self) -> bool:
        """Whether the peer is to be told that it may send more; it may be, where nobody knows."""
        return True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What waits to be sent, and where to."""
        if not self._fast_path or not self._is_idle(now):
            return super().datagrams_to_send(now)
        self._pacing_at = None
        if self._cryptos[Epoch.ONE_RTT].send.is_valid():
            self._pacing_at = self._loss._pacer.next_send_time(now=now)
        return []

    def _is_idle(self, now: float) -> bool:
        """Whether there is nothing to send, as after most acknowledgements in a handshake."""
        if self._close_pending or self._probe_pending or len(self._network_paths) != 1:
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
        """Whether the client is to be told that the handshake is over, or of connection IDs."""
        return self._handshake_done_pending or any(
            not connection_id.was_sent for connection_id in self._host_cids
        )

    def _write_handshake(self, builder: QuicPacketBuilder, epoch: Epoch, now: float) -> None:
        if not self._fast_path or self._probe_pending:
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
                self._write_crypto_frame(builder=builder, space=space, stream=stream)
                _look_again(stream.sender)
            if builder.packet_is_empty:
                return

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        keys = self._cryptos[Epoch.ONE_RTT]
        if not self._fast_path or not keys.send.is_valid() or self._is_uncommon(network_path):
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
        """Whether there is anything to send that `_write_frames` does not know."""
        return bool(
            self._probe_pending
            or self._ping_pending
            or self._datagrams_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or network_path.remote_challenges
            or (self._handshake_complete and not network_path.is_validated)
        ) or any(
            stream.is_finished or stream.receiver.stop_pending or stream.sender.reset_pending
            for stream in self._streams_queue
        )

    def _write_frames(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> bool:
        """Fill a packet; whether something may be left for another."""
        if self._handshake_complete:
            if self._handshake_done_pending:
                self._write_handshake_done_frame(builder=builder)
                self._handshake_done_pending = False
            for connection_id in self._host_cids:
                if not connection_id.was_sent:
                    self._write_new_connection_id_frame(
                        builder=builder, connection_id=connection_id
                    )
            self._write_connection_limits(builder=builder, space=space)
        for stream in self._streams.values():
            self._write_stream_limits(builder=builder, space=space, stream=stream)
        crypto_stream = self._crypto_streams[Epoch.ONE_RTT]
        if not crypto_stream.sender.buffer_is_empty:
            self._write_crypto_frame(builder=builder, space=space, stream=crypto_stream)
            _look_again(crypto_stream.sender)
        self._write_streams(builder, space)
        return not crypto_stream.sender.buffer_is_empty or any(
            not stream.sender.buffer_is_empty for stream in self._streams_queue
        )

    def _write_streams(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """Send what streams have, and put those that were served behind the others."""
        served = []
        try:
            for stream in self._streams_queue:
                sender = stream.sender
                if stream.is_blocked or sender.buffer_is_empty:
                    continue
                credit = self._remote_max_data - self._remote_max_data_used
                used = self._write_stream_frame(
                    builder=builder,
                    space=space,
                    stream=stream,
                    max_offset=min(sender.highest_offset + credit, stream.max_stream_data_remote),
                )
                self._remote_max_data_used += used
                _look_again(sender)
                if used > 0:
                    served.append(stream)
        finally:
            # A packet that is full ends this by an exception.
            if served:
                self._streams_queue = [
                    stream for stream in self._streams_queue if stream not in served
                ]
                self._streams_queue += served


def _look_again(sender: QuicStreamSender) -> None:
    """Find out whether there is more to send, as aioquic does by asking for another frame."""
    if not (len(sender._pending) or sender._pending_eof):
        sender.buffer_is_empty = True
