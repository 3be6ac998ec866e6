"""Accounts for the bytes buffered for clients, over all connections of a process.

Each connection has an account of the bytes that it makes the server hold: of responses until they
are acknowledged or accepted by the kernel, of requests and WebSocket messages until the application
has read them. The ledger adds them up. As its budget fills, windows become smaller; then the
largest connections that make no progress are given up, so that they pay and not new clients. Knows
no protocol.
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
        """Update the account."""

    def give_up_buffers(self) -> None:
        """End the connection, and release all its buffers, in the next loop iteration."""


class BufferLedger:
    """The bytes that all connections of a process hold, and their budget.

    `clock` is monotonic, in seconds; `met` is called for each connection that is given up.
    """

    def __init__(self, budget: int, *, clock: Callable[[], float], met: Callable[[], None]) -> None:
        self.budget = budget
        self.total = 0
        """Bytes that are counted now."""
        self.narrowing = 0
        """By how many bits windows are narrower than the settings say."""
        self._clock = clock
        self._met = met
        self._holding: dict[Account, None] = {}
        self._looked_at = float("-inf")
        self._relieving = False

    def open(self, holder: Holder) -> "Account":
        """The account of a new connection; keeps only a weak reference to `holder`."""
        return Account(self, holder)

    def change(self, account: "Account", held: int) -> None:
        """Set the bytes that `account` holds to `held`."""
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
        """The current time."""
        return self._clock()

    @property
    def _relief_bytes(self) -> int:
        """The total above which idle holders are given up and windows are narrowest."""
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
        """The accounts without progress since then, the largest first."""
        still = [account for account in self._holding if account.moved_at <= moved_before]
        return sorted(still, key=lambda account: account.held, reverse=True)

    def _longest_still(self) -> "list[Account]":
        """Accounts that hold more than others, the longest without progress first."""
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
    """The bytes that one connection holds. Without a ledger it counts for itself alone."""

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
        """Bytes of WebSocket messages, complete or not, that the application has not read."""
        self.moved_at = 0.0
        """When the connection last made enough progress."""
        self.given_up = False
        """Whether the connection is to end, so that its buffers can be dropped."""

    def settle(self, buffered: int, moved: int) -> None:
        """Set the bytes in the connection's buffers to `buffered`.

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
        """Add this many bytes of WebSocket messages, or subtract them if negative."""
        self.messages += change
        if change < 0:
            self._taken -= change
        self.settle(self._buffered, self._moved)

    def count(self) -> None:
        """Have the connection update the account."""
        holder = None if self._holder is None else self._holder()
        if holder is not None:
            holder.count_buffers()

    def give_up(self) -> None:
        """End the connection because of the bytes that it holds."""
        holder = None if self._holder is None else self._holder()
        self.close()
        self.given_up = True
        if holder is not None:
            holder.give_up_buffers()

    def close(self) -> None:
        """The connection has ended: stop counting."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None and self.held:
            ledger.change(self, 0)
