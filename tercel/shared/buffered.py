"""What is buffered for clients, counted over all connections of a process, and who gives it up.

Each connection has an account of the bytes that it makes the server hold: of responses until they
are acknowledged or in the kernel's hands, of requests and WebSocket messages until the application
has taken them. The ledger adds them up. As its budget fills, windows become smaller, and then the
largest holders that do not move are given up: who brings nothing pays, and not who comes next.
Knows no protocol.
"""

import weakref
from collections.abc import Callable
from typing import Protocol

# What holds less is not counted: most requests and responses are never worth it.
COUNTED_FROM_BYTES = 4096

# Who moves nothing for so long is idle, and given up first.
IDLE_SECONDS = 5.0
# Where that is not enough: who has not moved for a moment.
_STALLED_SECONDS = 1.0
# A part of what is held has to move, so that a byte now and then is no life.
_MOVED_PART = 64
# Idle holders are looked for so often at the most, while the budget is not used up.
_LOOK_SECONDS = 1.0

# Up to which eighth of the budget windows are divided by which power of two.
_NARROWING = ((4, 0), (5, 1), (6, 2))
_NARROWEST = 4


class Holder(Protocol):
    """A connection, as the ledger sees it."""

    def count_buffers(self) -> None:
        """Bring the account up to date."""

    def give_up_buffers(self) -> None:
        """End the connection, and let go of all that is held for it, in the next loop iteration."""


class BufferLedger:
    """The bytes that all connections of a process hold, and their budget.

    `clock` gives seconds that never go back; `met` is called for each connection that is given up.
    """

    def __init__(self, budget: int, *, clock: Callable[[], float], met: Callable[[], None]) -> None:
        self.budget = budget
        self.total = 0
        """Bytes that are counted now."""
        self.narrowing = 0
        """By how many bits windows are to be smaller than they are set to be."""
        self._clock = clock
        self._met = met
        self._holding: dict[Account, None] = {}
        self._looked_at = float("-inf")
        self._relieving = False

    def open(self, holder: Holder) -> "Account":
        """The account of a new connection; `holder` is known weakly."""
        return Account(self, holder)

    def change(self, account: "Account", held: int) -> None:
        """`account` holds `held` bytes from now on."""
        self.total += held - account.held
        if not held:
            self._holding.pop(account, None)
        elif not account.held:
            self._holding[account] = None
            account.moved_at = self._clock()
        account.held = held
        self.narrowing = self._narrowing()
        if self.total > self._relief_bytes and not self._relieving:
            self._relieve()

    def now(self) -> float:
        """What time it is."""
        return self._clock()

    @property
    def _relief_bytes(self) -> int:
        """What idle holders are given up above: the narrowest windows begin there, too."""
        return self.budget * _NARROWING[-1][0] // 8

    def _narrowing(self) -> int:
        for eighths, narrowing in _NARROWING:
            if self.total <= self.budget * eighths // 8:
                return narrowing
        return _NARROWEST

    def _relieve(self) -> None:
        now = self._clock()
        if self.total <= self.budget and now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        self._relieving = True
        try:
            for account in list(self._holding):
                account.count()
            self._give_up(self._largest(now - IDLE_SECONDS), down_to=self._relief_bytes)
            if self.total > self.budget:
                # A little more than need be, so that the next bytes do not need the next search.
                enough = self.budget - self.budget // 16
                self._give_up(self._largest(now - _STALLED_SECONDS), down_to=enough)
                self._give_up(self._longest_still(), down_to=enough)
        finally:
            self._relieving = False

    def _largest(self, moved_before: float) -> "list[Account]":
        """Who has not moved since then, the largest holder first."""
        still = [account for account in self._holding if account.moved_at <= moved_before]
        return sorted(still, key=lambda account: account.held, reverse=True)

    def _longest_still(self) -> "list[Account]":
        """Of those that hold more than others, who has not moved for the longest time first."""
        average = self.total // max(len(self._holding), 1)
        large = [account for account in self._holding if account.held >= average]
        return sorted(large, key=lambda account: account.moved_at)

    def _give_up(self, accounts: "list[Account]", *, down_to: int) -> None:
        for account in accounts:
            if self.total <= down_to:
                break
            account.give_up()
            self._met()


class Account:
    """What one connection holds. One without a ledger counts for itself alone."""

    __slots__ = (
        "_buffered",
        "_holder",
        "_ledger",
        "_mark",
        "_moved",
        "_taken",
        "given_up",
        "held",
        "messages",
        "moved_at",
    )

    def __init__(self, ledger: BufferLedger | None = None, holder: Holder | None = None) -> None:
        self._ledger = ledger
        # Weakly: the connection has its account, and in a ring with it would stay after its end
        # until the garbage collector comes.
        self._holder = None if holder is None else weakref.ref(holder)
        self._buffered = self._moved = self._taken = self._mark = 0
        self.held = 0
        """Bytes that the ledger counts for the connection."""
        self.messages = 0
        """Those of WebSocket messages that the application has not taken, whole or not."""
        self.moved_at = 0.0
        """Since when the connection has moved nothing worth it."""
        self.given_up = False
        """Whether nothing is worth keeping, as the connection is to end."""

    def settle(self, buffered: int, moved: int) -> None:
        """The connection's buffers hold `buffered` bytes.

        `moved` is a number that grows by the bytes that leave them: to the client or to the
        application.
        """
        self._buffered, self._moved = buffered, moved
        ledger = self._ledger
        if ledger is None:
            return
        held = buffered + self.messages
        if held < COUNTED_FROM_BYTES:
            held = 0
        moved += self._taken
        if not self.held:
            self._mark = moved
        elif moved - self._mark > self.held // _MOVED_PART:
            self._mark = moved
            self.moved_at = ledger.now()
        if held != self.held:
            ledger.change(self, held)

    def hold_messages(self, change: int) -> None:
        """So many bytes more, or less, of WebSocket messages are held."""
        self.messages += change
        if change < 0:
            self._taken -= change
        self.settle(self._buffered, self._moved)

    def count(self) -> None:
        """Have the connection bring the account up to date."""
        holder = None if self._holder is None else self._holder()
        if holder is not None:
            holder.count_buffers()

    def give_up(self) -> None:
        """End the connection for what it holds."""
        holder = None if self._holder is None else self._holder()
        self.close()
        self.given_up = True
        if holder is not None:
            holder.give_up_buffers()

    def close(self) -> None:
        """The connection has ended: nothing is counted any more."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None and self.held:
            ledger.change(self, 0)
