"""Keys of a connection (RFC 9001 5, RFC 8446 7.1), from secrets that are hashed only once.

aioquic's key schedule and key pairs hash a secret anew for each expansion: 30 times in a handshake,
at 2.4 microseconds instead of 0.6. Uses private names of aioquic, with canaries in
tests/quic/transport.
"""

from functools import lru_cache
from typing import NamedTuple

from aioquic._crypto import AEAD, HeaderProtection
from aioquic.quic.crypto import (
    CIPHER_SUITES,
    INITIAL_CIPHER_SUITE,
    INITIAL_SALT_VERSION_1,
    INITIAL_SALT_VERSION_2,
    CryptoContext,
    CryptoPair,
)
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, KeySchedule, cipher_suite_hash, hkdf_label
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import Hash, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

_IV_BYTES = 12
# RFC 5869 2.3: the counter of a single block, as no more than a hash is ever asked for.
_FIRST_BLOCK = b"\x01"
# RFC 9001 5.4.3: of single blocks. Without state.
_ECB = ECB()  # noqa: S305

_new = object.__new__


class Secret:
    """A secret that others are derived from by HKDF-Expand-Label (RFC 8446 7.1)."""

    __slots__ = ("_hash",)

    def __init__(self, secret: bytes, algorithm: HashAlgorithm) -> None:
        self._hash = HMAC(secret, algorithm)

    def expand(self, label: bytes, length: int) -> bytes:
        """Derive `length` bytes, no more than a hash has; `label` is made by `expansion_label`."""
        state = self._hash.copy()
        state.update(label)
        return state.finalize()[:length]


def expansion_label(name: bytes, context: bytes, length: int) -> bytes:
    """The label for `Secret.expand`: `length` bytes called `name`; `context` may be empty."""
    return _label_head(name, len(context), length) + context + _FIRST_BLOCK


@lru_cache
def _label_head(name: bytes, context_size: int, length: int) -> bytes:
    return hkdf_label(name, bytes(context_size), length)[: -context_size or None]


def _extract(salt: bytes, material: bytes, algorithm: HashAlgorithm) -> bytes:
    """HKDF-Extract (RFC 5869 2.2)."""
    state = HMAC(salt, algorithm)
    state.update(material)
    return state.finalize()


# -- the key schedule of TLS ----------------------------------------------------------------------


class _Constants(NamedTuple):
    """The values that are the same in each key schedule with a cipher suite."""

    early: bytes
    """The early secret without a session."""
    derived: bytes
    """The secret derived from it."""
    derived_label: bytes
    finished_label: bytes


@lru_cache
def _constants(cipher_suite: CipherSuite) -> _Constants:
    algorithm = cipher_suite_hash(cipher_suite)
    size = algorithm.digest_size
    early = _extract(bytes(size), bytes(size), algorithm)
    derived_label = expansion_label(b"derived", Hash(algorithm).finalize(), size)
    return _Constants(
        early,
        Secret(early, algorithm).expand(derived_label, size),
        derived_label,
        expansion_label(b"finished", b"", size),
    )


class Schedule(KeySchedule):
    """A key schedule with the same steps as aioquic's KeySchedule."""

    def __init__(self, cipher_suite: CipherSuite) -> None:
        super().__init__(cipher_suite)
        self._constants = _constants(cipher_suite)
        self._source: Secret | None = None
        """The object for `secret`, created on demand."""

    def extract(self, key_material: bytes | None = None) -> None:
        """Advance to the next secret."""
        constants, size = self._constants, self.algorithm.digest_size
        if key_material is None and not self.generation:
            self.secret = constants.early
        else:
            salt = self.secret
            if salt is constants.early:
                salt = constants.derived
            elif self.generation:
                salt = self._expand(constants.derived_label)
            material = bytes(size) if key_material is None else key_material
            self.secret = _extract(salt, material, self.algorithm)
        self._source = None
        self.generation += 1

    def derive_secret(self, label: bytes) -> bytes:
        """Derive-Secret over all messages so far."""
        context = self.hash.copy().finalize()
        return self._expand(expansion_label(label, context, len(context)))

    def finished_verify_data(self, secret: bytes) -> bytes:
        """The verify_data of Finished, or a binder (RFC 8446 4.4.4, 4.2.11.2)."""
        source = Secret(secret, self.algorithm)
        key = source.expand(self._constants.finished_label, self.algorithm.digest_size)
        return _extract(key, self.hash.copy().finalize(), self.algorithm)

    def _expand(self, label: bytes) -> bytes:
        if self._source is None:
            self._source = Secret(self.secret, self.algorithm)
        return self._source.expand(label, self.algorithm.digest_size)


