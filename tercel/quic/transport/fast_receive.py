"""The fast path in: decrypts and applies common packets without intermediate objects.

Uses private names of aioquic, each with a canary in tests/quic/transport.

A packet with a short header, under the current keys, on the current path, is decrypted here, and
its ACK, STREAM, PADDING, PING, MAX_DATA, MAX_STREAM_DATA and NEW_CONNECTION_ID frames are applied.
An uncommon packet is left to aioquic before any state has changed; from the first uncommon frame
on, aioquic's own handlers process the rest of a packet. `abuse_limits` applies here, too.
"""

import re
from typing import Any

from aioquic.quic.connection import (
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver
from aioquic.tls import Epoch

from tercel.quic.transport.abuse_limits import Flood
from tercel.quic.transport.ecn import Mark
from tercel.quic.transport.errors import ApplicationCloseError
from tercel.quic.transport.fast_ack import UNCOMMON, FastAcknowledger
from tercel.quic.transport.handshake_receive import add_number
from tercel.quic.transport.protection import SPIN_BIT, unseal
from tercel.quic.transport.varint import decode_varint

# Frame types (RFC 9000 19).
_PADDING, _PING, _ACK, _ACK_ECN, _MAX_DATA, _MAX_STREAM_DATA = 0x00, 0x01, 0x02, 0x03, 0x10, 0x11
_ACK_MASK = 0xFE
_NEW_CONNECTION_ID = 0x18
_STREAM, _STREAM_MASK = 0x08, 0xF8
_FIN, _LENGTH, _OFFSET = 0x01, 0x02, 0x04

_MOST_CID_BYTES = 20
_RESET_TOKEN_BYTES = 16

# A limit that is raised by less is the guard's business.
_LEAST_RAISE_BYTES = 256

# Finding a member of an enumeration by its class costs 0.1 us.
_CONNECTED = QuicConnectionState.CONNECTED
_ONE_RTT = Epoch.ONE_RTT

# More than any datagram holds.
_ZEROS = memoryview(bytes(1 << 16))
_PADDING_RUN = re.compile(rb"\0++")


class FastReceiver(FastAcknowledger):
    """Receives common packets itself, and leaves the others to its base classes."""

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Take one datagram from `addr`."""
        if self._armed and self._receive(data, addr, now):
            return
        self._surveyed = False
        self._known_times = None
        super().receive_datagram(data, addr, now)
        if not self._armed:
            self._arm()

    def _take_last(self, packet: bytes, addr: Any, now: float) -> bool:
        if not self._armed:
            self._arm()
        return self._armed and self._receive(packet, addr, now)

    def _receive(self, data: bytes, addr: Any, now: float) -> bool:
        """Receive a datagram of one common packet; otherwise no state has changed."""
        path = self._network_paths[0]
        if (
            self._state is not _CONNECTED
            or self._close_pending
            or not path.is_validated
            or path.addr != addr
        ):
            return False
        space = self._data_space
        expected = space.expected_packet_number
        opened = unseal(self._data_keys.recv, self.host_cid, expected, data)
        if opened is None:
            return False
        first, number, plain = opened
        known = space.received_packets
        if not plain or number < known._lower or number in known._received:
            return False
        self.budgets.passes(now)
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & SPIN_BIT)
            self._spin_highest_pn = number
        self._idle = True
        try:
            is_ack_eliciting = self._take_frames(plain, path, now)
            if self._idle:
                self.budgets.spend(Flood.IDLE_PACKETS)
        except ApplicationCloseError as error:
            self.exceed(error)
            return True
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            return True
        if self._state is not _CONNECTED or self._close_pending:
            return True
        self._close_at = now + (self._known_times or self._times())[1]
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        add_number(space.ack_queue, number)
        known.add(number)
        mark = self.arriving_mark
        if mark:
            self._data_marks[mark] += 1
        if is_ack_eliciting:
            if mark == Mark.CE:
                space.ack_at = now  # RFC 9000 13.2.1
            elif space.ack_at is None:
                space.ack_at = now + self._ack_delay
        return True

    # -- frames -----------------------------------------------------------------------------------

    def _take_frames(self, plain: bytes, path: QuicNetworkPath, now: float) -> bool:
        """Apply the frames of a packet; returns whether it is ack-eliciting.

        Raises QuicConnectionError and ApplicationCloseError.
        """
        position, end = 0, len(plain)
        is_ack_eliciting = has_ack = False
        while position < end:
            kind = plain[position]
            taken = UNCOMMON
            try:
                if kind & _STREAM_MASK == _STREAM:
                    taken = self._take_stream(plain, position)
                elif kind & _ACK_MASK == _ACK and not has_ack:
                    taken = self._take_ack(plain, position, now, _ONE_RTT, self._data_space)
                    has_ack = taken != UNCOMMON
                elif kind == _PADDING:
                    taken = _padding_end(plain, position)
                elif kind == _PING:
                    self.budgets.spend(Flood.CONTROL_FRAMES)
                    is_ack_eliciting, taken = True, position + 1
                elif kind == _MAX_DATA:
                    taken = self._take_max_data(plain, position)
                elif kind == _MAX_STREAM_DATA:
                    taken = self._take_max_stream_data(plain, position)
                elif kind == _NEW_CONNECTION_ID:
                    taken = self._take_connection_id(plain, position)
            except IndexError:
                pass  # cut off: aioquic says so
            if taken == UNCOMMON:
                rest = self._take_uncommon(plain[position:], path, now, has_ack=has_ack)
                return rest or is_ack_eliciting
            is_ack_eliciting = is_ack_eliciting or kind > _ACK_ECN
            position = taken
        return is_ack_eliciting

    def _take_uncommon(
        self, rest: bytes, path: QuicNetworkPath, now: float, *, has_ack: bool
    ) -> bool:
        """Let aioquic and the guard apply the rest of a packet, which may have begun with ACK."""
        self._surveyed = False
        self._known_times = None
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=self.host_cid,
            network_path=path,
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        if has_ack:
            self._acknowledged_in = context
        # Not the guard's, which asks whether a whole packet was of any use; so does _receive.
        return QuicConnection._payload_received(self, context, rest)[0]

    def _take_stream(self, plain: bytes, position: int) -> int:
        """Apply a STREAM frame (RFC 9000 19.8); returns where it ends."""
        kind = plain[position]
        stream_id, begin = decode_varint(plain, position + 1)
        offset = 0
        if kind & _OFFSET:
            offset, begin = decode_varint(plain, begin)
        end = len(plain)
        if kind & _LENGTH:
            length, begin = decode_varint(plain, begin)
            end = begin + length
            if end > len(plain):
                return UNCOMMON
        stop = offset + end - begin
        stream = self._streams.get(stream_id)
        if stream is None:
            limit = self._local_max_streams_bidi
            if stream_id == 4 * limit.used and limit.used < limit.value:
                if not offset and self._take_request(stream_id, plain[begin:end], kind & _FIN):
                    return end
                stream = self._open_next(limit, 0)
            elif stream_id & 1 or self._stream_is_discarded(stream_id):
                return UNCOMMON
            else:
                stream = self._get_or_create_stream(kind, stream_id)
        elif stream_id & 3 == 3:
            return UNCOMMON
        elif type(stream.receiver) is QuicStreamReceiver:
            stream = self._get_or_create_stream(kind, stream_id)  # the guard's has to replace it
        receiver, limit = stream.receiver, self._local_max_data
        newly_received = stop - receiver.highest_offset if stop > receiver.highest_offset else 0
        if (
            stop > stream.max_stream_data_local
            or limit.used + newly_received > limit.value
            or receiver.is_finished
        ):
            return UNCOMMON
        data, fin = plain[begin:end], bool(kind & _FIN)
        if (
            newly_received
            and offset == receiver._buffer_start
            and not receiver._buffer
            and receiver._final_size is None
        ):
            receiver._buffer_start = receiver.highest_offset = stop
            if fin:
                receiver._final_size = stop
                receiver.is_finished = True
            event: StreamDataReceived | None = StreamDataReceived(data, fin, stream_id)
        else:
            filled = self.budgets.filled
            try:
                event = receiver.handle_frame(QuicStreamFrame(data=data, fin=fin, offset=offset))
            except FinalSizeError:
                return UNCOMMON
            if event is None and filled == self.budgets.filled:
                self.budgets.spend(Flood.REPETITIONS)
                limit.used += newly_received
                return end
        limit.used += newly_received
        if event is not None:
            self._events.append(event)
        self._idle = False
        if receiver.is_finished and stream.sender.is_finished:
            self._ended.append(stream)
        return end

    def _take_request(self, stream_id: int, data: bytes, fin: int) -> bool:
        """Apply the beginning, or all, of the next request; False if it is uncommon."""
        size, limit = len(data), self._local_max_data
        used = limit.used + size
        if not 0 < size <= self._local_max_stream_data_bidi_remote or used > limit.value:
            return False
        receiver = self._open_next(self._local_max_streams_bidi, 0).receiver
        receiver._buffer_start = receiver.highest_offset = size
        if fin:
            receiver._final_size = size
            receiver.is_finished = True
        limit.used = used
        self._events.append(StreamDataReceived(data, fin != 0, stream_id))
        self._idle = False
        return True

    def _take_max_data(self, plain: bytes, position: int) -> int:
        """Apply MAX_DATA (RFC 9000 19.9); returns where it ends."""
        limit, end = decode_varint(plain, position + 1)
        if limit < self._remote_max_data + _LEAST_RAISE_BYTES:
            return UNCOMMON
        self._remote_max_data = limit
        self._due.update(self._parked)
        self._parked.clear()
        return end

    def _take_max_stream_data(self, plain: bytes, position: int) -> int:
        """Apply MAX_STREAM_DATA (RFC 9000 19.10); returns where it ends."""
        stream_id, end = decode_varint(plain, position + 1)
        limit, end = decode_varint(plain, end)
        stream = self._streams.get(stream_id)
        if stream is None and not stream_id & 3:
            # Some clients say so just before their first request.
            credit = self._local_max_streams_bidi
            if (
                stream_id == 4 * credit.used
                and credit.used < credit.value
                and limit >= self._remote_max_stream_data_bidi_local + _LEAST_RAISE_BYTES
            ):
                self.budgets.spend(Flood.CONTROL_FRAMES)  # as the guard
                stream = self._open_next(credit, 0)
        if (
            stream is None
            or stream_id & 3 == 2
            or limit < stream.max_stream_data_remote + _LEAST_RAISE_BYTES
        ):
            return UNCOMMON
        stream.max_stream_data_remote = limit
        if stream_id in self._parked:
            self._due[stream_id] = self._parked.pop(stream_id)
        return end

    def _take_connection_id(self, plain: bytes, position: int) -> int:
        """Apply NEW_CONNECTION_ID (RFC 9000 19.15); returns where it ends.

        Each client sends a few as soon as the handshake is over.
        """
        sequence, retire_at = decode_varint(plain, position + 1)
        token_at = retire_at + 2 + plain[retire_at + 1]
        end = token_at + _RESET_TOKEN_BYTES
        available, known = self._peer_cid_available, self._peer_cid_sequence_numbers
        if (
            plain[retire_at]  # it retires others
            or not 0 < plain[retire_at + 1] <= _MOST_CID_BYTES
            or end > len(plain)
            or sequence in known
            or self._peer_retire_prior_to
            or self._retire_connection_ids
            or len(self._network_paths) != 1
            or self._network_paths[0].peer_cid is not None
            or len(available) + 2 > self._local_active_connection_id_limit
        ):
            return UNCOMMON
        self.budgets.spend(Flood.CONNECTION_IDS)
        cid, token = plain[retire_at + 2 : token_at], plain[token_at:end]
        available.append(QuicConnectionId(cid, sequence, token))
        known.add(sequence)
        return end


def _padding_end(plain: bytes, position: int) -> int:
    """The end of PADDING frames (RFC 9000 19.1)."""
    # Clients fill datagrams up to the last byte: 0.2 us where a search takes 0.5. Without a copy of
    # the rest, as other frames may stand between any two bytes of it.
    if plain.startswith(_ZEROS[: len(plain) - position], position):
        return len(plain)
    padding = _PADDING_RUN.match(plain, position)
    return position if padding is None else padding.end()
