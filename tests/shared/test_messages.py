"""Heads and field sections."""

from typing import Any

import pytest

from tercel.shared import messages
from tercel.shared.errors import LocalProtocolError
from tercel.shared.messages import (
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


def test_lines_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_CHECKED", {})
    monkeypatch.setattr(messages, "_MAX_CHECKED", 2)
    lines = [(b"X-%d" % number, b" 1") for number in range(5)]
    assert checked_fields(lines) == [(name.lower(), b"1") for name, _ in lines]
    assert list(messages._CHECKED) == [lines[4]]


def test_long_values_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_CHECKED", {})
    assert checked_fields([(b"etag", b"x" * 200)]) == [(b"etag", b"x" * 200)]
    assert messages._CHECKED == {}


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The heads that are remembered; none yet."""
    fresh: dict[Any, Any] = {}
    monkeypatch.setattr(messages, "_HEADS", fresh)
    return fresh


def test_a_head_that_comes_again_is_the_same_object(heads: dict[Any, Any]) -> None:
    first = response_head(200, [(b"A", b" b ")])
    assert (first.status, first.fields, first.repeated) == (200, [(b"a", b"b")], False)
    assert response_head(200, ((b"A", b" b "),)) is first
    assert first.repeated
    assert response_head(201, [(b"A", b" b ")]) is not first
    assert response_head(200, [(b"A", b"c")]) is not first


@pytest.mark.parametrize(
    "fields",
    [
        [(b"a", bytearray(b"b"))],
        [(b"a", memoryview(b"b"))],
        [[b"a", b"b"]],
        [(b"etag", b"x" * 200)],
        [(b"a", b"b")] * 17,
        iter([(b"a", b"b")]),
    ],
    ids=["bytearray", "memoryview", "list", "long", "many", "iterator"],
)
def test_what_might_hold_much_or_change_is_not_remembered(heads: Any, fields: Any) -> None:
    assert response_head(200, fields).fields
    assert heads == {}


def test_invalid_fields_are_refused_each_time(heads: dict[Any, Any]) -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            response_head(200, [(b"a", b"b\r\n")])
    assert heads == {}


def test_heads_that_are_remembered_have_a_limit(
    heads: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_MAX_HEADS", 2)
    for status in (200, 201, 202):
        assert response_head(status, []).status == status
    assert list(heads) == [(202,)]