# -- the keys of packets --------------------------------------------------------------------------


class _Suite(NamedTuple):
    """The parameters of a cipher suite in a version of QUIC."""

    algorithm: HashAlgorithm
    is_aes: bool
    aead: bytes
    protection: bytes
    key_bytes: int
    key_label: bytes
    iv_label: bytes
    protection_label: bytes


@lru_cache
def _suite(cipher_suite: CipherSuite, version: int) -> _Suite:
    protection, aead = CIPHER_SUITES[cipher_suite]
    key_bytes = 16 if cipher_suite == CipherSuite.AES_128_GCM_SHA256 else 32
    # RFC 9369 3.3.2
    prefix = b"quicv2 " if version == QuicProtocolVersion.VERSION_2 else b"quic "
    return _Suite(
        cipher_suite_hash(cipher_suite),
        cipher_suite != CipherSuite.CHACHA20_POLY1305_SHA256,
        aead,
        protection,
        key_bytes,
        expansion_label(prefix + b"key", b"", key_bytes),
        expansion_label(prefix + b"iv", b"", _IV_BYTES),
        expansion_label(prefix + b"hp", b"", key_bytes),
    )


class Keys(CryptoContext):
    """The keys of one direction."""

    def setup(self, *, cipher_suite: CipherSuite, secret: bytes, version: int) -> None:
        """Derive the keys from a traffic secret, and use them."""
        suite = _suite(cipher_suite, version)
        source = Secret(secret, suite.algorithm)
        key = source.expand(suite.key_label, suite.key_bytes)
        iv = source.expand(suite.iv_label, _IV_BYTES)
        protection_key = source.expand(suite.protection_label, suite.key_bytes)
        self.cipher_suite = cipher_suite
        if suite.is_aes:
            # As aioquic makes them, without a check of what was derived here.
            self.aead, self.hp = _new(AEAD), _new(HeaderProtection)
            self.aead._aead, self.aead._iv = AESGCM(key), int.from_bytes(iv, "big")
            self.hp._is_chacha20 = False
            self.hp._encryptor = Cipher(AES(protection_key), _ECB).encryptor()
        else:
            self.aead = AEAD(suite.aead, key, iv)
            self.hp = HeaderProtection(suite.protection, protection_key)
        self.secret = secret
        self.version = version
        self._setup_cb("tls")


class KeyPair(CryptoPair):
    """The keys of both directions."""

    def __init__(self) -> None:
        self.aead_tag_size = 16
        self.recv = Keys()
        self.send = Keys()
        self._update_key_requested = False

    def setup_initial(self, cid: bytes, is_client: bool, version: int) -> None:
        """Derive the keys of Initial packets (RFC 9001 5.2), and use them."""
        salt = INITIAL_SALT_VERSION_1
        if version == QuicProtocolVersion.VERSION_2:
            salt = INITIAL_SALT_VERSION_2
        source = Secret(_extract(salt, cid, _INITIAL_HASH), _INITIAL_HASH)
        labels = (_SERVER_IN, _CLIENT_IN) if is_client else (_CLIENT_IN, _SERVER_IN)
        for keys, label in zip((self.recv, self.send), labels, strict=True):
            secret = source.expand(label, _INITIAL_HASH.digest_size)
            keys.setup(cipher_suite=INITIAL_CIPHER_SUITE, secret=secret, version=version)


_INITIAL_HASH = cipher_suite_hash(INITIAL_CIPHER_SUITE)
_CLIENT_IN = expansion_label(b"client in", b"", _INITIAL_HASH.digest_size)
_SERVER_IN = expansion_label(b"server in", b"", _INITIAL_HASH.digest_size)
