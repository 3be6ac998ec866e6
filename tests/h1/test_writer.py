"""tercel.h1.writer: one framing per response, and what an application may not decide."""

import pytest

from tercel.h1.writer import Framing, ResponseWriter, reason_phrase
from tercel.shared.messages import Fields, RequestHead, ResponseHead, response_head
from tercel.shared.response_fields import ResponseFields


class NoFields(ResponseFields):
    """Adds nothing, so that tests see what the writer does."""

    def lines(self, *, advertise: bool = False) -> bytes:
        return b""

    def complete(self, fields: Fields, *, advertise: bool = False) -> None:
        pass


def writer(
    method: bytes = b"GET", version: str = "1.1", *, keep_alive: bool = True, te: bytes = b""
) -> ResponseWriter:
    fields: Fields = [(b"te", te)] if te else []
    head = RequestHead(
        method=method, scheme=b"http", authority=b"a", target=b"/", fields=fields,
        http_version=version,
    )  # fmt: skip
    return ResponseWriter(head, keep_alive=keep_alive, defaults=NoFields())


def lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def written(w: ResponseWriter, status: int = 200, *fields: tuple[bytes, bytes],
            known: int | None = None) -> list[bytes]:  # fmt: skip
    return lines(w.head(ResponseHead(status, list(fields)), known))


def test_head_is_a_status_line_and_fields() -> None:
    assert written(writer(), 404, (b"a", b"b"), (b"content-length", b"0")) == [
        b"HTTP/1.1 404 Not Found",
        b"a: b",
        b"content-length: 0",
    ]


def test_status_without_a_name_has_an_empty_phrase() -> None:
    assert written(writer(), 299)[0] == b"HTTP/1.1 299 "
    assert reason_phrase(299) == ""
    assert reason_phrase(200) == "OK"


def test_length_frames_content() -> None:
    w = writer()
    assert b"content-length: 5" in written(w, 200, (b"content-length", b"5"))
    assert w.framing is Framing.LENGTH
    assert w.content(b"hello") == [b"hello"]
    assert w.end([]) == b""
    assert w.keep_alive


def test_known_length_is_added() -> None:
    assert b"content-length: 3" in written(writer(), known=3)
    assert b"content-length: 0" in written(writer(), known=0)


def test_length_of_the_application_goes_before_the_known_one() -> None:
    assert written(writer(), 200, (b"content-length", b"7"), known=0)[1:] == [b"content-length: 7"]


def test_second_length_of_the_application_is_dropped() -> None:
    fields = ((b"content-length", b"7"), (b"content-length", b"8"))
    assert written(writer(), 200, *fields)[1:] == [b"content-length: 7"]


def test_unknown_length_is_chunked() -> None:
    w = writer()
    assert written(w)[1:] == [b"transfer-encoding: chunked"]
    assert b"".join(w.content(b"x" * 26)) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert w.content(b"") == []
    assert w.end([]) == b"0\r\n\r\n"


def test_unknown_length_ends_with_the_connection_for_http_1_0() -> None:
    w = writer(version="1.0")
    assert written(w)[1:] == [b"connection: close"]
    assert w.framing is Framing.CLOSE
    assert not w.keep_alive
    assert w.content(b"abc") == [b"abc"]
    assert w.end([(b"a", b"b")]) == b""


def test_http_1_0_client_is_told_that_the_connection_persists() -> None:
    assert b"connection: keep-alive" in written(writer(version="1.0"), known=1)


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [(b"HEAD", 200, [b"content-length: 5"]), (b"GET", 304, [b"content-length: 5"]),
     (b"GET", 204, [])],
)  # fmt: skip
def test_response_without_content_may_tell_the_length_it_would_have(
    method: bytes, status: int, fields: list[bytes]
) -> None:
    w = writer(method)
    assert written(w, status, (b"content-length", b"5"))[1:] == fields
    assert w.framing is Framing.NONE
    assert w.content(b"hello") == []
    assert w.end([(b"a", b"b")]) == b""


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_response_without_content_gets_no_framing_of_its_own(method: bytes, status: int) -> None:
    assert len(written(writer(method), status)) == 1
    assert len(written(writer(method), status, known=0)) == 1


def test_connection_fields_of_the_application_are_left_out() -> None:
    fields = [
        (b"connection", b"keep-alive"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"gzip"),
        (b"x", b"y"),
    ]
    assert written(writer(), 200, *fields, known=1)[1:] == [b"x: y", b"content-length: 1"]


def test_application_can_close_the_connection() -> None:
    w = writer()
    assert b"connection: close" in written(w, 200, (b"connection", b"foo, Close"), known=1)
    assert not w.keep_alive


def test_connection_that_will_not_persist_is_announced() -> None:
    assert b"connection: close" in written(writer(keep_alive=False), known=1)


def test_upgrade_field_is_named_by_connection() -> None:
    fields = written(writer(keep_alive=False), 426, (b"upgrade", b"websocket"), known=0)
    assert b"upgrade: websocket" in fields
    assert b"connection: upgrade, close" in fields
    assert b"connection: upgrade" in written(writer(), 426, (b"upgrade", b"websocket"), known=0)


def test_switching_protocols_ends_all_framing() -> None:
    w = writer()
    data = w.upgrade(b"websocket", [(b"sec-websocket-accept", b"x"), (b"connection", b"close")])
    assert lines(data) == [
        b"HTTP/1.1 101 Switching Protocols",
        b"connection: upgrade",
        b"upgrade: websocket",
        b"sec-websocket-accept: x",
    ]
    assert w.content(b"raw") == [b"raw"]
    assert w.end([]) == b""
    assert not w.keep_alive


