"""The server's answer to a ClientHello (RFC 8446 2), for the common case.

aioquic writes each message through a buffer, value by value. The common case is handled here in one
pass, with the same steps in the same order and the same bytes as a result. Any other case is left
to aioquic before any state has changed. Uses private names of aioquic, with canaries in
tests/quic/transport.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.tls import (
    SERVER_CONTEXT_STRING,
    AlertHandshakeFailure,
    AlertIllegalParameter,
    CipherSuite,
    Context,
    Direction,
    Epoch,
    Group,
    HandshakeType,
    KeySchedule,
    PskKeyExchangeMode,
    SignatureAlgorithm,
    signature_algorithm_params,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tercel.quic.transport.client_hello import ClientHello, read_client_hello
from tercel.quic.transport.keys import Schedule
from tercel.quic.transport.tls_server import ServerHandshake

_TLS_1_2 = b"\x03\x03"
_TLS_1_3 = 0x0304
_NO_COMPRESSION = b"\0"
_PSK_DHE_KE = PskKeyExchangeMode.PSK_DHE_KE

# Extensions (RFC 8446 4.2), the last two and the first with all that they say.
_SUPPORTED_VERSION = b"\0\x2b\0\x02\x03\x04"
_KEY_SHARE = b"\0\x33"
_ALPN = b"\0\x10"
_FIRST_IDENTITY = b"\0\x29\0\x02\0\0"
_EARLY_DATA = b"\0\x2a\0\0"

_LOGGER = "_Context__logger"
# What a context may change in its place.
_LISTS = (
    "_cipher_suites",
    "_ec_private_keys",
    "_legacy_compression_methods",
    "_peer_certificate_chain",
    "_psk_key_exchange_modes",
    "_signature_algorithms",
    "_supported_groups",
    "_supported_versions",
    "certificate_chain",
    "handshake_extensions",
)

_T = TypeVar("_T")


class _Choice(NamedTuple):
    """The parameters that both sides support."""

    suite: CipherSuite
    alpn: str | None
    algorithm: SignatureAlgorithm
    group: int
    peer_key: bytes


class FastHandshake(ServerHandshake):
    """The TLS state of one connection until its handshake is over."""

    def _begin(self, **options: Any) -> None:
        # As aioquic's constructor, which asks OpenSSL anew for what it can do.
        state = vars(self)
        state.update(_beginning())
        for name in _LISTS:
            state[name] = state[name].copy()
        self._alpn_protocols = options["alpn_protocols"]
        if options["cipher_suites"] is not None:
            self._cipher_suites = options["cipher_suites"]
        self._max_early_data = options["max_early_data"]
        if options["verify_mode"] is not None:
            self._verify_mode = options["verify_mode"]
        state[_LOGGER] = options["logger"]

    def _server_handle_hello(
        self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer
    ) -> None:
        message = input_buf.data_slice(0, input_buf.capacity)
        hello = read_client_hello(message)
        choice = None if hello is None else self._choose(hello)
        if hello is None or choice is None:
            super()._server_handle_hello(input_buf, initial_buf, handshake_buf)
            return
        initial, handshake = self._answer(message, hello, choice)
        initial_buf.push_bytes(initial)
        handshake_buf.push_bytes(handshake)
        input_buf.seek(len(message))  # all of it was read

    def _choose(self, hello: ClientHello) -> _Choice | None:
        """Choose the handshake's parameters; None if there are none, or aioquic is to do it."""
        suite = _first(self._cipher_suites, hello.cipher_suites)
        self.show(hello.server_name or None)
        algorithm = _first(_algorithms(self.certificate_private_key), hello.signature_algorithms)
        alpn = None if self._alpn_protocols is None else _first(self._alpn_protocols, hello.alpn)
        shares = (share for share in hello.key_shares if share[0] in self._supported_groups)
        group, peer_key = next(shares, (0, b""))
        if (
            suite is None
            or algorithm is None
            or group not in _EXCHANGES
            or _TLS_1_3 not in hello.versions
            or (alpn is None and self._alpn_protocols is not None)
            or self._request_client_certificate
        ):
            return None
        return _Choice(suite, alpn, algorithm, group, peer_key)

    def _answer(self, message: bytes, hello: ClientHello, choice: _Choice) -> tuple[bytes, bytes]:
        """The server's messages for Initial and for Handshake packets; sets up the keys."""
        self.alpn_negotiated = choice.alpn
        self.client_random = hello.random
        self.server_random = os.urandom(32)
        self.legacy_session_id = hello.session_id
        self.received_extensions = hello.others
        if self.alpn_cb:
            self.alpn_cb(choice.alpn)  # type: ignore[arg-type]

        if not self._resume(message, hello, choice.suite):
            self.key_schedule = Schedule(choice.suite)
            self.key_schedule.extract(None)
            self.key_schedule.update_hash(message)
        schedule = self.key_schedule
        assert schedule is not None  # noqa: S101  # set by either
        try:
            public_key, shared_key = _EXCHANGES[choice.group](choice.peer_key)
        except ValueError as error:
            raise AlertIllegalParameter("ClientHello has an invalid key share") from error

        server_hello = self._server_hello(hello, choice, public_key)
        schedule.update_hash(server_hello)
        schedule.extract(shared_key)
        self._setup_traffic_protection(Direction.ENCRYPT, Epoch.HANDSHAKE, b"s hs traffic")
        self._setup_traffic_protection(Direction.DECRYPT, Epoch.HANDSHAKE, b"c hs traffic")

        flight = self._flight(choice, schedule)
        schedule.extract(None)
        self._setup_traffic_protection(Direction.ENCRYPT, Epoch.ONE_RTT, b"s ap traffic")
        self._next_dec_key = schedule.derive_secret(b"c ap traffic")
        self._psk_key_exchange_mode = _PSK_DHE_KE if _PSK_DHE_KE in hello.psk_modes else None
        self._server_expect_finished()
        return server_hello, flight

    def _resume(self, message: bytes, hello: ClientHello, suite: CipherSuite) -> bool:
        """Resume the session that the client offers, if it is valid (RFC 8446 4.2.11)."""
        session = hello.session
        if session is None or self.get_session_ticket_cb is None:
            return False
        if _PSK_DHE_KE not in hello.psk_modes:
            return False
        ticket = self.get_session_ticket_cb(session.ticket)
        if ticket is None or not ticket.is_valid or ticket.cipher_suite != suite:
            return False
        self.key_schedule = schedule = Schedule(suite)
        schedule.extract(ticket.resumption_secret)
        binder_key = schedule.derive_secret(b"res binder")
        # RFC 8446 4.2.11.2: a binder is for everything before the binders.
        schedule.update_hash(message[: session.binders_at])
        if session.binder != schedule.finished_verify_data(binder_key):
            raise AlertHandshakeFailure("PSK validation failed")
        schedule.update_hash(message[session.binders_at :])
        self._session_resumed = True
        if hello.early_data:
            self.early_data_accepted = True
            early_key = schedule.derive_secret(b"c e traffic")
            self.update_traffic_key_cb(Direction.DECRYPT, Epoch.ZERO_RTT, suite, early_key)
        return True

    # -- messages ---------------------------------------------------------------------------------

    def _server_hello(self, hello: ClientHello, choice: _Choice, public_key: bytes) -> bytes:
        key_share = choice.group.to_bytes(2, "big") + _opaque(2, public_key)
        extensions = _SUPPORTED_VERSION + _KEY_SHARE + _opaque(2, key_share)
        if self._session_resumed:
            extensions += _FIRST_IDENTITY
        return _message(
            HandshakeType.SERVER_HELLO,
            _TLS_1_2,
            self.server_random,
            _opaque(1, hello.session_id),
            choice.suite.to_bytes(2, "big"),
            _NO_COMPRESSION,
            _opaque(2, extensions),
        )

    def _flight(self, choice: _Choice, schedule: KeySchedule) -> bytes:
        """The messages from EncryptedExtensions to Finished."""
        extensions: list[bytes] = []
        if choice.alpn is not None:
            extensions += _ALPN, _opaque(2, _opaque(2, _opaque(1, choice.alpn.encode("ascii"))))
        if self.early_data_accepted:
            extensions.append(_EARLY_DATA)
        for kind, content in self.handshake_extensions:
            extensions += kind.to_bytes(2, "big"), _opaque(2, content)
        messages = _message(HandshakeType.ENCRYPTED_EXTENSIONS, _opaque(2, b"".join(extensions)))
        if not self._session_resumed:
            messages += _certificate(self.certificate, *self.certificate_chain)
        schedule.update_hash(messages)
        if not self._session_resumed:
            verify = self._certificate_verify(choice.algorithm, schedule)
            schedule.update_hash(verify)
            messages += verify
        assert self._enc_key is not None  # noqa: S101  # that of Handshake packets
        finished = _message(HandshakeType.FINISHED, schedule.finished_verify_data(self._enc_key))
        schedule.update_hash(finished)
        return messages + finished

    def _certificate_verify(self, algorithm: SignatureAlgorithm, schedule: KeySchedule) -> bytes:
        signed = schedule.certificate_verify_data(SERVER_CONTEXT_STRING)
        key: Any = self.certificate_private_key
        signature = key.sign(signed, *_parameters(algorithm))
        return _message(
            HandshakeType.CERTIFICATE_VERIFY, algorithm.to_bytes(2, "big"), _opaque(2, signature)
        )


