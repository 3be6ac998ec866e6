"""Tokens and tickets that a server issues and recognises without storing them, from one key ring.

Retry tokens and address validation tokens (RFC 9000 8.1), stateless reset tokens (10.3) and session
tickets (RFC 8446 4.6.1) are made with keys derived from one secret, so that servers that share it
understand each other, also after a restart. Knows nothing about connections or sockets.
"""

import ipaddress
import os
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2s

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tercel.shared.errors import ConfigurationError

SECRET_BYTES = 32
_NONCE_BYTES = 12
_RESET_TOKEN_BYTES = 16
_SECRET = re.compile(r"[0-9A-Fa-f]{64}")

# The first byte of a token says what it is; what is wrong with one kind is no fault of the other.
RETRY_TOKEN, ADDRESS_TOKEN, SESSION_TICKET = 0x01, 0x02, 0x03

# A client answers a Retry at once; RFC 9000 8.1.4 asks for a short life.
RETRY_LIFETIME_SECONDS = 30.0
# RFC 9000 8.1.3: long enough to be of use, short enough for addresses to have changed hands.
ADDRESS_LIFETIME_SECONDS = 86_400.0
# RFC 8446 4.6.1 allows a week; whoever gets hold of the key can pretend to be the server that long.
SESSION_LIFETIME_SECONDS = 86_400
# Clocks of servers that share a key differ.
_CLOCK_SKEW_SECONDS = 5.0


class InvalidToken(Exception):
    """The token was not made here, is too old, or belongs to another address."""


# RFC 9001 5.8, RFC 9369 3.3.3: the keys and nonces of Retry integrity tags, and the packet's first
# byte, by the version of QUIC.
_RETRY_PACKETS = {
    0x00000001: (
        AESGCM(bytes.fromhex("be0c690b9f66575a1d766b54e368c84e")),
        bytes.fromhex("461599d35d632bf2239825bb"),
        b"\xf0",
    ),
    0x6B3343CF: (
        AESGCM(bytes.fromhex("8fb4b01b56ac48e260fbcbcead7ccc92")),
        bytes.fromhex("d86969bc2d7c6d9990efb04a"),
        b"\xc0",
    ),
}


def retry_packet(
    version: int, *, source_cid: bytes, destination_cid: bytes, original_cid: bytes, token: bytes
) -> bytes:
    """A Retry packet (RFC 9000 17.2.5), in half the time of aioquic's, for floods."""
    key, nonce, first = _RETRY_PACKETS[version]
    packet = b"".join(
        (
            first,
            version.to_bytes(4, "big"),
            bytes((len(destination_cid),)),
            destination_cid,
            bytes((len(source_cid),)),
            source_cid,
            token,
        )
    )
    return packet + key.encrypt(nonce, b"", bytes((len(original_cid),)) + original_cid + packet)


