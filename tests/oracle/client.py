"""A scripted QUIC client: it builds the packets that a script asks for, and reads what comes back.

Sans-I/O, and with no will of its own: it neither acknowledges nor retransmits unless it is told to,
so a script may also send what no client sends. TLS and packet protection are aioquic's.
"""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoContext, CryptoError, CryptoPair

from tests.oracle import frames
from tests.oracle.frames import Frame, Reader, integer, ranges_of, sized
from tests.oracle.packets import (
    NUMBER_BYTES,
    TAG_BYTES,
    VERSION_1,
    VERSION_2,
    PacketType,
    initial_keys,
    long_header,
    read_header,
    short_header,
    updated,
)

INITIAL, ZERO_RTT, HANDSHAKE, ONE_RTT = PacketType

# RFC 9000 14.1: every datagram with an Initial packet has this size at least.
LEAST_INITIAL_BYTES = 1200
# Where the sample of header protection begins, behind the packet number's start (RFC 9001 5.4.2).
_SAMPLE_OFFSET = 4
_TLS_BUFFER_BYTES = 16_384

_EPOCHS = {
    INITIAL: tls.Epoch.INITIAL,
    ZERO_RTT: tls.Epoch.ZERO_RTT,
    HANDSHAKE: tls.Epoch.HANDSHAKE,
    ONE_RTT: tls.Epoch.ONE_RTT,
}
_TYPES = {epoch: kind for kind, epoch in _EPOCHS.items()}

# RFC 9000 18.2, RFC 9221 3, RFC 9368 3, RFC 9287 3.
PARAMETERS = {
    "original_destination_connection_id": 0x00,
    "max_idle_timeout": 0x01,
    "stateless_reset_token": 0x02,
    "max_udp_payload_size": 0x03,
    "initial_max_data": 0x04,
    "initial_max_stream_data_bidi_local": 0x05,
    "initial_max_stream_data_bidi_remote": 0x06,
    "initial_max_stream_data_uni": 0x07,
    "initial_max_streams_bidi": 0x08,
    "initial_max_streams_uni": 0x09,
    "ack_delay_exponent": 0x0A,
    "max_ack_delay": 0x0B,
    "disable_active_migration": 0x0C,
    "preferred_address": 0x0D,
    "active_connection_id_limit": 0x0E,
    "initial_source_connection_id": 0x0F,
    "retry_source_connection_id": 0x10,
    "version_information": 0x11,
    "max_datagram_frame_size": 0x20,
    "grease_quic_bit": 0x2AB2,
}
_PARAMETER_NAMES = {number: name for name, number in PARAMETERS.items()}
_BYTES = frozenset(
    (
        "original_destination_connection_id",
        "stateless_reset_token",
        "disable_active_migration",
        "preferred_address",
        "initial_source_connection_id",
        "retry_source_connection_id",
        "version_information",
        "grease_quic_bit",
    )
)
DEFAULTS: dict[str, int] = {
    "max_idle_timeout": 30_000,
    "initial_max_data": 1_000_000,
    "initial_max_stream_data_bidi_local": 250_000,
    "initial_max_stream_data_bidi_remote": 250_000,
    "initial_max_stream_data_uni": 250_000,
    "initial_max_streams_bidi": 100,
    "initial_max_streams_uni": 100,
    "active_connection_id_limit": 4,
    "max_ack_delay": 25,
}


@dataclass(frozen=True, slots=True)
class Received:
    """A packet of the server's, decrypted."""

    type: PacketType
    number: int
    to: int
    """The sequence number of the connection ID it was sent to."""
    key_phase: int
    frames: tuple[Frame, ...]


