"""Transport parameters (RFC 9000 7.4, 18) without an object for each of them.

Parameters of a client that are unusual or not allowed are left to aioquic, which knows how to
reject them. Uses private names of aioquic, with canaries in tests/quic/transport.
"""

from collections.abc import Iterator
from functools import lru_cache
from struct import unpack

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicVersionInformation

from tercel.quic.transport.initial_state import InitialConnection
from tercel.quic.transport.varint import decode_varint, encode_varint

_ORIGINAL_DESTINATION_CID = 0x00
_MAX_IDLE_TIMEOUT = 0x01
_STATELESS_RESET_TOKEN = 0x02
_MAX_UDP_PAYLOAD_SIZE = 0x03
_INITIAL_MAX_DATA = 0x04
_INITIAL_MAX_STREAM_DATA_BIDI_LOCAL = 0x05
_INITIAL_MAX_STREAM_DATA_BIDI_REMOTE = 0x06
_INITIAL_MAX_STREAM_DATA_UNI = 0x07
_INITIAL_MAX_STREAMS_BIDI = 0x08
_INITIAL_MAX_STREAMS_UNI = 0x09
_ACK_DELAY_EXPONENT = 0x0A
_MAX_ACK_DELAY = 0x0B
_DISABLE_ACTIVE_MIGRATION = 0x0C
_PREFERRED_ADDRESS = 0x0D
_ACTIVE_CID_LIMIT = 0x0E
_INITIAL_SOURCE_CID = 0x0F
_RETRY_SOURCE_CID = 0x10
_VERSION_INFORMATION = 0x11
_MAX_DATAGRAM_FRAME_SIZE = 0x20
_QUANTUM_READINESS = 0x0C37

# RFC 9000 16: from this on an integer takes more; and by size, the bits that are its value.
_ONE_BYTE = 0x40
_VALUE_BITS = {size: (1 << (8 * size - 2)) - 1 for size in (1, 2, 4, 8)}
# By name: the least and the most that a client may say (RFC 9000 18.2).
_MOST = (1 << 62) - 1
_NUMBERS = {
    _MAX_IDLE_TIMEOUT: (0, _MOST),
    _MAX_UDP_PAYLOAD_SIZE: (1200, _MOST),
    _INITIAL_MAX_DATA: (0, _MOST),
    _INITIAL_MAX_STREAM_DATA_BIDI_LOCAL: (0, _MOST),
    _INITIAL_MAX_STREAM_DATA_BIDI_REMOTE: (0, _MOST),
    _INITIAL_MAX_STREAM_DATA_UNI: (0, _MOST),
    _INITIAL_MAX_STREAMS_BIDI: (0, 1 << 60),
    _INITIAL_MAX_STREAMS_UNI: (0, 1 << 60),
    _ACK_DELAY_EXPONENT: (0, 20),
    _MAX_ACK_DELAY: (0, (1 << 14) - 1),
    _ACTIVE_CID_LIMIT: (2, _MOST),
    _MAX_DATAGRAM_FRAME_SIZE: (0, _MOST),
}
_FOR_AIOQUIC = frozenset(
    (
        _ORIGINAL_DESTINATION_CID,
        _STATELESS_RESET_TOKEN,
        _PREFERRED_ADDRESS,
        _RETRY_SOURCE_CID,
        _QUANTUM_READINESS,
    )
)
# Those of a client that are longer are not kept.
_MOST_REMEMBERED_BYTES = 512
# This side's, as aioquic says it.
_OWN_MAX_ACK_DELAY_MS = 25