class KeyRing:
    """Keys derived from secrets of 32 bytes: the first key seals; every key opens."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        known = list(secrets) or [os.urandom(SECRET_BYTES)]
        self.retry = [AESGCM(_derived(secret, b"retry token")) for secret in known]
        self.address = [AESGCM(_derived(secret, b"address token")) for secret in known]
        self.session = [AESGCM(_derived(secret, b"session ticket")) for secret in known]
        self._reset = _derived(known[0], b"stateless reset")

    def reset_token(self, cid: bytes) -> bytes:
        """The stateless reset token of a connection ID (RFC 9000 10.3.2)."""
        # HMAC would do as well. It is OpenSSL's, though, in the copy that nothing else here uses:
        # out of the caches it takes 50 microseconds the first time in a handshake.
        return blake2s(cid, key=self._reset, digest_size=_RESET_TOKEN_BYTES).digest()


def read_key_ring(path: str | None) -> KeyRing:
    """The key ring in a file of lines with 64 hexadecimal digits; a new one without a file.

    Raises ConfigurationError.
    """
    if path is None:
        return KeyRing()
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(
            f"cannot read --token-key {path}: {reason}: make one with: openssl rand -hex 32"
        ) from error
    secrets = [line for line in lines if line and not line.startswith("#")]
    if not secrets or not all(_SECRET.fullmatch(secret) for secret in secrets):
        raise ConfigurationError(
            f"--token-key {path} is to have lines of 64 hexadecimal digits: make one with: "
            "openssl rand -hex 32"
        )
    return KeyRing([bytes.fromhex(secret) for secret in secrets])


class Tokens:
    """Makes and checks tokens that clients present: to validate an address, to resume a session.

    `clock` gives seconds since 1970: tokens outlive processes.
    """

    def __init__(self, clock: Callable[[], float], ring: KeyRing | None = None) -> None:
        self._clock = clock
        self._ring = ring or KeyRing()

    def seal_retry(self, address: str, port: int, original_cid: bytes, retry_cid: bytes) -> bytes:
        """A Retry token for the client at `address` whose Initial went to `original_cid`."""
        bound = _packed(address) + struct.pack("!H", port) + retry_cid
        return self._seal(RETRY_TOKEN, self._ring.retry[0], original_cid, bound)

    def open_retry(
        self, token: bytes, address: str, port: int, retry_cid: bytes
    ) -> tuple[bytes, float]:
        """The Destination Connection ID of the client's first Initial, and when `token` was made.

        Raises InvalidToken.
        """
        bound = _packed(address) + struct.pack("!H", port) + retry_cid
        return self._open(RETRY_TOKEN, self._ring.retry, token, bound, RETRY_LIFETIME_SECONDS)

    def seal_address(self, address: str) -> bytes:
        """A NEW_TOKEN token for a client at `address`; its port may differ next time."""
        return self._seal(ADDRESS_TOKEN, self._ring.address[0], b"", _packed(address))

    def open_address(self, token: bytes, address: str) -> float:
        """When `token` was made. Raises InvalidToken unless it was made for `address`."""
        ring, bound = self._ring.address, _packed(address)
        _, issued_at = self._open(ADDRESS_TOKEN, ring, token, bound, ADDRESS_LIFETIME_SECONDS)
        return issued_at

    def seal_session(self, session: bytes) -> bytes:
        """A ticket that contains `session` (RFC 5077 4, RFC 8446 4.6.1)."""
        return self._seal(SESSION_TICKET, self._ring.session[0], session, b"")

    def open_session(self, ticket: bytes) -> bytes:
        """The content of the ticket. Raises InvalidToken."""
        ring = self._ring.session
        session, _ = self._open(SESSION_TICKET, ring, ticket, b"", SESSION_LIFETIME_SECONDS)
        return session

    def _seal(self, kind: int, key: AESGCM, content: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        text = struct.pack("!d", self._clock()) + content
        # What it is bound to comes with every datagram: authenticated, but not carried.
        return bytes([kind]) + nonce + key.encrypt(nonce, text, bound)

    def _open(
        self, kind: int, ring: Sequence[AESGCM], token: bytes, bound: bytes, lifetime: float
    ) -> tuple[bytes, float]:
        nonce, sealed = token[1 : 1 + _NONCE_BYTES], token[1 + _NONCE_BYTES :]
        if token[:1] != bytes([kind]) or len(nonce) < _NONCE_BYTES:
            raise InvalidToken("of another kind")
        for key in ring:
            try:
                text = key.decrypt(nonce, sealed, bound)
                break
            except (InvalidTag, ValueError):
                continue
        else:
            raise InvalidToken("not sealed here for this address")
        (issued_at,) = struct.unpack_from("!d", text)
        if not -_CLOCK_SKEW_SECONDS <= self._clock() - issued_at <= lifetime:
            raise InvalidToken("too old")
        return text[8:], issued_at


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(SHA256(), SECRET_BYTES, b"tercel " + purpose).derive(secret)


@lru_cache(maxsize=4096)
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address.partition("%")[0]).packed
