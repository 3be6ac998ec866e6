"""A register of used tokens, so that each is accepted once (RFC 9000 8.1.4, RFC 8446 8.1).

Bitmaps of a fixed size: their memory does not grow with what clients do, and several processes
could share them, since a bit is only ever set. Does not distinguish kinds of tokens.
"""

from hashlib import blake2s
from struct import Struct

# Tokens of one part of their lifetime that can be remembered; no more are taken then.
MOST_TOKENS = 262_144
# A bitmap for those that were issued within a quarter of a lifetime, and are forgotten together.
_PARTS = 4
# With 16 bits for each token, and four of them set, one in 400 of the tokens that were not used is
# taken for used when all are: 1 - (1 - 1 / 16)^4 of the bits are 0 (a Bloom filter).
_BITS = 16 * MOST_TOKENS
_POSITIONS = Struct("!4I")


class UsedTokens:
    """Which tokens were used, of those that are issued for `lifetime` seconds.

    A used token is always recognised. An unused one may be mistaken for a used one, which must do
    little harm to its client.
    """

    def __init__(self, lifetime: float, *, most: int = MOST_TOKENS) -> None:
        self._lifetime = lifetime
        self._most = most
        self._parts: dict[int, _Part] = {}

    def use(self, token: bytes, issued_at: float, now: float) -> bool:
        """Whether `token` is used for the first time. False also if it cannot be remembered.

        Times are in seconds, by one clock; `issued_at` has to be the same for each use of a token.
        """
        number = self._part_number(issued_at)
        part = self._parts.get(number)
        if part is None:
            self._forget_expired(now)
            part = self._parts[number] = _Part(self._most)
        return part.use(token)

    def _part_number(self, time: float) -> int:
        return int(time * _PARTS // self._lifetime)

    def _forget_expired(self, now: float) -> None:
        oldest = self._part_number(now - self._lifetime)
        self._parts = {number: part for number, part in self._parts.items() if number >= oldest}


class _Part:
    """The used tokens of one part of the lifetime."""

    __slots__ = ("_bitmap", "_left")

    def __init__(self, most: int) -> None:
        self._bitmap = bytearray(_BITS // 8)
        self._left = most

    def use(self, token: bytes) -> bool:
        positions = [
            position % _BITS
            for position in _POSITIONS.unpack(blake2s(token, digest_size=_POSITIONS.size).digest())
        ]
        bitmap = self._bitmap
        if not self._left or all(bitmap[at >> 3] >> (at & 7) & 1 for at in positions):
            return False
        for at in positions:
            bitmap[at >> 3] |= 1 << (at & 7)
        self._left -= 1
        return True