class ParameterConnection(InitialConnection):
    """A server's QUIC connection that reads and writes common parameters in one pass."""

    _fast_path = False

    # -- this side's ------------------------------------------------------------------------------

    def _serialize_transport_parameters(self) -> bytes:
        configuration = self._configuration
        if (
            not self._fast_path
            or self._quic_logger is not None
            or configuration.quantum_readiness_test
        ):
            return super()._serialize_transport_parameters()
        version = self._version
        assert version is not None  # noqa: S101  # known from the packet
        timeout, limits, datagrams = _constant(
            int(configuration.idle_timeout * 1000),
            self._local_max_data.value,
            self._local_max_stream_data_bidi_local,
            self._local_max_stream_data_bidi_remote,
            self._local_max_stream_data_uni,
            self._local_max_streams_bidi.value,
            self._local_max_streams_uni.value,
            self._local_ack_delay_exponent,
            self._local_active_connection_id_limit,
            configuration.max_datagram_frame_size,
        )
        retry = self._retry_source_connection_id
        return b"".join(
            (
                _parameter(
                    _ORIGINAL_DESTINATION_CID, self._original_destination_connection_id or b""
                ),
                timeout,
                _parameter(_STATELESS_RESET_TOKEN, self._host_cids[0].stateless_reset_token),
                limits,
                _parameter(_INITIAL_SOURCE_CID, self._local_initial_source_connection_id),
                b"" if retry is None else _parameter(_RETRY_SOURCE_CID, retry),
                _versions(version, tuple(configuration.supported_versions)),
                datagrams,
            )
        )

    # -- the client's -----------------------------------------------------------------------------

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        known = None
        if self._fast_path and self._quic_logger is None:
            known = _parameters(data, self._remote_initial_source_connection_id or b"")
        if known is not None and self._store(*known):
            most = known[0].get(_MAX_UDP_PAYLOAD_SIZE)
        else:
            super()._parse_transport_parameters(data, from_session_ticket)
            names = [name for name, _ in _contents(data)]
            if len(names) != len(set(names)):
                # RFC 9000 7.4. aioquic takes the last one.
                raise QuicConnectionError(
                    QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                    QuicFrameType.CRYPTO,
                    "a transport parameter twice",
                )
            most = max_udp_payload_size(data)
        if self._remote_max_idle_timeout == 0:
            # RFC 9000 18.2: 0 is no time-out of the peer's. aioquic takes it for the shortest.
            self._remote_max_idle_timeout = None
        if most is not None:
            self._limit_datagrams(most)

    def _limit_datagrams(self, most: int) -> None:
        """Send no datagram of more than `most` bytes, the peer's limit."""

    def _store(self, numbers: dict[int, int], others: dict[int, bytes]) -> bool:
        """Store the client's parameters as aioquic does; False, and none is stored, if invalid."""
        versions = None
        if _VERSION_INFORMATION in others:
            chosen, *available = unpack(
                f"!{len(others[_VERSION_INFORMATION]) // 4}I", others[_VERSION_INFORMATION]
            )
            if chosen != self._crypto_packet_version or chosen not in available or 0 in available:
                return False
            versions = QuicVersionInformation(chosen, available)
        if others.get(_INITIAL_SOURCE_CID) != self._remote_initial_source_connection_id:
            return False
        self._remote_version_information = versions
        if _MAX_ACK_DELAY in numbers:
            self._loss.max_ack_delay = numbers[_MAX_ACK_DELAY] / 1000.0
        if _MAX_IDLE_TIMEOUT in numbers:
            self._remote_max_idle_timeout = numbers[_MAX_IDLE_TIMEOUT] / 1000.0
        self._remote_max_datagram_frame_size = numbers.get(_MAX_DATAGRAM_FRAME_SIZE)
        for name, attribute in _STORED:
            if name in numbers:
                setattr(self, attribute, numbers[name])
        return True


_STORED = (
    (_ACTIVE_CID_LIMIT, "_remote_active_connection_id_limit"),
    (_INITIAL_MAX_DATA, "_remote_max_data"),
    (_INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, "_remote_max_stream_data_bidi_local"),
    (_INITIAL_MAX_STREAM_DATA_BIDI_REMOTE, "_remote_max_stream_data_bidi_remote"),
    (_INITIAL_MAX_STREAM_DATA_UNI, "_remote_max_stream_data_uni"),
    (_INITIAL_MAX_STREAMS_BIDI, "_remote_max_streams_bidi"),
    (_INITIAL_MAX_STREAMS_UNI, "_remote_max_streams_uni"),
)


def _parameters(data: bytes, cid: bytes) -> tuple[dict[int, int], dict[int, bytes]] | None:
    """The result of `_read` for a client that has the connection ID `cid`.

    Clients of one kind send the same parameters except for that ID: the rest is parsed once.
    """
    own = b"%c%c%b" % (_INITIAL_SOURCE_CID, len(cid), cid)
    begin = data.find(own)
    if begin >= 0 and len(data) <= _MOST_REMEMBERED_BYTES:
        known = _read_around(data[:begin], data[begin + len(own) :])
        if known is not None:
            numbers, others = known
            return numbers, others | {_INITIAL_SOURCE_CID: cid}
    return _read(data)


