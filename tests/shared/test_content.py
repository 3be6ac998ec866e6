"""Received content: order, size, and credit that follows consumption."""

import pytest

from tercel.shared.content import ContentBuffer


class Credit:
    """Sums what the buffer reports as consumed."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, size: int) -> None:
        self.calls.append(size)

    @property
    def total(self) -> int:
        return sum(self.calls)


def filled(*parts: bytes) -> tuple[ContentBuffer, Credit]:
    credit = Credit()
    buffer = ContentBuffer(credit)
    for part in parts:
        buffer.append(part)
    return buffer, credit


def test_nothing_waits_in_a_new_buffer() -> None:
    buffer, credit = filled()
    assert buffer.take() == b""
    assert (buffer.size, buffer.received, buffer.ended, credit.calls) == (0, 0, False, [])


def test_arrival_grants_no_credit() -> None:
    buffer, credit = filled(b"abc", b"de")
    assert (buffer.size, buffer.received, credit.total) == (5, 5, 0)


def test_small_parts_are_taken_together_in_order() -> None:
    buffer, credit = filled(b"abc", b"de", b"f")
    assert buffer.take() == b"abcdef"
    assert (buffer.size, buffer.received, credit.calls) == (0, 6, [6])


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 100])
def test_take_never_gives_more_than_its_limit_and_loses_nothing(limit: int) -> None:
    buffer, credit = filled(b"abc", b"de", b"f")
    taken = b""
    while part := buffer.take(limit):
        assert len(part) <= limit
        taken += part
        assert buffer.size == 6 - len(taken)
        assert credit.total == len(taken)
    assert taken == b"abcdef"


def test_part_as_large_as_the_limit_is_given_as_it_came() -> None:
    part = b"x" * 65_536
    buffer, _ = filled(part, b"y")
    assert buffer.take() is part


def test_a_part_larger_than_the_limit_is_given_piece_by_piece() -> None:
    part = bytes(range(256)) * 1000
    buffer, credit = filled(part, b"end")
    pieces = [buffer.take() for _ in range(4)]
    assert [len(piece) for piece in pieces] == [65_536, 65_536, 65_536, 59_392 + 3]
    assert b"".join(pieces) == part + b"end"
    assert (buffer.size, credit.total) == (0, len(part) + 3)


def test_empty_part_does_not_hide_what_follows() -> None:
    buffer, _ = filled(b"", b"x" * 65_536)
    assert len(buffer.take()) == 65_536


def test_end_keeps_what_waits_and_the_trailers_apart() -> None:
    buffer, _ = filled(b"abc")
    buffer.end([(b"x-sum", b"1")])
    assert (buffer.ended, buffer.trailers) == (True, [(b"x-sum", b"1")])
    assert buffer.take() == b"abc"


def test_discard_gives_credit_for_what_waits_and_for_what_comes() -> None:
    buffer, credit = filled(b"abc", b"de")
    buffer.discard()
    assert (buffer.size, credit.calls) == (0, [5])
    buffer.append(b"fg")
    assert (buffer.size, buffer.received, credit.calls) == (0, 7, [5, 2])
    assert buffer.take() == b""


def test_discarding_twice_or_nothing_gives_no_credit() -> None:
    buffer, credit = filled()
    buffer.discard()
    buffer.discard()
    assert credit.calls == []
