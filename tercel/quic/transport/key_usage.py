"""Key usage limits of a connection (RFC 9001 6.6)."""

from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoPair, KeyUnavailableError
from aioquic.tls import CipherSuite

# Packets that one key of AES-GCM may protect; a new one is due long before.
CONFIDENTIALITY_LIMIT = 1 << 23
KEY_UPDATE_AFTER = 1 << 22
# Packets that may fail authentication on one connection.
INTEGRITY_LIMIT = 1 << 52
INTEGRITY_LIMIT_CHACHA20 = 1 << 36


class CountedKeys(CryptoPair):
    """The 1-RTT keys, with counts of failed decryptions and of the peer's key updates."""

    def __init__(self, pair: CryptoPair) -> None:
        super().__init__()
        self.recv, self.send = pair.recv, pair.send
        self.forged = 0
        self.updates = 0

    @property
    def integrity_limit(self) -> int:
        """How many packets may fail to decrypt (RFC 9001 6.6)."""
        if self.recv.cipher_suite == CipherSuite.CHACHA20_POLY1305_SHA256:
            return INTEGRITY_LIMIT_CHACHA20
        return INTEGRITY_LIMIT

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        phase = self.recv.key_phase
        try:
            opened = super().decrypt_packet(packet, encrypted_offset, expected_packet_number)
        except KeyUnavailableError:
            raise
        except CryptoError:
            self.forged += 1
            raise
        if self.recv.key_phase != phase:
            self.updates += 1
        return opened
