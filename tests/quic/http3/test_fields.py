"""RFC 9114 4.1.2 to 4.4 row by row: which messages are malformed, and what the others mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.quic.http3.fields import HeadReader, check_section_size, sendable, trailers
from tercel.shared.errors import FieldsTooLarge, MalformedMessage

HOST = (b"host", b"example.org")
GET = {
    b":method": b"GET",
    b":scheme": b"https",
    b":authority": b"example.org",
    b":path": b"/",
}


def section(*extra, without=(), **pseudo):
    """A valid GET; keywords replace pseudo-header fields, `extra` follows them."""
    changed = {**GET, **{b":" + name.encode(): value for name, value in pseudo.items()}}
    lines = [(name, value) for name, value in changed.items() if name not in without]
    return [*lines, *extra]


def connect(*extra, **pseudo):
    return section(*extra, without=(b":scheme", b":path"), method=b"CONNECT", **pseudo)


MALFORMED = {
    # RFC 9114 4.3: pseudo-header fields
    "no :method": section(without=[b":method"]),
    "no :scheme": section(without=[b":scheme"]),
    "no :path": section(without=[b":path"]),
    "no :authority and no Host": section(without=[b":authority"]),
    "nothing at all": [],
    "two :method": section((b":method", b"GET")),
    "two :scheme": section((b":scheme", b"https")),
    "two :authority": section((b":authority", b"example.org")),
    "two :path": section((b":path", b"/")),
    "an unknown pseudo-header field": section((b":color", b"red")),
    "the pseudo-header field of a response": section((b":status", b"200")),
    "a pseudo-header field without a name": section((b":", b"x")),
    "a pseudo-header field in upper case": section((b":Path", b"/"), without=[b":path"]),
    "a pseudo-header field after a regular one": [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b"accept", b"*/*"),
        (b":path", b"/"),
        (b":authority", b"example.org"),
    ],
    "empty :method": section(method=b""),
    "empty :scheme": section(scheme=b""),
    "empty :authority": section(authority=b""),
    "empty :path": section(path=b""),
    "a :method that is no token": section(method=b"G ET"),
    "a :scheme that is not served": section(scheme=b"ftp"),
    "a :path without a slash": section(path=b"index.html"),
    "a :path in absolute form": section(path=b"https://example.org/"),
    "a :path with a blank": section(path=b"/a b"),
    "a :path with a fragment": section(path=b"/a#b"),
    "a :path with a control character": section(path=b"/a\x01"),
    "a :path with a line feed": section(path=b"/\n"),
    "a :path with raw UTF-8": section(path=b"/\xc3\xa9"),
    "the asterisk for another method": section(path=b"*"),
    "an :authority with userinfo": section(authority=b"me@example.org"),
    "an :authority with a path": section(authority=b"example.org/x"),
    "an :authority with a blank": section(authority=b"example org"),
    "an :authority with a line feed at its end": section(authority=b"example.org\n"),
    # RFC 9114 4.3.1: Host
    "a Host that differs from :authority": section((b"host", b"example.com")),
    "two different Hosts": section(
        (b"host", b"a.org"), (b"host", b"b.org"), without=[b":authority"]
    ),
    "an empty Host alone": section((b"host", b""), without=[b":authority"]),
    "two equal Hosts": section((b"host", b"example.org"), (b"host", b"example.org")),
    "two equal Hosts alone": section(
        (b"host", b"a.org"), (b"host", b"a.org"), without=[b":authority"]
    ),
    "an invalid Host alone": section((b"host", b"a b"), without=[b":authority"]),
    # RFC 9114 4.2: names and values
    "upper case in a name": section((b"Accept", b"*/*")),
    "a blank in a name": section((b"acc ept", b"*/*")),
    "a colon in a name": section((b"accept:", b"*/*")),
    "an empty name": section((b"", b"x")),
    "a name beyond ASCII": section((b"caf\xc3\xa9", b"x")),
    "a carriage return in a value": section((b"x", b"a\rb")),
    "a line feed in a value": section((b"x", b"a\nb")),
    "a NUL in a value": section((b"x", b"a\0b")),
    "a DEL in a value": section((b"x", b"a\x7fb")),
    "a blank before a value": section((b"x", b" a")),
    "a tab before a value": section((b"x", b"\ta")),
    "a blank after a value": section((b"x", b"a ")),
    "a tab after a value": section((b"x", b"a\t")),
    # RFC 9114 4.2: fields of one HTTP/1.1 connection
    "Connection": section((b"connection", b"close")),
    "Keep-Alive": section((b"keep-alive", b"timeout=5")),
    "Proxy-Connection": section((b"proxy-connection", b"close")),
    "Transfer-Encoding": section((b"transfer-encoding", b"chunked")),
    "Upgrade": section((b"upgrade", b"websocket")),
    "te: gzip": section((b"te", b"gzip")),
    "te: trailers and more": section((b"te", b"trailers, deflate")),
    "empty te": section((b"te", b"")),
    # RFC 9110 8.6
    "an empty content-length": section((b"content-length", b"")),
    "a signed content-length": section((b"content-length", b"+3")),
    "a negative content-length": section((b"content-length", b"-3")),
    "a hexadecimal content-length": section((b"content-length", b"0x3")),
    "a content-length with an underscore": section((b"content-length", b"1_0")),
    "a list of content-lengths": section((b"content-length", b"3, 3")),
    "a fractional content-length": section((b"content-length", b"3.0")),
    "a content-length over 2^63": section((b"content-length", b"9223372036854775808")),
    "two content-lengths that differ": section(
        (b"content-length", b"3"), (b"content-length", b"4")
    ),
    "two equal content-lengths": section((b"content-length", b"3"), (b"content-length", b"3")),
    "te: trailers with a weight": section((b"te", b"trailers;q=0.5")),
    # RFC 9114 4.4, RFC 8441 4
    "CONNECT without :authority": [(b":method", b"CONNECT")],
    "CONNECT with :path": section(without=[b":scheme"], method=b"CONNECT"),
    "CONNECT with :scheme": section(without=[b":path"], method=b"CONNECT"),
    ":protocol without CONNECT": section(protocol=b"websocket"),
    "empty :protocol": section(method=b"CONNECT", protocol=b""),
    ":protocol that is no token": section(method=b"CONNECT", protocol=b"web socket"),
    "extended CONNECT without :path": section(
        without=[b":path"], method=b"CONNECT", protocol=b"websocket"
    ),
    "extended CONNECT without :scheme": section(
        without=[b":scheme"], method=b"CONNECT", protocol=b"websocket"
    ),
    "extended CONNECT without :authority": section(
        without=[b":authority"], method=b"CONNECT", protocol=b"websocket"
    ),
}


def request_head(lines):
    """The head and Content-Length that a connection makes of its first request."""
    head, length, _ = HeadReader().read(lines)
    return head, length


@pytest.mark.parametrize("lines", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_refused(lines):
    with pytest.raises(MalformedMessage):
        request_head(lines)


# -- the requests of one connection ---------------------------------------------------------------

VALID = {
    "nothing but pseudo-header fields": section(),
    "accept": section((b"accept", b"*/*")),
    "a cookie": section((b"cookie", b"a=1"), (b"accept", b"*/*")),
    "crumbs": section((b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"*/*")),
    "crumbs apart": section((b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2")),
    "equal crumbs": section((b"cookie", b"a=1"), (b"cookie", b"a=1")),
    "a content-length": section((b"content-length", b"3"), method=b"POST"),
    "Host": section((b"host", b"example.org")),
    "Host alone": section((b"host", b"example.com"), without=[b":authority"]),
    "another authority": section(authority=b"example.com"),
    "te": section((b"te", b"trailers")),
    "early-data": section((b"early-data", b"1"), (b"early-data", b"1")),
    "expect": section((b"expect", b"100-continue"), (b"content-length", b"3")),
    "CONNECT": connect(authority=b"example.org:443"),
    "extended CONNECT": section(method=b"CONNECT", protocol=b"websocket"),
    "another order": [*reversed(section()), (b"accept", b"*/*")],
}


def outcome(reader, lines):
    """What a reader makes of a section."""
    try:
        head, length, expectations = reader.read(list(lines))
    except MalformedMessage as error:
        return str(error)
    control = (head.method, head.scheme, head.authority, head.target, head.protocol)
    return control, head.fields, length, list(expectations)


@given(st.lists(st.sampled_from([*VALID.values(), *MALFORMED.values()]), max_size=12))
def test_a_request_means_the_same_whatever_came_before_it_on_its_connection(sections):
    reader = HeadReader()
    for lines in sections:
        assert outcome(reader, lines) == outcome(HeadReader(), lines)


LINES = [*dict.fromkeys(line for lines in [*VALID.values(), *MALFORMED.values()] for line in lines)]


@given(st.lists(st.lists(st.sampled_from(LINES), max_size=10), max_size=8))
def test_lines_mean_the_same_in_any_mixture_with_those_that_came_before(sections):
    reader = HeadReader()
    for extra in sections:
        for lines in (section(*extra), extra):
            assert outcome(reader, lines) == outcome(HeadReader(), lines)


def test_a_request_means_the_same_after_more_lines_than_are_remembered():
    reader = HeadReader()
    for number in range(500):
        lines = section((b"x-number", b"%d" % number), (b"x-long", b"~" * (number * 8)))
        assert outcome(reader, lines) == outcome(HeadReader(), lines)
        for each in (*VALID.values(), *MALFORMED.values()):
            if number % 50 == 0:
                assert outcome(reader, each) == outcome(HeadReader(), each)


def test_heads_share_no_list_of_fields():
    reader = HeadReader()
    first, second = (reader.read(section((b"accept", b"*/*")))[0] for _ in range(2))
    first.fields.clear()
    assert second.fields == [HOST, (b"accept", b"*/*")]


# -- what valid requests mean ---------------------------------------------------------------------


def test_a_valid_request_is_taken_as_it_came():
    head, length = request_head(section((b"accept", b"*/*"), (b"x-empty", b"")))
    assert (head.method, head.scheme, head.authority) == (b"GET", b"https", b"example.org")
    assert (head.target, head.http_version, head.protocol) == (b"/", "3", None)
    assert head.fields == [HOST, (b"accept", b"*/*"), (b"x-empty", b"")]
    assert length is None


@pytest.mark.parametrize(
    "path", [b"/", b"/a%20b?c=d&e", b"//a", b'/"quoted"?{}|\\^`', b"/" + b"a" * 8000]
)
def test_a_path_and_query_are_kept_as_they_came(path):
    assert request_head(section(path=path))[0].target == path


def test_the_asterisk_is_the_target_of_options():
    assert request_head(section(method=b"OPTIONS", path=b"*"))[0].target == b"*"


@pytest.mark.parametrize("scheme", [b"http", b"HTTP"])
def test_http_is_a_scheme_too(scheme):
    assert request_head(section(scheme=scheme))[0].scheme == b"http"


@pytest.mark.parametrize("authority", [b"example.org:8443", b"[2001:db8::1]:443", b"a_b.test"])
def test_an_authority_may_name_port_and_address(authority):
    assert request_head(section(authority=authority))[0].authority == authority


def test_host_stands_in_for_a_missing_authority():
    head, _ = request_head(section((b"host", b"example.com"), without=[b":authority"]))
    assert head.authority == b"example.com"
    assert head.fields == [(b"host", b"example.com")]


def test_host_may_repeat_the_authority():
    head, _ = request_head(section((b"host", b"example.org")))
    assert head.authority == b"example.org"
    assert head.fields == [HOST]


def test_host_that_equals_the_authority_stays_where_it_is():
    lines = [(b"accept", b"*/*"), HOST]
    assert request_head(section(*lines))[0].fields == lines


def test_an_authority_becomes_the_first_field_host():
    head, _ = request_head(section((b"accept", b"*/*"), authority=b"example.com:8443"))
    assert head.fields == [(b"host", b"example.com:8443"), (b"accept", b"*/*")]


@pytest.mark.parametrize("value", [b"trailers", b"Trailers"])
def test_te_may_be_trailers(value):
    assert request_head(section((b"te", value)))[0].fields == [HOST, (b"te", value)]


@pytest.mark.parametrize(
    ("value", "length"), [(b"0", 0), (b"42", 42), (b"9223372036854775807", 2**63 - 1)]
)
def test_a_content_length_is_reported(value, length):
    assert request_head(section((b"content-length", value)))[1] == length


def test_cookie_crumbs_are_joined_into_the_last_field():
    accept = (b"accept", b"*/*")
    crumbs = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    for lines in ([*crumbs, accept], [crumbs[0], accept, crumbs[1]], [accept, *crumbs]):
        assert request_head(section(*lines))[0].fields == [HOST, accept, (b"cookie", b"a=1; b=2")]
    assert request_head(section(crumbs[0], accept))[0].fields == [HOST, accept, crumbs[0]]


def test_connect_targets_its_authority():
    head, _ = request_head(connect(authority=b"example.org:443"))
    assert (head.method, head.target, head.authority) == (
        b"CONNECT",
        b"example.org:443",
        b"example.org:443",
    )
    assert head.protocol is None


def test_extended_connect_names_its_protocol():
    head, _ = request_head(section(method=b"CONNECT", protocol=b"websocket", path=b"/chat"))
    assert (head.protocol, head.target, head.scheme) == (b"websocket", b"/chat", b"https")


# -- trailers -----------------------------------------------------------------------------------


def test_trailers_are_taken_as_they_came():
    assert trailers([(b"x-checksum", b"42"), (b"x-more", b"")]) == [
        (b"x-checksum", b"42"),
        (b"x-more", b""),
    ]


def test_framing_and_routing_fields_in_trailers_are_dropped():
    lines = [(b"content-length", b"3"), (b"host", b"a"), (b"te", b"gzip"), (b"x", b"y")]
    lines += [(b"trailer", b"x"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]
    assert trailers(lines) == [(b"x", b"y")]


@pytest.mark.parametrize(
    "line",
    [
        (b":path", b"/"),
        (b":status", b"200"),
        (b"X-Upper", b"x"),
        (b"x", b"a\nb"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
    ],
)
def test_malformed_trailers_are_refused(line):
    with pytest.raises(MalformedMessage):
        trailers([(b"x", b"y"), line])


# -- responses ----------------------------------------------------------------------------------


def test_fields_of_one_http1_connection_are_left_out_of_a_response():
    lines = [(b":status", b"200"), (b"connection", b"close"), (b"x", b"y"), (b"upgrade", b"h2c")]
    assert sendable(lines) == [(b":status", b"200"), (b"x", b"y")]


def test_a_response_without_such_fields_is_not_copied():
    lines = [(b":status", b"200"), (b"x", b"y")]
    assert sendable(lines) is lines


# -- sizes --------------------------------------------------------------------------------------


def test_a_section_may_be_as_large_as_its_limit():
    check_section_size([(b"ab", b"c" * 66)], max_bytes=100, max_fields=1)


def test_a_section_over_its_bytes_is_refused():
    with pytest.raises(FieldsTooLarge, match="101 bytes, 100 are allowed"):
        check_section_size([(b"ab", b"c" * 67)], max_bytes=100, max_fields=1)


def test_each_line_costs_32_bytes_more_than_its_text():
    lines = [(b"a", b"")] * 4
    check_section_size(lines, max_bytes=132, max_fields=4)
    with pytest.raises(FieldsTooLarge):
        check_section_size(lines, max_bytes=131, max_fields=4)


def test_a_section_over_its_lines_is_refused():
    with pytest.raises(FieldsTooLarge, match="3 field lines, 2 are allowed"):
        check_section_size([(b"a", b"")] * 3, max_bytes=1000, max_fields=2)


def test_cookies_count_as_one_line():
    cookies = [(b"cookie", b"a=b")] * 180
    check_section_size([*cookies, (b"a", b"")], max_bytes=100_000, max_fields=2)
    with pytest.raises(FieldsTooLarge, match="3 field lines, 2 are allowed"):
        check_section_size([*cookies, (b"a", b""), (b"b", b"")], max_bytes=100_000, max_fields=2)


def test_each_cookie_costs_its_own_32_bytes():
    with pytest.raises(FieldsTooLarge, match="bytes"):
        check_section_size([(b"cookie", b"a=b")] * 3, max_bytes=122, max_fields=1)


def test_an_oversize_section_is_answered_with_431():
    assert FieldsTooLarge.status == 431
