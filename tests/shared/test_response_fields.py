"""What the server adds to a response."""

import pytest

from tercel.shared.errors import ConfigurationError
from tercel.shared.messages import Fields
from tercel.shared.response_fields import ResponseFields, parse_added_field

EPOCH = (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def completed(tested: ResponseFields, fields: Fields, *, advertise: bool = False) -> Fields:
    tested.complete(fields, advertise=advertise)
    return fields


def test_date_is_rendered_once_a_second() -> None:
    clock = Clock()
    tested = ResponseFields(clock=clock)
    first = tested.date()
    clock.now = 0.999
    assert tested.date() is first
    assert first == EPOCH
    clock.now = 1.0
    assert tested.date() == (b"date", b"Thu, 01 Jan 1970 00:00:01 GMT")


def test_date_and_server_come_after_the_applications_fields() -> None:
    tested = ResponseFields(clock=Clock())
    assert completed(tested, [(b"x-a", b"1")]) == [(b"x-a", b"1"), EPOCH, (b"server", b"tercel")]


def test_applications_own_fields_stay_alone() -> None:
    tested = ResponseFields(alt_svc=b'h3=":4433"', clock=Clock())
    own = [(b"date", b"today"), (b"server", b"mine"), (b"alt-svc", b"clear")]
    assert completed(tested, list(own), advertise=True) == own


def test_server_may_be_left_out() -> None:
    assert completed(ResponseFields(server=None, clock=Clock()), []) == [EPOCH]


def test_alt_svc_is_added_only_where_it_is_advertised() -> None:
    tested = ResponseFields(server=None, alt_svc=b'h3=":4433"', clock=Clock())
    assert completed(tested, []) == [EPOCH]
    assert completed(tested, [], advertise=True) == [EPOCH, (b"alt-svc", b'h3=":4433"')]
    assert completed(ResponseFields(server=None, clock=Clock()), [], advertise=True) == [EPOCH]


def test_default_clock_is_the_wall_clock() -> None:
    assert ResponseFields().date()[1].endswith(b" GMT")


def test_date_may_be_left_out() -> None:
    tested = ResponseFields(date=False, clock=Clock())
    assert completed(tested, []) == [(b"server", b"tercel")]
    assert tested.lines() == b"server: tercel\r\n"


def test_further_fields_are_added_unless_the_application_sent_one_of_the_name() -> None:
    tested = ResponseFields(added=[(b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"3")], clock=Clock())
    added = completed(tested, [(b"x-b", b"own"), EPOCH])
    assert added[2:] == [(b"server", b"tercel"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert b"x-a: 1\r\nx-a: 2\r\nx-b: 3\r\n" in tested.lines()


@pytest.mark.parametrize("name", [b"server", b"date", b"alt-svc"])
def test_further_field_takes_the_place_of_the_server_s_own(name: bytes) -> None:
    tested = ResponseFields(alt_svc=b"h3", added=[(name, b"mine")], clock=Clock())
    added = completed(tested, [], advertise=True)
    assert [value for key, value in added if key == name] == [b"mine"]


def test_added_field_is_a_name_and_a_value() -> None:
    assert parse_added_field("X-Frame-Options:  DENY ") == (b"x-frame-options", b"DENY")
    assert parse_added_field("link: <a:b>; rel=x") == (b"link", b"<a:b>; rel=x")
    assert parse_added_field("x-empty:") == (b"x-empty", b"")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "has no colon: write NAME:VALUE"),
        ("", "has no colon"),
        (": value", "is no field name"),
        (":status: 200", "is no field name"),
        ("a b: c", "is no field name"),
        ("\u00e4: c", "is no field name"),
        ("x: \u00e4", "--header x: the value is plain ASCII"),
        ("x: a\r\nSet-Cookie: b", "without line breaks"),
        ("Content-Length: 3", "--header content-length: that field is the server's"),
        ("Transfer-Encoding: chunked", "that field is the server's"),
        ("connection: close", "that field is the server's"),
    ],
)
def test_added_field_that_can_stand_in_no_response_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        parse_added_field(text)
    assert "\n" not in str(caught.value)
