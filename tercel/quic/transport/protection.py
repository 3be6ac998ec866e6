"""Packet protection (RFC 9001 5.3, 5.4), without intermediate objects.

Functions for short headers only are part of the fast path. `keys` are a CryptoContext of aioquic's,
whose private names are used here; each use has a canary in tests/quic/transport.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Any

from cryptography.exceptions import InvalidTag

TAG_BYTES = 16
_SAMPLE_BYTES = 16
# As aioquic: two bytes of packet number, so the sample begins two bytes into what is sealed, and
# at least two bytes have to be there (RFC 9001 5.4.2).
NUMBER_BYTES = 2
LEAST_PAYLOAD_BYTES = 2
_NUMBER_MAX_BYTES = 4
# Where the sample is in what is sealed.
_SAMPLE_BEGIN = _NUMBER_MAX_BYTES - NUMBER_BYTES
_SAMPLE_END = _SAMPLE_BEGIN + _SAMPLE_BYTES

_FORM_AND_FIXED_BITS = 0xC0
_LONG_HEADER = 0x80
_FIXED_BIT = 0x40
_KEY_PHASE_BIT = 0x04
_RESERVED_AND_KEY_PHASE_BITS = 0x1C
SPIN_BIT = 0x20

_CHACHA20_ZEROS = bytes(5)
_CHACHA20_MASK = Struct("!BH2x")
_AES_MASK = Struct("!BH13x")

_OCTETS = tuple(bytes((octet,)) for octet in range(0x100))


def first_byte(keys: Any, spin_bit: bool) -> int:
    """The first byte of packets under `keys` (RFC 9000 17.3.1)."""
    key_phase: int = keys.key_phase
    return _FIXED_BIT | (NUMBER_BYTES - 1) | spin_bit << 5 | key_phase << 2


def seal(keys: Any, first: int, cid: bytes, number: int, payloads: list[bytes]) -> list[bytes]:
    """Protect packets with consecutive numbers from `number` on (RFC 9001 5.3, 5.4).

    `first` is their first byte, `cid` the Destination Connection ID.
    """
    aead: Any = keys.aead
    encrypt, iv = aead._aead.encrypt, aead._iv
    start = _OCTETS[first] + cid
    if len(payloads) == 1:
        # Most answers to small requests: 1 us less than in a loop.
        header = start + (number & 0xFFFF).to_bytes(2, "big")
        data = encrypt((iv ^ number).to_bytes(12, "big"), payloads[0], header)
        mask = _mask(keys.hp, data[_SAMPLE_BEGIN:_SAMPLE_END])
        hidden = number & 0xFFFF ^ (mask[1] << 8 | mask[2])
        head = _OCTETS[first ^ mask[0] & 0x1F]
        return [b"".join((head, cid, hidden.to_bytes(2, "big"), data))]
    sealed = []
    numbers = range(number, number + len(payloads))
    for number, payload in zip(numbers, payloads, strict=True):
        header = start + (number & 0xFFFF).to_bytes(2, "big")
        sealed.append(encrypt((iv ^ number).to_bytes(12, "big"), payload, header))
    datagrams = []
    masks = _masks(keys.hp, sealed)
    for number, data, (bits, low) in zip(numbers, sealed, masks, strict=True):
        hidden = number & 0xFFFF ^ low
        head = _OCTETS[first ^ bits & 0x1F]
        datagrams.append(b"".join((head, cid, hidden.to_bytes(2, "big"), data)))
    return datagrams


def seal_any(keys: Any, header: bytes, number: int, payload: bytes) -> bytes:
    """Protect a packet of any kind, whose `header` ends with two bytes of its number."""
    aead: Any = keys.aead
    data: bytes = aead._aead.encrypt((aead._iv ^ number).to_bytes(12, "big"), payload, header)
    mask = _mask(keys.hp, data[_SAMPLE_BEGIN:_SAMPLE_END])
    first = header[0]
    first ^= mask[0] & (0x0F if first & _LONG_HEADER else 0x1F)
    hidden = number & 0xFFFF ^ (mask[1] << 8 | mask[2])
    return b"".join((_OCTETS[first], header[1:-NUMBER_BYTES], hidden.to_bytes(2, "big"), data))


def unseal(keys: Any, cid: bytes, expected: int, data: bytes) -> tuple[int, int, bytes] | None:
    """The first byte, packet number and payload of a short-header packet (RFC 9001 5.3, 5.4).

    `cid` is the Destination Connection ID, `expected` the next packet number. None for every other
    packet, and for one that cannot be decrypted with these keys.
    """
    begin = 1 + len(cid)
    sample = begin + _NUMBER_MAX_BYTES
    if len(data) < sample + _SAMPLE_BYTES:
        return None
    first = data[0]
    if first & _FORM_AND_FIXED_BITS != _FIXED_BIT or data[1:begin] != cid:
        return None
    mask = _mask(keys.hp, data[sample : sample + _SAMPLE_BYTES])
    first ^= mask[0] & 0x1F
    if first & _RESERVED_AND_KEY_PHASE_BITS != keys.key_phase << 2:
        return None
    size = 1 + (first & 0x03)
    truncated, end = 0, begin
    for bits in mask[1 : 1 + size]:  # mostly one or two: half the time of `from_bytes`
        truncated = truncated << 8 | data[end] ^ bits
        end += 1
    number = _whole_number(truncated, 8 * size, expected)
    header = _OCTETS[first] + cid + truncated.to_bytes(size, "big")
    aead: Any = keys.aead
    try:
        plain = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), data[end:], header)
    except InvalidTag:
        return None
    return first, number, plain


def unseal_any(
    keys: Any, packet: bytes, begin: int, expected: int
) -> tuple[int, int, bytes] | None:
    """As `unseal`, for a packet of any kind whose number begins at `begin`.

    None also if there are no keys. Reserved bits are not checked.
    """
    sample = begin + _NUMBER_MAX_BYTES
    aead: Any = keys.aead
    if aead is None or len(packet) < sample + _SAMPLE_BYTES:
        return None
    mask = _mask(keys.hp, packet[sample : sample + _SAMPLE_BYTES])
    first = packet[0]
    if first & _LONG_HEADER:
        first ^= mask[0] & 0x0F
    else:
        first ^= mask[0] & 0x1F
        if first & _KEY_PHASE_BIT != keys.key_phase << 2:
            return None
    end = begin + 1 + (first & 0x03)
    size = end - begin
    truncated = int.from_bytes(packet[begin:end], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
    number = _whole_number(truncated, 8 * size, expected)
    header = _OCTETS[first] + packet[1:begin] + truncated.to_bytes(size, "big")
    try:
        plain = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), packet[end:], header)
    except InvalidTag:
        return None
    return first, number, plain


def _whole_number(truncated: int, bits: int, expected: int) -> int:
    """The full packet number of which `truncated` are the low bits (RFC 9000 A.3)."""
    window = 1 << bits
    candidate = expected & -window | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def _masks(protection: Any, sealed: list[bytes]) -> Iterable[tuple[int, int]]:
    """The header protection masks of sealed payloads (RFC 9001 5.4.3, 5.4.4).

    Each as its first byte, and the next two as one number.
    """
    samples = [packet[_SAMPLE_BEGIN:_SAMPLE_END] for packet in sealed]
    if protection._is_chacha20:
        masks = b"".join([_mask(protection, sample) for sample in samples])
        return _CHACHA20_MASK.iter_unpack(masks)
    # In ECB mode the samples of all packets are masked by one call.
    return _AES_MASK.iter_unpack(protection._encryptor.update(b"".join(samples)))


def _mask(protection: Any, sample: bytes) -> bytes:
    """The header protection mask for `sample` (RFC 9001 5.4.3, 5.4.4)."""
    encryptor = protection._encryptor
    mask: bytes
    if protection._is_chacha20:
        encryptor.reset_nonce(sample)
        mask = encryptor.update(_CHACHA20_ZEROS)
    else:
        mask = encryptor.update(sample)
    return mask
