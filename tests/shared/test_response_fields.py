"""What the server adds to a response."""

from tercel.shared.messages import Fields
from tercel.shared.response_fields import ResponseFields

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
