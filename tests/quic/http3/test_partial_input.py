"""Bytes that wait for more of them."""

from tercel.quic.http3.partial_input import PartialInput


def test_nothing_is_kept_of_what_can_be_read():
    unfinished = PartialInput()
    assert unfinished.continued(b"abc") == b"abc"
    assert len(unfinished) == 0


def test_what_is_kept_comes_back_when_there_is_enough_of_it():
    unfinished = PartialInput()
    unfinished.keep(b"ab", 5)
    assert unfinished.continued(b"c") is None
    assert unfinished.continued(b"") is None
    assert len(unfinished) == 3
    assert unfinished.continued(b"defg") == b"abcdefg"
    assert unfinished.continued(b"h") == b"h"


def test_what_waits_for_something_else_is_taken_from_it():
    unfinished = PartialInput()
    unfinished.keep(b"", None)
    assert unfinished.continued(b"abc") is None
    assert unfinished.take() == b"abc"
    assert unfinished.take() == b""
    assert unfinished.continued(b"d") == b"d"
