"""Session resumption and 0-RTT (RFC 8446 2.2, RFC 9001 4.6), stateless except for used tickets.

A ticket contains all that the server needs, sealed; aioquic would have the server store it. With
0-RTT, off by default, each ticket is accepted for early data once. Uses private names of aioquic.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import MAX_EARLY_DATA, QuicReceiveContext
from aioquic.tls import (
    CipherSuite,
    Direction,
    Epoch,
    ExtensionType,
    HandshakeType,
    SessionTicket,
)

from tercel.quic.transport.ecn import EcnConnection
from tercel.quic.transport.keys import Secret, expansion_label
from tercel.quic.transport.tokens import SESSION_LIFETIME_SECONDS, InvalidToken, Tokens
from tercel.quic.transport.used_tokens import UsedTokens
from tercel.shared.weakly import weakly

_DIGEST_BYTES = 16
_SESSION = struct.Struct(f"!dHII{_DIGEST_BYTES}s")
# A ticket's lifetime, what is added to its age, and the lengths of its nonce and of itself.
_TICKET_HEAD = struct.Struct("!IIBH")
_NO_NONCE = b""
# The extension that allows for it (RFC 8446 4.2.10).
_EARLY_DATA = struct.pack("!HHI", ExtensionType.EARLY_DATA, 4, MAX_EARLY_DATA)


def session_ticket(age_add: int, ticket: bytes, *, early_data: bool) -> bytes:
    """A NewSessionTicket message (RFC 8446 4.6.1), without a nonce: there is one per connection."""
    extensions = _EARLY_DATA if early_data else b""
    content = b"".join(
        (
            _TICKET_HEAD.pack(SESSION_LIFETIME_SECONDS, age_add, len(_NO_NONCE), len(ticket)),
            ticket,
            len(extensions).to_bytes(2, "big"),
            extensions,
        )
    )
    return (
        HandshakeType.NEW_SESSION_TICKET.to_bytes(1, "big")
        + len(content).to_bytes(3, "big")
        + content
    )


@lru_cache(maxsize=16)
def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]


class Session(NamedTuple):
    """The content of a ticket."""

    cipher_suite: int
    age_add: int
    version: int
    """The QUIC version that it was issued in; valid for no other (RFC 9369 5)."""
    limits: bytes
    """A digest of the parameters that 0-RTT depends on."""
    secret: bytes
    issued_at: float = 0.0
    """Seconds since 1970; set when it is sealed."""


class Sessions:
    """Makes session tickets and recognises them; one for all connections of a server.

    `clock` gives seconds since 1970. With `early_data`, tickets allow 0-RTT.
    """

    def __init__(
        self, tokens: Tokens, clock: Callable[[], float], *, early_data: bool = False
    ) -> None:
        self.early_data = early_data
        self._tokens = tokens
        self._clock = clock
        self._began_at = clock()
        self._used = UsedTokens(SESSION_LIFETIME_SECONDS)

    def seal(self, session: Session) -> bytes:
        """A ticket for `session`."""
        head = _SESSION.pack(self._clock(), *session[:4])
        return self._tokens.seal_session(head + session.secret)

    def open(self, ticket: bytes) -> Session | None:
        """The session of `ticket`; None if it was not made here, or is too old."""
        try:
            content = self._tokens.open_session(ticket)
        except InvalidToken:
            return None
        issued_at, suite, age_add, version, limits = _SESSION.unpack_from(content)
        return Session(suite, age_add, version, limits, content[_SESSION.size :], issued_at)

    def use_early(self, ticket: bytes, issued_at: float) -> bool:
        """Whether to accept early data with `ticket`: once only.

        RFC 8446 8.1: a replay by an attacker has the same ticket. After a restart, the server does
        not know which tickets were used, so it accepts early data with none of the earlier ones.
        Servers that share a key do not share this memory: each of them accepts a ticket once.
        """
        if not self.early_data or issued_at < self._began_at:
            return False
        return self._used.use(ticket, issued_at, self._clock())


class ResumableConnection(EcnConnection):
    """A QUIC connection whose server issues tickets, if it has `sessions`.

    `limits` is text that differs whenever the server's limits do.
    """

    __slots__ = ("_early_streams", "_limits", "_resumed", "_sessions")

    def __init__(
        self, *, sessions: Sessions | None = None, limits: str = "", **options: Any
    ) -> None:
        super().__init__(
            session_ticket_fetcher=None if sessions is None else weakly(self._resume), **options
        )
        self._sessions = sessions
        self._limits = limits
        self._resumed: tuple[bytes, Session] | None = None
        self._early_streams: set[int] = set()

    def is_early(self, stream_id: int) -> bool:
        """Whether a request may be a replay: it came in 0-RTT, before the handshake completed."""
        return not self._handshake_complete and stream_id in self._early_streams

    # -- tickets ----------------------------------------------------------------------------------

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        was_complete = self._handshake_complete
        super()._handle_crypto_frame(context, frame_type, buf)
        if self._handshake_complete and not was_complete:
            self._end_handshake()

    def _end_handshake(self) -> None:
        """Run the steps due once the handshake is complete."""
        self._early_streams.clear()
        if self._sessions is not None and self.tls._psk_key_exchange_mode is not None:
            self._send_ticket(self._sessions)

    def _send_ticket(self, sessions: Sessions) -> None:
        schedule = self.tls.key_schedule
        assert schedule is not None  # noqa: S101  # the handshake is complete
        assert self._version is not None  # noqa: S101
        age_add = int.from_bytes(os.urandom(4), "big")
        # RFC 8446 4.6.1
        size = schedule.algorithm.digest_size
        master = Secret(schedule.derive_secret(b"res master"), schedule.algorithm)
        secret = master.expand(expansion_label(b"resumption", _NO_NONCE, size), size)
        ticket = sessions.seal(
            Session(
                int(schedule.cipher_suite), age_add, self._version, self._limits_digest(), secret
            )
        )
        message = session_ticket(age_add, ticket, early_data=sessions.early_data)
        self._crypto_streams[Epoch.ONE_RTT].sender.write(message)

    def _resume(self, ticket: bytes) -> SessionTicket | None:
        assert self._sessions is not None  # noqa: S101  # else nobody asks
        session = self._sessions.open(ticket)
        if session is None or session.version != self._crypto_packet_version:
            return None
        self._resumed = ticket, session
        now = datetime.now(UTC)
        lifetime = timedelta(seconds=SESSION_LIFETIME_SECONDS)
        return SessionTicket(
            age_add=session.age_add,
            cipher_suite=CipherSuite(session.cipher_suite),
            # How old it is, its seal has shown.
            not_valid_before=now - lifetime,
            not_valid_after=now + lifetime,
            resumption_secret=session.secret,
            server_name="",
            ticket=ticket,
        )

    # -- early data -------------------------------------------------------------------------------

    def _update_traffic_key(
        self, direction: Direction, epoch: Epoch, cipher_suite: CipherSuite, secret: bytes
    ) -> None:
        if epoch is Epoch.ZERO_RTT and not self._is_client and not self._takes_early_data():
            # EncryptedExtensions say so (RFC 8446 4.2.10), and its packets cannot be opened.
            self.tls.early_data_accepted = False
            return
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _takes_early_data(self) -> bool:
        if self._sessions is None or self._resumed is None:
            return False
        ticket, session = self._resumed
        # RFC 9001 4.6.1, RFC 9114 7.2.4.2: what the client remembers must still hold.
        return session.limits == self._limits_digest() and self._sessions.use_early(
            ticket, session.issued_at
        )

    def _limits_digest(self) -> bytes:
        return _digest(f"{self.tls.alpn_negotiated} {self._limits}")

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        if context.epoch is Epoch.ZERO_RTT:
            position = buf.tell()
            self._early_streams.add(buf.pull_uint_var())
            buf.seek(position)
        super()._handle_stream_frame(context, frame_type, buf)