@lru_cache(maxsize=64)
def _read_around(before: bytes, after: bytes) -> tuple[dict[int, int], dict[int, bytes]] | None:
    """The parameters before and after the connection ID's; None if it is inside another one."""
    if _read(before) is None:
        return None  # what was found is in the middle of another
    known = _read(before + after)
    return None if known is None or _INITIAL_SOURCE_CID in known[1] else known


def _read(data: bytes) -> tuple[dict[int, int], dict[int, bytes]] | None:
    """Integers and other known parameters; None if aioquic is to read them."""
    numbers: dict[int, int] = {}
    others: dict[int, bytes] = {}
    position, stop = 0, len(data)
    try:
        while position < stop:
            # Nearly all names and lengths are one byte: a call for each was a third of the time.
            name = data[position]
            position += 1
            if name >= _ONE_BYTE:
                name, position = decode_varint(data, position - 1)
            length = data[position]
            position += 1
            if length >= _ONE_BYTE:
                length, position = decode_varint(data, position - 1)
            end = position + length
            if end > stop:
                return None
            bounds = _NUMBERS.get(name)
            if bounds is not None:
                if name in numbers or length != 1 << (data[position] >> 6):
                    return None
                value = int.from_bytes(data[position:end], "big") & _VALUE_BITS[length]
                least, most = bounds
                if not least <= value <= most:
                    return None
                numbers[name] = value
            elif (
                name in others
                or name in _FOR_AIOQUIC
                or (name == _DISABLE_ACTIVE_MIGRATION and length)
            ):
                return None
            else:
                others[name] = data[position:end]
            position = end
    except IndexError:
        return None
    versions = others.get(_VERSION_INFORMATION)
    if versions is not None and (not versions or len(versions) % 4):
        return None
    return numbers, others


def max_udp_payload_size(parameters: bytes) -> int | None:
    """The largest datagram that a peer accepts (RFC 9000 18.2), None for any.

    `parameters` are well-formed transport parameters.
    """
    content = dict(_contents(parameters)).get(_MAX_UDP_PAYLOAD_SIZE)
    return None if content is None else decode_varint(content, 0)[0]


def _contents(parameters: bytes) -> Iterator[tuple[int, bytes]]:
    """Well-formed transport parameters, one after the other."""
    position = 0
    while position < len(parameters):
        name, position = decode_varint(parameters, position)
        length, position = decode_varint(parameters, position)
        yield name, parameters[position : position + length]
        position += length


def _parameter(name: int, content: bytes) -> bytes:
    return encode_varint(name) + encode_varint(len(content)) + content


def _number(name: int, value: int) -> bytes:
    return _parameter(name, encode_varint(value))


@lru_cache(maxsize=16)
def _versions(chosen: int, available: tuple[int, ...]) -> bytes:
    """RFC 9368 3."""
    content = b"".join(version.to_bytes(4, "big") for version in (chosen, *available))
    return _parameter(_VERSION_INFORMATION, content)


@lru_cache(maxsize=16)
def _constant(
    idle_timeout: int,
    max_data: int,
    bidi_local: int,
    bidi_remote: int,
    uni: int,
    streams_bidi: int,
    streams_uni: int,
    ack_delay_exponent: int,
    active_cids: int,
    max_datagram_frame_size: int | None,
) -> tuple[bytes, bytes, bytes]:
    """The parameters that are the same for all connections of a server, in aioquic's order."""
    limits = (
        _number(_INITIAL_MAX_DATA, max_data),
        _number(_INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, bidi_local),
        _number(_INITIAL_MAX_STREAM_DATA_BIDI_REMOTE, bidi_remote),
        _number(_INITIAL_MAX_STREAM_DATA_UNI, uni),
        _number(_INITIAL_MAX_STREAMS_BIDI, streams_bidi),
        _number(_INITIAL_MAX_STREAMS_UNI, streams_uni),
        _number(_ACK_DELAY_EXPONENT, ack_delay_exponent),
        _number(_MAX_ACK_DELAY, _OWN_MAX_ACK_DELAY_MS),
        _number(_ACTIVE_CID_LIMIT, active_cids),
    )
    datagrams = b""
    if max_datagram_frame_size is not None:
        datagrams = _number(_MAX_DATAGRAM_FRAME_SIZE, max_datagram_frame_size)
    return _number(_MAX_IDLE_TIMEOUT, idle_timeout), b"".join(limits), datagrams
