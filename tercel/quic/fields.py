"""Field sections of HTTP/3 messages (RFC 9114 4.2, 4.3). Knows nothing about sockets or streams."""

import re
from collections.abc import Sequence
from itertools import chain, compress
from operator import itemgetter

from tercel.shared.control_data import (
    KNOWN_METHODS,
    check_authority,
    check_path,
    check_tunnel,
    parse_scheme,
)
from tercel.shared.errors import FieldsTooLarge, MalformedMessage
from tercel.shared.messages import (
    Field,
    Fields,
    RequestHead,
    field_value,
    is_token,
    parse_content_length,
)
from tercel.shared.request_fields import (
    NOT_IN_TRAILERS,
    is_trailers_only,
    line_count,
    with_single_lines,
)

# RFC 9114 4.2: these mean something for one HTTP/1.1 connection only.
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# The fields that decide what a message is, and those that applications get in one line.
_DECISIVE = frozenset((b"content-length", b"cookie", b"early-data", b"expect", b"host", b"te"))
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
# What nearly every request has, in some order.
_COMMON_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))

# RFC 9114 4.2, 10.3, RFC 9110 5.5: a name is a token without upper case; a value has no control
# characters but HTAB, and no white space at its ends.
_LINE = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9a-z]++\n"
    rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?"
)

# Bytes of field lines that a connection remembers, with what a line takes beside its text. Some
# forty lines of a browser fit.
_MOST_KNOWN_BYTES, _MOST_KNOWN_LINE_BYTES, _LINE_OVERHEAD_BYTES = 8192, 1024, 128

_name_of = itemgetter(0)

# RFC 9114 4.2.2: what each field costs besides its name and value.
FIELD_OVERHEAD_BYTES = 32


Request = tuple[RequestHead, int | None, Sequence[bytes]]
"""A head, the number in its Content-Length field, and the lines of its Expect field."""


def check_section_size(fields: Fields, *, max_bytes: int, max_fields: int) -> None:
    """Raise FieldsTooLarge when a decoded section is over its limits (RFC 9114 4.2.2).

    Cookies count as the one line that they are joined to (RFC 9114 4.2.1).
    """
    if len(fields) > max_fields and (lines := line_count(fields)) > max_fields:
        raise FieldsTooLarge(f"{lines} field lines, {max_fields} are allowed")
    size = FIELD_OVERHEAD_BYTES * len(fields) + sum(map(len, chain.from_iterable(fields)))
    if size > max_bytes:
        raise FieldsTooLarge(f"field section of {size} bytes, {max_bytes} are allowed")


class HeadReader:
    """Reads the header sections of the requests on one connection.

    A client repeats most of its field lines in every request: user agent, accept, cookies. Lines
    that were found valid are remembered, and are not checked again. Lines that are only sent once,
    as a referer may be, push the others out now and then, which then are checked once more.
    """

    __slots__ = ("_authority", "_host", "_known", "_room")

    def __init__(self) -> None:
        # Values tell whether the line is a decisive one.
        self._known: dict[Field, bool] = {}
        self._room = _MOST_KNOWN_BYTES
        self._authority: bytes | None = None
        """The last valid authority."""
        self._host: Field = (b"host", b"")
        """Its line."""

    def read(self, section: Fields) -> Request:
        """The request in a decoded header section: its head, Content-Length, and Expect.

        Raises MalformedMessage when RFC 9114 4.1.2 says that the message is malformed.
        """
        pseudo, fields = dict(section[:4]), section[4:]
        if pseudo.keys() != _COMMON_PSEUDO or (fields and fields[0][0] == b":protocol"):
            pseudo, fields = _split(section)
        # Loops in C: half the time of one here for a request of fourteen lines.
        decides = list(map(self._known.get, fields))
        if None in decides:
            for index, known in enumerate(decides):
                if known is None:
                    decides[index] = self._check(fields[index])
        host = length = None
        expects: Sequence[bytes] = ()
        if True in decides:
            decisive: dict[bytes, list[bytes]] = {}
            for name, value in compress(fields, decides):
                decisive.setdefault(name, []).append(value)
            if b"host" in decisive:
                host = _sole(b"host", decisive)  # RFC 9112 3.2, for every version
            if b"content-length" in decisive:
                length = _content_length(_sole(b"content-length", decisive))
            if b"te" in decisive and not is_trailers_only(decisive[b"te"]):
                raise MalformedMessage("te may only be trailers")  # RFC 9114 4.2
            fields = with_single_lines(fields, decisive)
            expects = decisive.get(b"expect", ())
        authority = self._read_authority(pseudo, host)
        if host is None:
            # RFC 9114 4.3.1: Host and :authority are the same, and an application gets it as host.
            fields.insert(0, self._host)
        return _head(pseudo, authority, fields), length, expects

    def _read_authority(self, pseudo: dict[bytes, bytes], host: bytes | None) -> bytes:
        # RFC 9114 4.3.1: :authority or Host, not empty, and the same where both are given.
        authority = pseudo.get(b":authority", host)
        if authority is None:
            raise MalformedMessage("neither :authority nor Host")
        if host is not None and host != authority:
            raise MalformedMessage(":authority and Host differ")
        if authority != self._authority:
            check_authority(authority)
            self._authority, self._host = authority, (b"host", authority)
        return authority

    def _check(self, line: Field) -> bool:
        """Check a line, and remember it; returns whether it is a decisive one."""
        check_line(line)
        name, value = line
        decides = name in _DECISIVE
        size = len(name) + len(value) + _LINE_OVERHEAD_BYTES
        if size <= _MOST_KNOWN_LINE_BYTES:
            self._room -= size
            if self._room < 0:
                self._known.clear()
                self._room = _MOST_KNOWN_BYTES - size
            self._known[line] = decides
        return decides


