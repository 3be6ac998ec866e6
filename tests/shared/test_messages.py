"""Heads and field sections."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.shared import messages
from tercel.shared.errors import LocalProtocolError
from tercel.shared.messages import (
    Fields,
    ResponseHead,
    checked_fields,
    field_value,
    is_field_value,
    is_token,
    parse_content_length,
    response_head,
)
from tests.support.memory_stream import request_head

CONTROLS = [bytes([code]) for code in (*range(0x09), *range(0x0A, 0x20), 0x7F)]


def test_heads_hold_what_they_are_given() -> None:
    head = request_head(method=b"CONNECT", protocol=b"websocket")
    assert (head.method, head.protocol, head.http_version) == (b"CONNECT", b"websocket", "3")
    assert ResponseHead(200, [(b"a", b"b")]).fields == [(b"a", b"b")]


def test_field_value_is_that_of_the_first_line() -> None:
    fields = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert field_value(fields, b"b") == b"2"
    assert field_value(fields, b"c") is None


@pytest.mark.parametrize("name", [b"a", b"X-A", b"!#$%&'*+-.^_`|~09azAZ"])
def test_token_is_accepted(name: bytes) -> None:
    assert is_token(name)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b":a", b'"', b"(", b"a\x00", b"\xc3\xa9"])
def test_what_is_no_token_is_refused(name: bytes) -> None:
    assert not is_token(name)


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"\x80\xff", b'"quoted, (comment)"'])
def test_field_value_is_accepted(value: bytes) -> None:
    assert is_field_value(value)


@pytest.mark.parametrize("control", CONTROLS)
def test_control_character_in_a_value_is_refused(control: bytes) -> None:
    assert not is_field_value(b"a" + control + b"b")


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"0", 0), (b"42", 42), (b"007", 7), (b"9223372036854775807", (1 << 63) - 1)],
)
def test_content_length_is_digits(value: bytes, length: int) -> None:
    assert parse_content_length(value) == length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"+1",
        b"-1",
        b"1_0",
        b"0x10",
        b"1.0",
        b" 1",
        b"1 ",
        b"1,1",
        b"\xb2",
        b"9223372036854775808",
        b"00000000000000000001",
    ],
)
def test_anything_else_is_no_content_length(value: bytes) -> None:
    assert parse_content_length(value) is None


def test_checked_fields_have_lower_case_names_and_trimmed_values() -> None:
    given = [(b"Content-Type", b" text/plain\t"), (b"content-type", b""), (b"X-A", b"a\tb")]
    expected = [(b"content-type", b"text/plain"), (b"content-type", b""), (b"x-a", b"a\tb")]
    assert checked_fields(given) == expected
    assert checked_fields(given) == expected


def test_checked_fields_take_any_bytes_and_any_iterable() -> None:
    given = ([bytearray(b"X-A"), memoryview(b"1")] for _ in range(1))
    result = checked_fields(given)  # type: ignore[arg-type]
    assert result == [(b"x-a", b"1")]
    assert {type(part) for part in result[0]} == {bytes}


@pytest.mark.parametrize("name", [b"", b"x a", b"x:", b":status", b"x\r\n", b"x\x00", b"\xff"])
def test_invalid_name_is_refused(name: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="invalid field name"):
        checked_fields([(name, b"1")])


@pytest.mark.parametrize("control", CONTROLS)
def test_response_splitting_is_refused(control: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="control character in the value of field b'x-a'"):
        checked_fields([(b"X-A", b"1" + control + b"x-b: 2")])


@pytest.mark.parametrize(
    "field", [("x-a", b"1"), (b"x-a", "1"), (b"x-a", 5), (b"x-a", None), (10**12, b"1")]
)
def test_what_is_not_bytes_is_refused(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match="are bytes, not"):
        checked_fields([field])


def test_names_that_are_kept_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_NAMES", {})
    monkeypatch.setattr(messages, "_MAX_NAMES", 2)
    lines = [(b"X-%d" % number, b" 1") for number in range(5)]
    for _ in range(2):
        assert checked_fields(lines) == [(name.lower(), b"1") for name, _ in lines]
        assert list(messages._NAMES) == [lines[4][0]]
        messages._NAMES.clear()


def test_long_names_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_NAMES", {})
    for _ in range(2):
        assert checked_fields([(b"X" * 200, b" 1")]) == [(b"x" * 200, b"1")]
    assert messages._NAMES == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"A", b"X-Long", b"content-length", b"set-cookie", b"a b", b""]),
            st.one_of(st.binary(max_size=6), st.sampled_from([b"12", b" 12\t", b"+1", "12", 12])),
        ),
        max_size=5,
    )
)
def test_a_section_is_checked_as_its_lines_are_in_whatever_company(fields: Any) -> None:
    expected: Any = []
    for name, value in fields:
        if not isinstance(value, bytes) or not is_token(name) or not is_field_value(value):
            with pytest.raises(LocalProtocolError):
                checked_fields(fields)
            return
        expected.append((name.lower(), value.strip(b" \t")))
    for _ in range(2):  # the names are known the second time
        assert checked_fields(fields) == expected
        assert checked_fields(iter(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], None),
        ([(b"a", b"1"), (b"a", b"2"), (b"Content-Length", b"7")], -1),
        ([(b"a", b"1"), (b"Content-Length", b" 007")], 7),
        ([(b"content-length", b"9223372036854775807")], -1),
        ([(b"content-length", b"7"), (b"content-length", b"7")], -1),
        ([(b"content-length", b"+7")], -1),
        ([(b"content-length", b"")], -1),
    ],
)
def test_length_of_a_response_head_is_known_or_left_to_be_looked_up(
    fields: Fields, length: int | None
) -> None:
    for _ in range(2):
        head = response_head(200, fields)
        assert head.length == length
        assert head.fields == checked_fields(fields)


@pytest.mark.parametrize("value", [b"b\r\n", b"b\0"])
def test_invalid_fields_are_refused_each_time(value: bytes) -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            response_head(200, [(b"a", value)])
