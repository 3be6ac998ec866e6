"""Tokens that prove a client's address (RFC 9000 8.1). Sealed with one key, checked without state.

Knows nothing about connections or sockets.
"""

import ipaddress
import os
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
# A client answers a Retry at once; RFC 9000 8.1.4 asks for a short life.
RETRY_LIFETIME_SECONDS = 30.0


class InvalidToken(Exception):
    """The token was not made here, is too old, or belongs to another address."""


class RetryTokens:
    """Makes and checks the tokens of Retry packets.

    `clock` gives seconds; `key` is 16 random bytes, to be shared by all who check each other's.
    """

    def __init__(self, clock: Callable[[], float], key: bytes | None = None) -> None:
        self._clock = clock
        self._aead = AESGCM(key or AESGCM.generate_key(128))

    def seal(self, address: str, port: int, original_cid: bytes, retry_cid: bytes) -> bytes:
        """A token for the client at `address` that sent its Initial to `original_cid`."""
        nonce = os.urandom(_NONCE_BYTES)
        text = struct.pack("!dB", self._clock(), len(original_cid)) + original_cid
        return nonce + self._aead.encrypt(nonce, text, _bound_to(address, port, retry_cid))

    def open(self, token: bytes, address: str, port: int, retry_cid: bytes) -> bytes:
        """The connection ID that the client's first Initial was sent to. Raises InvalidToken."""
        nonce, sealed = token[:_NONCE_BYTES], token[_NONCE_BYTES:]
        try:
            text = self._aead.decrypt(nonce, sealed, _bound_to(address, port, retry_cid))
        except (InvalidTag, ValueError) as error:
            raise InvalidToken("not sealed here for this address") from error
        issued_at, size = struct.unpack_from("!dB", text)
        if not 0 <= self._clock() - issued_at <= RETRY_LIFETIME_SECONDS:
            raise InvalidToken("too old")
        return text[9 : 9 + size]


def _bound_to(address: str, port: int, retry_cid: bytes) -> bytes:
    # Authenticated but not carried: the address comes with the datagram anyway.
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    return struct.pack("!H", port) + packed + retry_cid
