"""Fields in several lines. tests/fuzz/test_repeated_fields.py holds each version to the rules."""

import pytest

from tercel.shared.errors import ExpectationFailed
from tercel.shared.request_fields import (
    check_expectations,
    is_trailers_only,
    line_count,
    list_elements,
    takes_trailers,
    with_single_lines,
)


@pytest.mark.parametrize(
    ("values", "elements"),
    [
        ([], []),
        ([b""], []),
        ([b"A"], [b"a"]),
        ([b"a , B\t,,c"], [b"a", b"b", b"c"]),
        ([b"a", b"b, c"], [b"a", b"b", b"c"]),
        ([b","], []),
        ([b'a;x="1, b", c'], [b'a;x="1, b"', b"c"]),
        ([b'a;x="\\", b", c'], [b'a;x="\\", b"', b"c"]),
        ([b'a;x="1, b'], [b'a;x="1, b']),
    ],
)
def test_a_list_is_taken_apart_at_commas_outside_quotes(
    values: list[bytes], elements: list[bytes]
) -> None:
    assert list_elements(values) == elements


@pytest.mark.parametrize("values", [[b"100-continue"], [b"100-Continue", b"100-continue, "]])
def test_100_continue_is_what_may_be_expected(values: list[bytes]) -> None:
    check_expectations(values)


@pytest.mark.parametrize("values", [[b""], [b"x"], [b"100-continue", b"x"], [b"100-continue;a"]])
def test_anything_else_that_is_expected_fails(values: list[bytes]) -> None:
    with pytest.raises(ExpectationFailed):
        check_expectations(values)


@pytest.mark.parametrize(
    ("value", "taken", "alone"),
    [
        (b"trailers", True, True),
        (b"Trailers", True, True),
        (b"gzip;q=0.5, trailers", True, False),
        (b"trailers;q=0.5", False, False),
        (b"xtrailers", False, False),
        (b"", False, False),
    ],
)
def test_trailers_are_taken_where_te_has_them_without_a_weight(
    value: bytes, taken: bool, alone: bool
) -> None:
    assert takes_trailers([(b"x", b"y"), (b"te", value)]) is taken
    assert is_trailers_only([value]) is alone


def test_all_cookies_become_one_line_and_count_as_one() -> None:
    fields = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2")]
    joined = with_single_lines(fields, {b"cookie": [b"a=1", b"b=2"]})
    assert joined == [(b"accept", b"*/*"), (b"cookie", b"a=1; b=2")]
    assert line_count(fields) == line_count(joined) == 2
    assert line_count([(b"accept", b"*/*")]) == 1
    assert line_count([]) == 0


def test_one_cookie_stays_where_it_is() -> None:
    fields = [(b"cookie", b"a=1"), (b"accept", b"*/*")]
    assert with_single_lines(fields, {b"cookie": [b"a=1"]}) is fields
