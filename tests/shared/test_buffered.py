"""What is buffered for all connections: counted, bounded, and given up by who holds it idly."""

import pytest

from tercel.shared.buffered import COUNTED_FROM_BYTES, IDLE_SECONDS, Account, BufferLedger

BUDGET = 1_000_000


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Connection:
    """A holder that says what a test has set."""

    def __init__(self, ledger):
        self.buffered = self.moved = 0
        self.given_up = False
        self.account = ledger.open(self)

    def hold(self, size):
        self.buffered = size
        self.count_buffers()

    def move(self, size):
        self.moved += size
        self.count_buffers()

    def count_buffers(self):
        self.account.settle(self.buffered, self.moved)

    def give_up_buffers(self):
        self.given_up = True


class Served:
    def __init__(self):
        self.clock = Clock()
        self.met = 0
        self.ledger = BufferLedger(BUDGET, clock=self.clock, met=self._count)
        self.connections = []

    def _count(self):
        self.met += 1

    def connection(self, size=0):
        connection = Connection(self.ledger)
        connection.hold(size)
        self.connections.append(connection)
        return connection

    @property
    def given_up(self):
        return [connection.given_up for connection in self.connections]


@pytest.fixture
def served():
    return Served()


# -- counting -------------------------------------------------------------------------------------


def test_what_all_connections_hold_is_added_up(served):
    first, second = served.connection(10_000), served.connection(20_000)
    assert served.ledger.total == 30_000
    first.hold(5_000)
    assert served.ledger.total == 25_000
    second.hold(0)
    assert served.ledger.total == 5_000


def test_what_is_hardly_worth_it_is_not_counted(served):
    connection = served.connection(COUNTED_FROM_BYTES - 1)
    assert served.ledger.total == 0
    connection.hold(COUNTED_FROM_BYTES)
    assert served.ledger.total == COUNTED_FROM_BYTES
    connection.hold(COUNTED_FROM_BYTES - 1)
    assert served.ledger.total == 0


def test_messages_of_websockets_count_beside_what_the_connection_holds(served):
    connection = served.connection(10_000)
    connection.account.hold_messages(50_000)
    assert served.ledger.total == 60_000
    connection.hold(0)
    assert served.ledger.total == 50_000
    connection.account.hold_messages(-50_000)
    assert served.ledger.total == 0


def test_a_connection_that_has_ended_holds_nothing(served):
    connection = served.connection(10_000)
    connection.account.close()
    connection.hold(20_000)
    assert served.ledger.total == 0


def test_an_account_without_a_ledger_counts_for_itself_alone():
    account = Account()
    account.settle(10_000, 0)
    account.hold_messages(5_000)
    assert account.messages == 5_000


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "narrowing"), [(0.5, 0), (0.55, 1), (0.7, 2), (0.8, 4), (1.0, 4), (0.4, 0)]
)
def test_windows_shrink_as_the_budget_fills_and_grow_again(served, share, narrowing):
    connection = served.connection(int(0.9 * BUDGET))
    connection.hold(int(share * BUDGET))
    assert served.ledger.narrowing == narrowing


# -- who is given up ------------------------------------------------------------------------------


def test_nobody_is_given_up_while_there_is_room(served):
    served.connection(BUDGET * 3 // 4)
    served.clock.now += 10 * IDLE_SECONDS
    served.connection(0)
    assert served.given_up == [False, False]


def test_the_largest_idle_holder_is_given_up_first_and_not_the_newest(served):
    served.connection(200_000)
    large = served.connection(400_000)
    served.clock.now += IDLE_SECONDS
    served.connection(200_000)
    assert served.given_up == [False, True, False]
    assert served.ledger.total == 400_000
    assert served.met == 1
    assert large.account.given_up


def test_who_moves_is_not_given_up_while_an_idle_one_can_be(served):
    moving, idle = served.connection(600_000), served.connection(100_000)
    for _ in range(10):
        served.clock.now += IDLE_SECONDS / 2
        moving.move(100_000)
    served.connection(150_000)
    assert served.given_up == [False, True, False]
    assert not moving.given_up
    assert idle.given_up


def test_a_byte_now_and_then_is_no_movement(served):
    trickling, moving = served.connection(400_000), served.connection(300_000)
    for _ in range(10):
        served.clock.now += IDLE_SECONDS / 5
        trickling.move(1)
        moving.move(10_000)
    served.connection(100_000)
    assert served.given_up == [True, False, False]


def test_above_the_budget_somebody_is_given_up_even_if_nobody_is_idle(served):
    for size in (10_000, 300_000, 300_000, 300_000, 100_000):
        served.connection(size)
        served.clock.now += 0.1
    assert served.ledger.total <= BUDGET
    assert served.given_up == [False, True, False, False, False]


def test_above_the_budget_who_stands_still_for_a_moment_goes_before_who_moves(served):
    moving, still = served.connection(500_000), served.connection(300_000)
    for _ in range(4):
        served.clock.now += 0.5
        moving.move(50_000)
    newest = served.connection(250_000)
    assert (moving.given_up, still.given_up, newest.given_up) == (False, True, False)


def test_holders_are_asked_once_more_before_one_of_them_is_given_up(served):
    stale, idle = served.connection(500_000), served.connection(200_000)
    stale.buffered = 0  # and it has not said so
    served.clock.now += IDLE_SECONDS
    served.connection(100_000)
    assert served.given_up == [False, False, False]
    assert served.ledger.total == 300_000
    assert not idle.given_up


def test_while_the_budget_is_not_used_up_holders_are_looked_at_once_a_second(served):
    looks = []

    class Watched(Connection):
        def count_buffers(self):
            looks.append(served.clock.now)
            super().count_buffers()

    Watched(served.ledger).hold(800_000)
    looks.clear()
    for _ in range(100):
        served.clock.now += 0.01
        served.connection(10_000).hold(0)
    assert len(looks) <= 2


def test_one_connection_after_another_can_come_where_idle_ones_pay(served):
    for _ in range(100):
        newest = served.connection(100_000)
        assert not newest.given_up
        assert served.ledger.total <= BUDGET
        served.clock.now += 1.0
