"""Receives packets before the fast path is open: aioquic's steps, without the redundant ones.

aioquic reads a header value by value through a buffer, checks a disabled log eleven times for each
packet, and compares members of enumerations by their hashes: 600 of the bytecodes of a packet whose
frames take 200. The effects of a packet are left to aioquic's frame handlers, and to the checks in
front of them. Uses private names of aioquic, with canaries in tests/quic/transport.
"""

from functools import cache
from typing import Any

from aioquic._crypto import CryptoError
from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import (
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
    dump_cid,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import StreamFinishedError
from aioquic.tls import Epoch

from tercel.quic.transport.initial_state import frame_handlers
from tercel.quic.transport.packet_header import Head, read_head
from tercel.quic.transport.parameters import ParameterConnection
from tercel.quic.transport.protection import SPIN_BIT, unseal_any

# By the class of a connection.
_handlers = cache(frame_handlers)
_ONE_BYTE = 0x40

# Frame types (RFC 9000 12.4): those that ask for no acknowledgement, those that do not say that
# the peer has moved, and where they may be.
_PADDING, _CRYPTO = 0x00, 0x06
NOT_ELICITING = frozenset((0x00, 0x02, 0x03, 0x1C, 0x1D))
PROBING = frozenset((0x00, 0x18, 0x1A, 0x1B))
IN_HANDSHAKE = frozenset((0x00, 0x01, 0x02, 0x03, 0x06, 0x1C))
NOT_EARLY = frozenset((0x02, 0x03, 0x06, 0x07, 0x1E))

_RESERVED_BITS_LONG, _RESERVED_BITS_SHORT = 0x0C, 0x18

# Finding a member of an enumeration by its class costs 0.1 us.
_INITIAL, _ZERO_RTT, _HANDSHAKE, _ONE_RTT = Epoch
_FIRST_FLIGHT = QuicConnectionState.FIRSTFLIGHT
_CONNECTED = QuicConnectionState.CONNECTED


class HandshakeReceiver(ParameterConnection):
    """A server's QUIC connection that receives packets in few steps."""

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Take one datagram from `addr`."""
        if not self._fast_path or self._quic_logger is not None:
            super().receive_datagram(data, addr, now)
            return
        if self._is_closed():
            return
        path = self._find_network_path(addr)
        if not path.is_validated:
            # RFC 9000 8.1: all of it counts, whatever becomes of its packets.
            path.bytes_received += len(data)
        if self._close_at is None:
            self._close_at = now + self._idle_timeout()
        position = 0
        while position < len(data):
            if (
                position
                and self._handshake_confirmed
                and self._take_last(data[position:], addr, now)
            ):
                return
            head = read_head(data, position, self._configuration.connection_id_length)
            if head is None or not self._take_packet(head, data, position, path, now):
                return
            position = head.end

    def get_timer(self) -> float | None:
        """The time to call `handle_timer` at; None for no timer."""
        timer = self._close_at
        if not self._fast_path or timer is None or not self._network_paths or self._is_closed():
            return super().get_timer()
        # As aioquic's, in one walk through the spaces instead of four.
        path, loss = self._network_paths[0], self._loss
        ack_blocked = probe_blocked = False
        if not path.is_validated:
            ack_blocked, probe_blocked = self._amplification_blocked_timers()
        due, eliciting = None, 0
        for space in loss.spaces:
            if space.ack_at is not None and space.ack_at < timer and not ack_blocked:
                timer = space.ack_at
            if space.loss_time is not None and (due is None or space.loss_time < due):
                due = space.loss_time
            if loss.handshake_confirmed or not space.is_application_data:
                eliciting += space.ack_eliciting_in_flight
        if (
            due is None
            and not probe_blocked
            and (eliciting or not loss.peer_completed_address_validation)
        ):
            confirmed = loss.handshake_confirmed
            timeout = loss.get_probe_timeout(include_max_ack_delay=confirmed)
            due = loss._time_of_last_sent_ack_eliciting_packet + timeout * (1 << loss._pto_count)
        self._loss_at = due
        if due is not None and due < timer:
            timer = due
        if self._pacing_at is not None and self._pacing_at < timer:
            timer = self._pacing_at
        if not path.is_validated:
            deadline = path.validation_deadline
            if deadline is not None and deadline < timer:
                timer = deadline
        return timer

    def _is_closed(self) -> bool:
        return self._state is not _CONNECTED and self._state is not _FIRST_FLIGHT

    def _take_last(self, packet: bytes, addr: Any, now: float) -> bool:
        """Receive the part of a datagram after the end of the handshake.

        Returns False if nothing was changed. A subclass may have a faster way for it.
        """
        return False

    # -- packets ----------------------------------------------------------------------------------

    def _take_packet(
        self, head: Head, data: bytes, start: int, path: QuicNetworkPath, now: float
    ) -> bool:
        """Receive the packet that begins at `start`; False if the rest is not to be read."""
        epoch, cid = head.epoch, head.destination
        first_flight = self._state is _FIRST_FLIGHT
        if not self._is_expected(head, len(data)):
            return False
        if first_flight:
            self._network_paths = [path]
            self._version = head.version
            self._initialize(cid)
        space = self._spaces[_ONE_RTT if epoch is _ZERO_RTT else epoch]
        opened = self._opened(head, data, start, space.expected_packet_number)
        if opened is None:
            return True
        first, number, plain = opened
        if number in space.received_packets:
            return True  # RFC 9000 12.3
        if first & (_RESERVED_BITS_SHORT if epoch is _ONE_RTT else _RESERVED_BITS_LONG):
            reserved = "Reserved bits must be zero"
            self.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, reserved)
            return False
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        self._take_head(head, first, number)
        context = QuicReceiveContext(epoch, cid, path, None, now, head.version)
        try:
            eliciting, probing = self._payload_received(
                context, plain, crypto_frame_required=first_flight
            )
        except QuicConnectionError as error:
            self._logger.warning(error)
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        if self._is_closed() or self._close_pending:
            return False
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        self._follow_client(head, path, probing, number > space.largest_received_packet)
        if not space.discarded:
            _record(space, number, now)
            if eliciting and space.ack_at is None:
                space.ack_at = now + self._ack_delay
        return True

    def _is_expected(self, head: Head, datagram_bytes: int) -> bool:
        """Whether such a packet is allowed at this point."""
        epoch, version, cid, *_ = head
        if epoch is _INITIAL:
            if datagram_bytes < SMALLEST_MAX_DATAGRAM_SIZE:
                return False  # RFC 9000 14.1
        elif self._state is _FIRST_FLIGHT:
            return False
        if version is not None and version not in self._configuration.supported_versions:
            return False
        for known in self._host_cids:
            if cid == known.cid:
                return True
        # RFC 9000 7.2: the client may not know another than it has made up.
        return epoch is _INITIAL or epoch is _ZERO_RTT

    def _opened(
        self, head: Head, data: bytes, start: int, expected: int
    ) -> tuple[int, int, bytes] | None:
        """First byte, number and payload of a packet; None if it cannot be decrypted."""
        epoch, end, number_at = head.epoch, head.end, head.number_at - start
        keys = self._cryptos[epoch]
        if epoch is _INITIAL and head.version != self._version:
            # As with what was sent before both sides went over to another version (RFC 9368).
            keys = self._cryptos_initial[head.version]  # type: ignore[index]
        packet = data[start:end]
        opened = unseal_any(keys.recv, packet, number_at, expected)
        if opened is None:
            # Other keys, none at all, or a forgery: aioquic finds out, and the guard counts.
            try:
                header, plain, number = keys.decrypt_packet(packet, number_at, expected)
            except CryptoError as error:
                self._logger.debug(error)
                return None
            opened = header[0], number, plain
        return opened

    def _take_head(self, head: Head, first: int, number: int) -> None:
        """Apply the header of a decrypted packet, before its frames."""
        epoch = head.epoch
        if epoch is _HANDSHAKE:
            self._discard_epoch(_INITIAL)  # RFC 9001 4.9.1
        elif epoch is _ONE_RTT:
            early = self._cryptos[_ZERO_RTT].recv
            if early.aead is not None:
                early.teardown()  # RFC 9001 4.9.3
            if number > self._spin_highest_pn:
                self._spin_bit = bool(first & SPIN_BIT)
                self._spin_highest_pn = number
        if self._peer_cid.sequence_number is None:
            self._peer_cid.cid = head.source
            self._peer_cid.sequence_number = 0
        if self._state is _FIRST_FLIGHT:
            self._remote_initial_source_connection_id = head.source
            self._set_state(_CONNECTED)

    def _follow_client(
        self, head: Head, path: QuicNetworkPath, probing: bool, newest: bool
    ) -> None:
        """Follow a migration (RFC 9000 9); `newest` says whether no later packet has arrived."""
        epoch, cid = head.epoch, head.destination
        if cid != self.host_cid and not probing and epoch is _ONE_RTT:
            self._logger.debug("Peer switching to CID %s", dump_cid(cid))
            self.host_cid = cid
            if path.peer_cid is None:
                self.change_connection_id()
        if epoch is _HANDSHAKE and not path.is_validated:
            self._logger.debug("Network path %s validated by handshake", path.addr)
            path.is_validated = True
        if path is self._network_paths[0]:
            return
        if path not in self._network_paths:
            self._add_network_path(path)
        if probing or not newest:
            return
        self._logger.debug("Network path %s promoted", path.addr)
        self._network_paths.remove(path)
        self._network_paths.insert(0, path)
        if path.peer_cid is not None:
            self._use_reserved_peer_cid(path)
        if not path.is_validated:
            path.local_challenge_sent = False
            path.validation_deadline = None

    def _push_crypto_data(self) -> None:
        for epoch, buf in self._crypto_buffers.items():
            if buf.tell():
                self._crypto_streams[epoch].sender.write(buf.data)
                buf.seek(0)

    # -- frames -----------------------------------------------------------------------------------

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        """Apply the frames of a packet; returns whether it is ack-eliciting, and only probing."""
        if not self._fast_path or self._quic_logger is not None:
            return super()._payload_received(context, plain, crypto_frame_required)
        if not plain:
            raise _violation(_PADDING, "Packet contains no frames")
        kind_of_connection: Any = type(self)
        handlers, epoch = _handlers(kind_of_connection), context.epoch
        eliciting, probing = False, True
        position, stop = 0, len(plain)
        buf = Buffer(data=plain)
        while position < stop:
            kind = plain[position]
            if kind == _PADDING:
                position = stop - len(plain[position:].lstrip(b"\0"))
                continue
            buf.seek(position + 1)
            if kind >= _ONE_BYTE:
                kind = _long_type(buf, position)
            try:
                handler, _ = handlers[kind]
            except KeyError:
                raise QuicConnectionError(
                    QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Unknown frame type"
                ) from None
            if epoch is not _ONE_RTT and (
                kind in NOT_EARLY if epoch is _ZERO_RTT else kind not in IN_HANDSHAKE
            ):
                raise _violation(kind, "Unexpected frame type")
            try:
                handler(self, context, kind, buf)
            except BufferReadError:
                raise QuicConnectionError(
                    QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Failed to parse frame"
                ) from None
            except StreamFinishedError:
                pass  # the state of the stream is gone
            if kind == _CRYPTO:
                crypto_frame_required = False
            if kind not in NOT_ELICITING:
                eliciting = True
            if kind not in PROBING:
                probing = False
            position = buf.tell()
        if crypto_frame_required:
            # RFC 9000 17.2.2
            raise _violation(_PADDING, "Packet contains no CRYPTO frame")
        return eliciting, probing


def _record(space: QuicPacketSpace, number: int, now: float) -> None:
    """Record that packet `number` was received."""
    if number > space.largest_received_packet:
        space.largest_received_packet = number
        space.largest_received_time = now
    add_number(space.ack_queue, number)
    space.received_packets.add(number)


def add_number(received: RangeSet, number: int) -> None:
    """Add a packet number to those to be acknowledged."""
    parts = received._RangeSet__ranges  # type: ignore[attr-defined]
    if not parts:
        parts.append(range(number, number + 1))
        return
    if parts[-1].stop == number:
        parts[-1] = range(parts[-1].start, number + 1)
        return
    received.add(number)
    if len(received) > MAX_ACK_RANGES:
        # As aioquic: the oldest ones would be taken for duplicates from now on.
        received.shift()


def _long_type(buf: Buffer, position: int) -> int:
    """A frame type that takes more than one byte."""
    buf.seek(position)
    try:
        kind: int = buf.pull_uint_var()
    except BufferReadError:
        raise QuicConnectionError(
            QuicErrorCode.FRAME_ENCODING_ERROR,
            None,  # type: ignore[arg-type]
            "Malformed frame type",
        ) from None
    return kind


def _violation(kind: int, reason: str) -> QuicConnectionError:
    return QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, kind, reason)
