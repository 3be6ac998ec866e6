"""The access log's line."""

import logging

import pytest

from tercel.shared.accesslog import SHOWN_BYTES, log_exchange
from tests.support.memory_stream import request_head


def line_of(
    caplog: pytest.LogCaptureFixture, *, status: int = 200, note: str = "", **head: bytes
) -> str:
    caplog.set_level(logging.INFO, "tercel.access")
    log_exchange(
        request_head(**head),  # type: ignore[arg-type]
        client="192.0.2.1:5",
        status=status,
        size=13,
        seconds=0.01234,
        note=note,
    )
    assert [(r.name, r.levelname) for r in caplog.records] == [("tercel.access", "INFO")]
    return caplog.messages[0]


def test_line_tells_client_request_status_size_and_time(caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(caplog, target=b"/a?b")
    assert line == '192.0.2.1:5 "GET /a?b HTTP/3" 200 13 12.3ms'


def test_line_tells_why_an_exchange_ended_early(caplog: pytest.LogCaptureFixture) -> None:
    assert line_of(caplog, note="reset by the peer").endswith("12.3ms (reset by the peer)")


def test_exchange_without_a_response_has_no_status(caplog: pytest.LogCaptureFixture) -> None:
    assert '" - 13 ' in line_of(caplog, status=0)


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        (b"/\r\nfake", r"/\x0d\x0afake"),
        (b"/\x1b[31m", r"/\x1b[31m"),
        (b'/"', r"/\x22"),
        (b"/\\", r"/\x5c"),
        (b"/\x7f\x80\xff", r"/\x7f\x80\xff"),
    ],
)
def test_line_holds_nothing_a_terminal_or_a_parser_acts_on(
    caplog: pytest.LogCaptureFixture, target: bytes, logged: str
) -> None:
    assert f'"GET {logged} HTTP/3"' in line_of(caplog, target=target)


def test_method_is_escaped_too(caplog: pytest.LogCaptureFixture) -> None:
    assert r"G\x0aET" in line_of(caplog, method=b"G\nET")


def test_the_note_is_escaped_as_it_may_be_the_client_s(caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(caplog, note='gone\n127.0.0.1 "GET\x1b[2J\u2028\udcff')
    assert line.endswith(r" (gone\x0a127.0.0.1 \x22GET\x1b[2J\xe2\x80\xa8\xed\xb3\xbf)")


def test_a_long_target_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    target = b"/" + b"a" * 16_000
    assert f'"GET {target[:SHOWN_BYTES].decode()}... HTTP/3"' in line_of(caplog, target=target)
