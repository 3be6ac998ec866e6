"""Admission of QUIC connections: address validation, and answers to unknown packets.

Under load, no state is kept for a client whose address is not validated. Owns no connection and no
socket.
"""

import os
import secrets
from typing import NamedTuple

from aioquic.quic.packet import QuicErrorCode, QuicHeader, QuicProtocolVersion

from tercel.quic.half_open import HalfOpenPlaces
from tercel.quic.refusal import refusal
from tercel.quic.transport.packet_header import connection_ids
from tercel.quic.transport.tokens import (
    ADDRESS_LIFETIME_SECONDS,
    ADDRESS_TOKEN,
    RETRY_LIFETIME_SECONDS,
    RETRY_TOKEN,
    InvalidToken,
    KeyRing,
    Tokens,
    retry_packet,
)
from tercel.quic.transport.used_tokens import UsedTokens
from tercel.quic.udp import Path
from tercel.shared.connection import ServerContext
from tercel.shared.logs import logger
from tercel.shared.token_bucket import TokenBucket

log = logger("tercel.quic")

# RFC 9000 10.3: five bytes that look like a packet's, and the token.
_LEAST_RESET_BYTES = 21
_MOST_RESET_BYTES = 42
_FIXED_BIT = 0x40
_RETRY_KIND, _ADDRESS_KIND = bytes((RETRY_TOKEN,)), bytes((ADDRESS_TOKEN,))
# As they stand in a header: only of these is it known where a token would be.
_SERVED_VERSIONS = tuple(
    version.to_bytes(4, "big")
    for version in (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
)
# Resets per second: each is for a connection that was lost with a restart, and clients repeat.
_RESET_RATE = 200
# Refusals per second, at some 35 microseconds each, system call included. The clients of a server
# that stops may all come at once; those beyond it ask again after a second.
_REFUSAL_RATE = 1000
# Initials without a token that are looked into per second. At 30 microseconds for a Retry, system
# call included, these are a third of a core; those beyond it cost a quarter of that each. Clients
# that lose their first Initial so send it again after a second.
_INITIAL_RATE = 10_000


class Admission(NamedTuple):
    """How a new connection was admitted."""

    original_cid: bytes
    """The Destination Connection ID of the client's first Initial."""
    retry_cid: bytes | None
    """The Source Connection ID of the Retry packet, None without a Retry."""
    validated_host: str | None
    """The client's address if a token validated it (RFC 9000 8.1), else None."""


class AdmissionControl:
    """Decides about packets that belong to no connection."""

    def __init__(self, context: ServerContext, ring: KeyRing, *, cid_bytes: int) -> None:
        self._context = context
        self._settings = context.settings
        self._cid_bytes = cid_bytes
        self._ring = ring
        self._tokens = Tokens(context.wall_clock, ring)
        self._used_retry_tokens = UsedTokens(RETRY_LIFETIME_SECONDS)
        self._used_address_tokens = UsedTokens(ADDRESS_LIFETIME_SECONDS)
        self.places = HalfOpenPlaces(context.settings.max_half_open_connections)
        """Places for the handshakes of admitted clients; released when a handshake is over."""
        # Half a second's at once: the handshakes and repetitions of more would be felt by others.
        rate = self._settings.retry_initial_rate
        self._without_retry = TokenBucket(rate, burst=max(rate / 2, min(rate, 1)))
        self._resets = TokenBucket(_RESET_RATE)
        self._refusals = TokenBucket(_REFUSAL_RATE)
        self._looked_into = TokenBucket(_INITIAL_RATE)

    def admit(self, header: QuicHeader, data: bytes, path: Path) -> Admission | None:
        """Admit an Initial, and take a half-open place for its connection.

        `data` is the datagram that begins with `header`. Returns None if it is not admitted: then
        it was answered with a Retry, refused, or dropped.
        """
        if header.token[:1] == _RETRY_KIND:
            return self._admit_after_retry(header, data, path)
        if self._shows_address(header.token, path.peer[0]):
            return self._with_place(Admission(header.destination_cid, None, path.peer[0]))
        # RFC 9000 8.1.3: a token that is worth nothing is as none.
        if header.token and self._exceeds_rate():
            return None
        if self._must_validate():
            self._send_retry(header, path)
            return None
        return self._with_place(Admission(header.destination_cid, None, None))

    def is_shed(self, data: bytes) -> bool:
        """Whether to drop, without further inspection, a long-header packet of no known connection.

        `data` is a whole datagram of at least 1,200 bytes. Packets with a token are not shed before
        the token was checked.
        """
        # RFC 9000 17.2.2: the length of the token follows.
        _, _, token_length_at = connection_ids(data)
        if data[1:5] in _SERVED_VERSIONS and data[token_length_at]:
            return False
        return self._exceeds_rate()

    def new_token(self, host: str) -> bytes:
        """An address validation token for the next connection of a client at `host`."""
        return self._tokens.seal_address(host)

    def reset(self, data: bytes, path: Path) -> None:
        """Answer a short-header packet of no known connection with a stateless reset."""
        # RFC 9000 10.3: smaller than its cause, so that two of these never go on for ever.
        size = min(len(data) - 1, _MOST_RESET_BYTES)
        if not data[0] & _FIXED_BIT or size < _LEAST_RESET_BYTES:
            return
        if not self._resets.admit(self._context.clock()):
            self._context.limits.meet("stateless resets")
            return
        token = self._ring.reset_token(data[1 : 1 + self._cid_bytes])
        noise = bytearray(secrets.token_bytes(size - len(token)))
        noise[0] = noise[0] & 0x3F | _FIXED_BIT
        path.socket.send([bytes(noise) + token], path)

    def refuse(
        self,
        data: bytes,
        path: Path,
        reason: str,
        code: QuicErrorCode = QuicErrorCode.CONNECTION_REFUSED,
    ) -> None:
        """Answer an Initial, in a datagram of at least 1,200 bytes, with CONNECTION_CLOSE."""
        if self._refusals.admit(self._context.clock()):
            path.socket.send([refusal(data, code, reason)], path)
        else:
            self._context.limits.meet("refusals")

    def _exceeds_rate(self) -> bool:
        if self._looked_into.admit(self._context.clock()):
            return False
        self._context.limits.meet("initials")
        return True

    def _admit_after_retry(self, header: QuicHeader, data: bytes, path: Path) -> Admission | None:
        (host, port), cid = path.peer[:2], header.destination_cid
        try:
            original_cid, issued_at = self._tokens.open_retry(header.token, host, port, cid)
        except InvalidToken as error:
            log.debug("token of %r: %s", path, error)
            # RFC 9000 8.1.3. With silence a client would wait for its time-out: it takes no other.
            self.refuse(data, path, "invalid Retry token", QuicErrorCode.INVALID_TOKEN)
            return None
        now = self._context.wall_clock()
        # What is dropped for want of a place comes again with its token.
        if not self.places.has_room(host) or self._used_retry_tokens.use(
            header.token, issued_at, now
        ):
            return self._with_place(Admission(original_cid, cid, host))
        if self._must_validate():
            return None  # RFC 9000 17.2.5.2: a client takes no second Retry
        return self._with_place(Admission(original_cid, cid, None))

    def _shows_address(self, token: bytes, host: str) -> bool:
        """Whether `token` is valid for `host` and unused; marks it as used."""
        if token[:1] != _ADDRESS_KIND:
            return False
        try:
            issued_at = self._tokens.open_address(token, host)
        except InvalidToken as error:
            log.debug("token of %s: %s", host, error)
            return False
        return self.places.has_room(host) and self._used_address_tokens.use(
            token, issued_at, self._context.wall_clock()
        )

    def _with_place(self, admission: Admission) -> Admission | None:
        if self.places.take(admission.validated_host):
            return admission
        self._context.limits.meet("max_half_open_connections")
        return None

    def _must_validate(self) -> bool:
        match self._settings.retry:
            case "always":
                return True
            case "never":
                return False
        if self.places.taken >= self._settings.retry_half_open:
            self._context.limits.meet("retry_half_open")
            return True
        if not self._without_retry.admit(self._context.clock()):
            self._context.limits.meet("retry_initial_rate")
            return True
        return False

    def _send_retry(self, header: QuicHeader, path: Path) -> None:
        retry_cid = os.urandom(self._cid_bytes)
        host, port = path.peer[:2]
        assert header.version is not None  # noqa: S101  # a long header has one
        packet = retry_packet(
            header.version,
            source_cid=retry_cid,
            destination_cid=header.source_cid,
            original_cid=header.destination_cid,
            token=self._tokens.seal_retry(host, port, header.destination_cid, retry_cid),
        )
        path.socket.send([packet], path)
