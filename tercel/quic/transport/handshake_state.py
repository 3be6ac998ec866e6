"""State that a connection needs for its handshake only: created on demand, dropped afterwards.

An idle connection took 95 KiB of memory, of which 48 were buffers for TLS messages that were no
longer needed. Rarely needed state costs time, too: keys for the other version of QUIC, callbacks
for a disabled log. Uses private names of aioquic, with canaries in tests/quic/transport.
"""

import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, ClassVar, Never, Self

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import (
    AlertUnexpectedMessage,
    CipherSuite,
    Epoch,
    ExtensionType,
    State,
)

from tercel.quic.transport.initial_state import frame_handlers
from tercel.quic.transport.keys import KeyPair
from tercel.quic.transport.resumption import ResumableConnection
from tercel.quic.transport.tls_flight import FastHandshake
from tercel.quic.transport.tls_server import Identify, ServerHandshake
from tercel.shared.weakly import weakly

# Connection IDs that the peer is given, those in use included, and that it may give. aioquic's
# eight are two moves to another network more than anyone makes before new ones have come.
MOST_CONNECTION_IDS = 4

# For the server's Certificate message above all. aioquic's.
_CRYPTO_BUFFER_BYTES = 16_384

# As qlog calls them.
_KEY_NAMES = {Epoch.ZERO_RTT: "0rtt", Epoch.HANDSHAKE: "handshake", Epoch.ONE_RTT: "1rtt"}

_FRAME_HANDLERS = "_QuicConnection__frame_handlers"

_Handlers = dict[int, tuple[Callable[..., None], frozenset[Epoch]]]


# Shared by all connections: aioquic does not change them.
_NO_KEYS = CryptoPair()


class HandshakeStateConnection(ResumableConnection):
    """A server's QUIC connection that drops its handshake state."""

    __slots__ = ("_fast_path", "_identify", "tls")

    def __init__(
        self, *, fast_path: bool = True, identify: Identify | None = None, **options: Any
    ) -> None:
        """`identify` finds the identity to present instead of the configuration's."""
        super().__init__(**options)
        self._fast_path = fast_path
        self._identify = identify
        self._local_active_connection_id_limit = MOST_CONNECTION_IDS
        self._bind_methods()

    def _bind_methods(self) -> None:
        """Let the connection's parts call it without a strong reference to it."""
        setattr(self, _FRAME_HANDLERS, _BoundHandlers(self))
        self._loss._send_probe = weakly(self._send_probe)

    def _initialize(self, peer_cid: bytes) -> None:
        # As aioquic's for a server, but for what waits until it is asked for.
        configuration = self._configuration
        self.tls = (FastHandshake if self._fast_path else ServerHandshake)(
            self._identify,
            alpn_protocols=configuration.alpn_protocols,
            cipher_suites=configuration.cipher_suites,
            logger=self._logger,
            max_early_data=MAX_EARLY_DATA,
            verify_mode=configuration.verify_mode,
        )
        self.tls.certificate = configuration.certificate
        self.tls.certificate_chain = configuration.certificate_chain
        self.tls.certificate_private_key = configuration.private_key
        parameters = self._serialize_transport_parameters()
        self.tls.handshake_extensions = [(ExtensionType.QUIC_TRANSPORT_PARAMETERS, parameters)]
        self.tls.alpn_cb = weakly(self._alpn_handler)
        self.tls.get_session_ticket_cb = self._session_ticket_fetcher
        self.tls.update_traffic_key_cb = weakly(self._update_traffic_key)
        self._spaces = {
            Epoch.INITIAL: QuicPacketSpace(),
            Epoch.HANDSHAKE: QuicPacketSpace(),
            Epoch.ONE_RTT: QuicPacketSpace(is_application_data=True),
        }
        self._loss.spaces = list(self._spaces.values())
        self._cryptos_initial = _InitialKeys(
            peer_cid, configuration.supported_versions, self._spaces[Epoch.INITIAL]
        )
        self._cryptos = {
            epoch: self._key_pair(epoch)
            for epoch in (Epoch.ZERO_RTT, Epoch.HANDSHAKE, Epoch.ONE_RTT)
        }
        assert self._version is not None  # noqa: S101  # known from the packet
        self._cryptos[Epoch.INITIAL] = self._cryptos_initial[self._version]
        self._crypto_buffers = {
            epoch: Buffer(capacity=_CRYPTO_BUFFER_BYTES) for epoch in self._spaces
        }
        self._crypto_streams = {epoch: self._crypto_stream() for epoch in self._spaces}

    def _crypto_stream(self) -> QuicStream:
        """The stream of CRYPTO frames of one encryption level."""
        return QuicStream()

    def _key_pair(self, epoch: Epoch) -> CryptoPair:
        if self._quic_logger is None:
            return KeyPair()
        received, sent = (f"{side}_{_KEY_NAMES[epoch]}_secret" for side in ("client", "server"))
        return CryptoPair(
            recv_setup_cb=partial(self._log_key_updated, received),
            recv_teardown_cb=partial(self._log_key_retired, received),
            send_setup_cb=partial(self._log_key_updated, sent),
            send_teardown_cb=partial(self._log_key_retired, sent),
        )

    def _replenish_connection_ids(self) -> None:
        self._remote_active_connection_id_limit = min(
            self._remote_active_connection_id_limit, MOST_CONNECTION_IDS
        )
        super()._replenish_connection_ids()

    def _end_handshake(self) -> None:
        super()._end_handshake()
        # A server's handshake is confirmed when it is complete (RFC 9001 4.1.2), and Initial and
        # Handshake keys are discarded (4.9). Late packets of theirs are dropped for want of keys.
        self.tls = _EndedHandshake(self.tls)  # type: ignore[assignment,arg-type]
        self._crypto_buffers = {}
        # Thousands, if the client likes; it was for choosing one, which is done.
        self._remote_version_information = None
        self._crypto_streams = {Epoch.ONE_RTT: self._crypto_streams[Epoch.ONE_RTT]}
        self._cryptos_initial = dict.fromkeys(self._configuration.supported_versions, _NO_KEYS)
        self._cryptos[Epoch.INITIAL] = self._cryptos[Epoch.HANDSHAKE] = _NO_KEYS
        if not self._cryptos[Epoch.ZERO_RTT].recv.is_valid():
            self._cryptos[Epoch.ZERO_RTT] = _NO_KEYS
        # One for both: the packet that ends the handshake may have an ACK that is still to come.
        ended = QuicPacketSpace()
        ended.discarded = True
        self._spaces[Epoch.INITIAL] = self._spaces[Epoch.HANDSHAKE] = ended
        self._loss.spaces = [self._spaces[Epoch.ONE_RTT]]