def test_whole_response_is_one_buffer_unless_it_is_large() -> None:
    assert writer().whole(ResponseHead(200, []), b"abc") == [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
    ]
    large = b"x" * 100_000
    head, content = writer().whole(ResponseHead(200, []), large)
    assert content is large
    assert head.endswith(b"content-length: 100000\r\n\r\n")
    assert writer(b"HEAD").whole(ResponseHead(200, []), b"") == [b"HTTP/1.1 200 OK\r\n\r\n"]


def test_informational_response_has_no_framing() -> None:
    data = writer().informational(103, [(b"link", b"</a>"), (b"content-length", b"5")])
    assert lines(data) == [b"HTTP/1.1 103 Early Hints", b"link: </a>"]
    assert writer().informational(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_http_1_0_client_gets_no_informational_response() -> None:
    assert writer(version="1.0").informational(103, []) == b""


@pytest.mark.parametrize("te", [b"trailers", b"gzip, Trailers", b"trailers ,deflate"])
def test_trailers_end_chunked_content_for_a_client_that_takes_them(te: bytes) -> None:
    w = writer(te=te)
    written(w)
    assert w.end([(b"a", b"b")]) == b"0\r\na: b\r\n\r\n"


@pytest.mark.parametrize("te", [b"", b"gzip", b"xtrailers"])
def test_trailers_are_dropped_for_other_clients(te: bytes) -> None:
    w = writer(te=te)
    written(w)
    assert w.end([(b"a", b"b")]) == b"0\r\n\r\n"


def test_trailers_are_dropped_with_a_length() -> None:
    w = writer(te=b"trailers")
    written(w, 200, (b"content-length", b"0"))
    assert w.end([(b"a", b"b")]) == b""


DATE = b"date: Thu, 01 Jan 1970 00:00:01 GMT"


def completed(*fields: tuple[bytes, bytes], advertise: bool = True) -> list[bytes]:
    head = RequestHead(
        method=b"GET", scheme=b"http", authority=b"a", target=b"/", fields=[], http_version="1.1"
    )
    defaults = ResponseFields(server=b"t", alt_svc=b"h3", clock=lambda: 1.0)
    w = ResponseWriter(head, keep_alive=True, defaults=defaults, advertise=advertise)
    return written(w, 200, *fields, known=0)[1:-1]


def test_server_s_own_fields_are_added() -> None:
    assert completed() == [DATE, b"server: t", b"alt-svc: h3"]
    assert completed(advertise=False) == [DATE, b"server: t"]


def test_application_s_own_date_server_and_alt_svc_stay() -> None:
    assert completed((b"server", b"mine")) == [b"server: mine", DATE, b"alt-svc: h3"]
    assert completed((b"date", b"now"), (b"alt-svc", b"clear")) == [
        b"date: now",
        b"alt-svc: clear",
        b"server: t",
    ]


def test_server_s_own_fields_follow_the_clock() -> None:
    now = 1.0
    fields = ResponseFields(server=None, clock=lambda: now)
    assert fields.lines() == DATE + b"\r\n"
    now = 2.0
    assert fields.lines() == b"date: Thu, 01 Jan 1970 00:00:02 GMT\r\n"


HEADS: dict[str, tuple[int, Fields]] = {
    "plain": (200, [(b"content-type", b"text/plain"), (b"etag", b'"a"')]),
    "length": (404, [(b"content-length", b"3"), (b"etag", b'"a"')]),
    "no content": (204, [(b"content-length", b"3"), (b"etag", b'"a"')]),
    "unchanged": (304, [(b"content-length", b"3"), (b"etag", b'"a"')]),
    "upgrade": (426, [(b"upgrade", b"websocket"), (b"content-length", b"3")]),
    "close": (200, [(b"connection", b"close"), (b"content-length", b"3")]),
    "own date": (200, [(b"date", b"now"), (b"content-length", b"3")]),
    "none": (200, []),
}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(("status", "fields"), HEADS.values(), ids=HEADS.keys())
def test_a_head_of_known_length_is_written_as_one_that_is_looked_through(
    status: int, fields: Fields, version: str, method: bytes
) -> None:
    defaults = ResponseFields(alt_svc=b"h3", clock=lambda: 1.0)
    request = RequestHead(method, b"http", b"a", b"/", [], version)
    results = []
    for head in (response_head(status, fields), ResponseHead(status, fields)):
        w = ResponseWriter(request, True, defaults, True)
        written = b"".join(w.whole(head, b"abc"))
        head_lines, _, content = written.partition(b"\r\n\r\n")
        first, *rest = head_lines.split(b"\r\n")
        results.append((first, sorted(rest), content, w.framing, w.keep_alive))
    assert results[0] == results[1]


def test_fields_that_the_server_adds_are_not_added_to_an_application_s_own() -> None:
    adding = ResponseFields(added=[(b"x-a", b"added")], clock=lambda: 0.0)
    for defaults in (ResponseFields(clock=lambda: 0.0), adding):
        request = RequestHead(b"GET", b"http", b"a", b"/", [], "1.1")
        w = ResponseWriter(request, keep_alive=True, defaults=defaults)
        (data,) = w.whole(response_head(200, [(b"x-a", b"own")]), b"x")
        assert data.count(b"x-a: own") == data.count(b"x-a: ") == 1