@lru_cache
def _beginning() -> dict[str, Any]:
    """The initial state of a server's TLS."""
    return vars(Context(is_client=False))


@lru_cache
def _certificate(*chain: x509.Certificate) -> bytes:
    """The Certificate message (RFC 8446 4.4.2)."""
    entries = [_opaque(3, one.public_bytes(Encoding.DER)) + _opaque(2, b"") for one in chain]
    return _message(HandshakeType.CERTIFICATE, _opaque(1, b""), _opaque(3, b"".join(entries)))


@lru_cache
def _algorithms(private_key: Any) -> Sequence[SignatureAlgorithm]:
    """The signature algorithms of a key, in order of preference."""
    context = Context(is_client=False)
    context.certificate_private_key = private_key
    return tuple(context._signature_algorithms_for_private_key())


# To make one takes a third of the time that a signature takes.
_parameters = lru_cache(signature_algorithm_params)


def _exchange_x25519(peer_key: bytes) -> tuple[bytes, bytes]:
    peer = X25519PublicKey.from_public_bytes(peer_key)
    own = X25519PrivateKey.generate()
    return own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), own.exchange(peer)


def _exchange_p256(peer_key: bytes) -> tuple[bytes, bytes]:
    peer = ec.EllipticCurvePublicKey.from_encoded_point(_P256, peer_key)
    own = ec.generate_private_key(_P256)
    public = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return public, own.exchange(_ECDH, peer)


_P256, _ECDH = ec.SECP256R1(), ec.ECDH()

# By group: from the peer's public key to this side's, and what both know then (RFC 8446 4.2.8).
_EXCHANGES: dict[int, Callable[[bytes], tuple[bytes, bytes]]] = {
    Group.X25519: _exchange_x25519,
    Group.SECP256R1: _exchange_p256,
}


def _first(supported: Iterable[_T], offered: Collection[Any]) -> _T | None:
    """The first supported value that is offered."""
    return next((item for item in supported if item in offered), None)


def _opaque(width: int, content: bytes) -> bytes:
    """`content` after its length in `width` bytes (RFC 8446 3.4)."""
    return len(content).to_bytes(width, "big") + content


def _message(kind: HandshakeType, *parts: bytes) -> bytes:
    """A handshake message (RFC 8446 4)."""
    return kind.to_bytes(1, "big") + _opaque(3, b"".join(parts))