def check_line(line: Field) -> None:
    """Raise MalformedMessage unless `line` may be in a section, and is no pseudo-header field."""
    name = line[0]
    if _LINE.fullmatch(b"\n".join(line)) is None:
        if name[:1] == b":":
            raise MalformedMessage(f"pseudo-header field {name!r} twice, unknown, or too late")
        what = "value of field" if is_token(name) and name == name.lower() else "field name"
        raise MalformedMessage(f"invalid {what} {name!r}")
    if name in _CONNECTION_SPECIFIC:
        raise MalformedMessage(f"connection-specific field {name!r}")


def trailers(section: Fields) -> Fields:
    """Check a decoded trailer section (RFC 9114 4.1): no pseudo-header fields.

    Fields that a recipient must ignore in trailers are dropped (RFC 9110 6.5.1).
    """
    for line in section:
        check_line(line)
    return [line for line in section if line[0] not in NOT_IN_TRAILERS]


def request_line(section: Fields) -> bytes | None:
    """Method and target of a section that need not be valid; None if they are missing."""
    method, path = field_value(section, b":method"), field_value(section, b":path")
    return None if method is None or path is None else b"%b %b HTTP/3" % (method, path)


def sendable(section: Fields) -> Fields:
    """`section` without the fields that are specific to an HTTP/1.1 connection.

    An application may not know which version it answers; RFC 9114 4.2 forbids these fields here.
    """
    if _CONNECTION_SPECIFIC.isdisjoint(map(_name_of, section)):
        return section
    return [line for line in section if line[0] not in _CONNECTION_SPECIFIC]


def _split(section: Fields) -> tuple[dict[bytes, bytes], Fields]:
    """The pseudo-header fields at the beginning of a section, and the lines after them."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in section:
        if name not in _REQUEST_PSEUDO or name in pseudo:
            break
        pseudo[name] = value
    return pseudo, section[len(pseudo) :]


def _sole(name: bytes, decisive: dict[bytes, list[bytes]]) -> bytes:
    """The value of a field that may occur once."""
    values = decisive[name]
    if len(values) > 1:
        raise MalformedMessage(f"{len(values)} lines of {name!r}")
    return values[0]


def _content_length(value: bytes) -> int:
    length = parse_content_length(value)
    if length is None:
        raise MalformedMessage(f"content-length {value!r}")
    return length


def _head(pseudo: dict[bytes, bytes], authority: bytes, fields: Fields) -> RequestHead:
    method = pseudo.get(b":method")
    if method not in KNOWN_METHODS and not (method and is_token(method)):
        raise MalformedMessage(":method is missing or no token")
    protocol = pseudo.get(b":protocol")
    scheme = pseudo.get(b":scheme")
    path = pseudo.get(b":path")
    # RFC 8441 4: only with CONNECT, and the name of a protocol.
    if protocol is not None and (method != b"CONNECT" or not is_token(protocol)):
        raise MalformedMessage(":protocol without CONNECT, or no token")
    if method == b"CONNECT" and protocol is None:
        # RFC 9114 4.4: only the authority, as the target of the tunnel.
        if scheme is not None or path is not None:
            raise MalformedMessage("CONNECT with :scheme or :path")
        check_tunnel(authority)
        scheme, path = b"https", authority
    elif scheme is None or path is None:
        raise MalformedMessage(":scheme or :path is missing")
    else:
        if scheme != b"https":
            scheme = parse_scheme(scheme)
        check_path(path, method)
    return RequestHead(
        method=method,
        scheme=scheme,
        authority=authority,
        target=path,
        fields=fields,
        http_version="3",
        protocol=protocol,
    )