class _InitialKeys(dict[int, CryptoPair]):
    """Keys of Initial packets by version, created on first use of a version.

    A client may begin in any version, and rarely changes to another (RFC 9368). Raises KeyError for
    a version that is not supported.
    """

    def __init__(self, cid: bytes, versions: list[int], space: QuicPacketSpace) -> None:
        super().__init__()
        self._cid = cid
        self._versions = versions
        self._space = space

    def __missing__(self, version: int) -> CryptoPair:
        if version not in self._versions:
            raise KeyError(version)
        pair = self[version] = KeyPair()
        if not self._space.discarded:
            pair.setup_initial(cid=self._cid, is_client=False, version=version)
        return pair


class _EndedHandshake:
    """The TLS state needed after the handshake: aioquic's Context has three buffers of 16 KiB."""

    __slots__ = (
        "alpn_negotiated",
        "cipher_suite",
        "early_data_accepted",
        "server_name",
        "session_resumed",
    )

    state = State.SERVER_POST_HANDSHAKE

    def __init__(self, context: ServerHandshake) -> None:
        schedule = context.key_schedule
        assert schedule is not None  # noqa: S101  # the handshake is complete
        self.alpn_negotiated = context.alpn_negotiated
        self.early_data_accepted = context.early_data_accepted
        self.session_resumed = context.session_resumed
        self.server_name = context.server_name
        self.cipher_suite: CipherSuite = schedule.cipher_suite

    @property
    def key_schedule(self) -> Self:
        """Itself: only the cipher suite is read from it."""
        return self

    def handle_message(self, data: bytes, buffers: dict[Epoch, Buffer]) -> Never:
        # RFC 9001 6: not even a KeyUpdate.
        raise AlertUnexpectedMessage


class _BoundHandlers:
    """aioquic's frame handlers by type, each bound when it is called.

    aioquic binds 33 methods and makes as many tuples and sets for each connection: 12 KiB.
    """

    __slots__ = ("_connection", "_handlers")

    _of_class: ClassVar[dict[type, _Handlers]] = {}

    def __init__(self, connection: HandshakeStateConnection) -> None:
        kind = type(connection)
        self._connection = weakref.ref(connection)
        if kind not in self._of_class:
            self._of_class[kind] = frame_handlers(kind)
        self._handlers = self._of_class[kind]

    def __getitem__(self, frame_type: int) -> tuple[Callable[..., None], frozenset[Epoch]]:
        """The handler, and the epochs that allow the frame. Raises KeyError for an unknown type."""
        function, epochs = self._handlers[frame_type]
        return MethodType(function, self._connection()), epochs