class ScriptedClient:
    """One connection of a client.

    `parameters` replace default transport parameters: a number, bytes, or None to leave one out.
    """

    def __init__(
        self,
        *,
        version: int = VERSION_1,
        alpn: tuple[str, ...] = ("h3",),
        parameters: Mapping[str, int | bytes | None] | None = None,
        more_parameters: bytes = b"",
        cipher_suites: list[tls.CipherSuite] | None = None,
        transport_parameters: bool = True,
        session_ticket: tls.SessionTicket | None = None,
        keeps_tickets: bool = False,
    ) -> None:
        self.version = version
        self.source = b"client-0"
        self.original_destination = self.destination = b"original"
        self.own_ids = {self.source: 0}
        """The connection IDs that were given to the server, with their sequence numbers."""
        self.server_ids: dict[int, bytes] = {}
        """The connection IDs that the server has issued, by sequence number."""
        self.challenges: list[bytes] = []
        """The data of the server's PATH_CHALLENGE frames that were not lost."""
        self.received: dict[PacketType, set[int]] = {kind: set() for kind in PacketType}
        """The packet numbers of the server's that were not lost."""
        self.observed: dict[PacketType, set[int]] = {kind: set() for kind in PacketType}
        """Those of all packets that it sent."""
        self.sent: dict[PacketType, set[int]] = {kind: set() for kind in PacketType}
        """The numbers of the packets that were built."""
        self.payload = b""
        """That of the last packet that was built."""
        self.owes_ack: set[PacketType] = set()
        self.server_parameters: dict[str, Any] = {}
        self.out: dict[PacketType, bytes] = dict.fromkeys(PacketType, b"")
        """What TLS has to send, by packet type: all of it, from offset 0."""
        self._numbers = dict.fromkeys(PacketType, 0)
        self._in: dict[PacketType, dict[int, bytes]] = {kind: {} for kind in PacketType}
        self._read_to = dict.fromkeys(PacketType, 0)
        self._previous: CryptoContext | None = None
        self.keys = {kind: CryptoPair() for kind in PacketType}
        self._initial_keys = {
            known: initial_keys(self.destination, known) for known in (VERSION_1, VERSION_2)
        }
        self.keys[INITIAL] = self._initial_keys[version]
        self._tls = tls.Context(
            is_client=True,
            alpn_protocols=list(alpn),
            cipher_suites=cipher_suites,
            server_name="localhost",
            verify_mode=ssl.CERT_NONE,
        )
        self._tls.update_traffic_key_cb = self._set_key
        self._tls.session_ticket = session_ticket
        self.tickets: list[tls.SessionTicket] = []
        """Those that came, if it keeps any."""
        if keeps_tickets:
            self._tls.new_session_ticket_cb = self.tickets.append
        if transport_parameters:
            own = {"initial_source_connection_id": self.source, **DEFAULTS, **(parameters or {})}
            extension = encode_parameters(own) + more_parameters
            self._tls.handshake_extensions = [
                (tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, extension)
            ]
        self._talk(b"")

    # -- sending ----------------------------------------------------------------------------------

    def packet(
        self,
        *content: bytes,
        kind: PacketType = ONE_RTT,
        number: int | None = None,
        destination: bytes | None = None,
        token: bytes = b"",
        reserved: int = 0,
        key_phase: int | None = None,
        size: int = 0,
        number_bytes: int = NUMBER_BYTES,
    ) -> bytes:
        """A packet of frames, with PADDING behind them up to `size` bytes."""
        space = ONE_RTT if kind is ZERO_RTT else kind
        if number is None:
            number = self._numbers[space]
        self._numbers[space] = max(self._numbers[space], number + 1)
        self.sent[space].add(number)
        payload = b"".join(content)
        payload = payload.ljust(_SAMPLE_OFFSET - number_bytes, b"\0")
        destination = self.destination if destination is None else destination
        send = self.keys[kind].send
        if kind is ONE_RTT:
            phase = send.key_phase if key_phase is None else key_phase
            header = short_header(
                destination,
                number,
                key_phase=phase,
                reserved=reserved,
                number_bytes=number_bytes,
            )
            payload = self.payload = payload.ljust(size - len(header) - TAG_BYTES, b"\0")
            return send.encrypt_packet(header, payload, number)

        def header_for(payload_bytes: int) -> bytes:
            return long_header(
                kind,
                version=self.version,
                destination=destination,
                source=self.source,
                number=number,
                payload_bytes=payload_bytes,
                token=token,
                reserved=reserved,
                number_bytes=number_bytes,
            )

        payload = payload.ljust(size - len(header_for(0)) - TAG_BYTES, b"\0")
        self.payload = payload
        return send.encrypt_packet(header_for(len(payload)), payload, number)

    def initial(self, *content: bytes, size: int = LEAST_INITIAL_BYTES, **options: Any) -> bytes:
        """A datagram with an Initial packet; by default with the ClientHello."""
        content = content or (frames.crypto(self.out[INITIAL]),)
        return self.packet(*content, kind=INITIAL, size=size, **options)

    def finished(self) -> bytes:
        """The datagram that completes the handshake, with acknowledgements of all that came."""
        initial = self.packet(self.ack(INITIAL), kind=INITIAL)
        handshake = self.packet(
            self.ack(HANDSHAKE), frames.crypto(self.out[HANDSHAKE]), kind=HANDSHAKE
        )
        rest = LEAST_INITIAL_BYTES - len(initial) - len(handshake)
        return initial + handshake + self.packet(frames.ping(), size=rest)

    def ack(self, kind: PacketType = ONE_RTT) -> bytes:
        """An ACK of all packets that came; empty if there were none."""
        self.owes_ack.discard(kind)
        numbers = self.received[kind]
        return frames.ack(ranges_of(numbers)) if numbers else b""

    def new_connection_id(self, sequence: int, *, retire_prior_to: int = 0) -> bytes:
        """NEW_CONNECTION_ID with an ID that `receive` will know."""
        cid = b"client-" + bytes([ord("0") + sequence])
        self.own_ids[cid] = sequence
        return frames.new_connection_id(sequence, cid, retire_prior_to=retire_prior_to)

    def update_keys(self) -> None:
        """Seal 1-RTT packets with the next keys from now on (RFC 9001 6.1)."""
        self.keys[ONE_RTT].send = updated(self.keys[ONE_RTT].send)

    def skip_numbers(self, count: int = 1, kind: PacketType = ONE_RTT) -> None:
        """Leave packet numbers out, as if packets had been lost on their way."""
        self._numbers[kind] += count

    def next_number(self, kind: PacketType = ONE_RTT) -> int:
        """The number of the next packet."""
        return self._numbers[kind]

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, datagram: bytes, *, lost: bool = False) -> list[Received]:
        """The packets of a datagram.

        What is lost is read, too, for the transcript and for TLS, but never acknowledged.
        """
        packets = []
        while datagram.strip(b"\0"):  # zeros behind the last packet fill up the datagram
            header = read_header(datagram, len(self.source))
            data, datagram = datagram[: header.size], datagram[header.size :]
            if header.version is not None:
                self._adopt(header.version)
            plain, payload, number = self._open(data, header.type, header.number_at)
            known = tuple(frames.read(payload))
            space = header.type
            assert number not in self.observed[space], "RFC 9000 12.3: a packet number twice"
            self.observed[space].add(number)
            assert plain[0] & (0x0C if header.version else 0x18) == 0, "reserved bits"
            phase = 0 if header.version else plain[0] >> 2 & 1
            to = self.own_ids[header.destination]
            packets.append(Received(space, number, to, phase, known))
            if header.source:
                self.server_ids[0] = header.source
                self.destination = header.source
            if not lost:
                self.received[space].add(number)
                if any(frame.is_ack_eliciting for frame in known):
                    self.owes_ack.add(space)
            for frame in known:
                self._take(space, frame, lost=lost)
        return packets

    def _open(self, data: bytes, kind: PacketType, at: int) -> tuple[bytes, bytes, int]:
        keys = self.keys[kind]
        expected = max(self.observed[kind], default=-1) + 1
        for known in self._candidates(keys.recv, kind):
            try:
                plain, payload, number, is_next = known.decrypt_packet(data, at, expected)
            except CryptoError:
                continue
            if known is self._previous:
                return plain, payload, number
            if is_next:
                known = updated(known)
            if known is not keys.recv:
                self._previous, keys.recv = keys.recv, known
                # The server's own update, which is followed (RFC 9001 6.2), or ours confirmed.
                if is_next and keys.send.key_phase != known.key_phase:
                    self.update_keys()
            return plain, payload, number
        raise AssertionError("a packet that cannot be decrypted")

    def _candidates(self, current: CryptoContext, kind: PacketType) -> Iterator[CryptoContext]:
        """Keys to try; each opens packets of the next ones, too."""
        yield current
        if kind is ONE_RTT:
            if self._previous is not None:
                yield self._previous
            yield updated(updated(current))

    def _take(self, space: PacketType, frame: Frame, *, lost: bool) -> None:
        if frame.name == "CRYPTO":
            self._in[space][frame["offset"]] = frame["data"]
            self._read_crypto(space)
        elif frame.name == "NEW_CONNECTION_ID":
            self.server_ids[frame["sequence"]] = frame["connection_id"]
        elif frame.name == "PATH_CHALLENGE" and not lost:
            self.challenges.append(frame["data"])

    def _read_crypto(self, space: PacketType) -> None:
        waiting = self._in[space]
        while True:
            position = self._read_to[space]
            ready = [offset for offset in waiting if offset <= position]
            if not ready:
                return
            for offset in ready:
                data = waiting.pop(offset)[position - offset :]
                if data:
                    self._read_to[space] = position + len(data)
                    self._talk(data)
                    break

    def _talk(self, data: bytes) -> None:
        buffers = {epoch: Buffer(capacity=_TLS_BUFFER_BYTES) for epoch in _TYPES}
        self._tls.handle_message(data, buffers)
        for epoch, buffer in buffers.items():
            self.out[_TYPES[epoch]] += buffer.data
        for number, content in self._tls.received_extensions or []:
            if number == tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS:
                self.server_parameters = read_parameters(content)

    def _set_key(
        self, direction: tls.Direction, epoch: tls.Epoch, suite: tls.CipherSuite, secret: bytes
    ) -> None:
        pair = self.keys[_TYPES[epoch]]
        keys = pair.send if direction is tls.Direction.ENCRYPT else pair.recv
        keys.setup(cipher_suite=suite, secret=secret, version=self.version)

    def _adopt(self, version: int) -> None:
        """Go on in the version that the server has chosen (RFC 9368 2.3)."""
        if version != self.version:
            self.version = version
            self.keys[INITIAL] = self._initial_keys[version]


def encode_parameters(parameters: Mapping[str, int | bytes | None]) -> bytes:
    """Transport parameters (RFC 9000 18); None leaves one out."""
    return b"".join(
        integer(PARAMETERS[name]) + sized(value if isinstance(value, bytes) else integer(value))
        for name, value in parameters.items()
        if value is not None
    )


def read_parameters(data: bytes) -> dict[str, Any]:
    """Transport parameters by name, unknown ones by number."""
    reader, found = Reader(data), {}
    while not reader.is_at_end:
        number = reader.integer()
        content = reader.take(reader.integer())
        name = _PARAMETER_NAMES.get(number, hex(number))
        is_integer = number in _PARAMETER_NAMES and name not in _BYTES
        found[name] = Reader(content).integer() if is_integer else content
    return found


def corrupted(packet: bytes) -> bytes:
    """`packet` with one bit of its tag changed."""
    return packet[:-1] + bytes([packet[-1] ^ 1])


__all__ = [
    "HANDSHAKE",
    "INITIAL",
    "LEAST_INITIAL_BYTES",
    "NUMBER_BYTES",
    "ONE_RTT",
    "ZERO_RTT",
    "Received",
    "ScriptedClient",
    "corrupted",
]
