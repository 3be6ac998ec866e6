"""Field sections of HTTP/3 messages (RFC 9114 4.2, 4.3). Knows nothing about sockets or streams."""

import re

from tercel.shared.control_data import check_authority, check_path, check_tunnel, parse_scheme
from tercel.shared.errors import FieldsTooLarge, MalformedMessage
from tercel.shared.messages import (
    Fields,
    RequestHead,
    field_value,
    is_field_value,
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
_DECISIVE = frozenset((b"content-length", b"cookie", b"early-data", b"host", b"te"))
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_UPPER_CASE = re.compile(rb"[A-Z]")

# Names that were found valid; the same few come again and again.
_known_names: set[bytes] = set()
_MOST_KNOWN_NAMES, _MOST_KNOWN_NAME_BYTES = 512, 64

# RFC 9114 4.2.2: what each field costs besides its name and value.
FIELD_OVERHEAD_BYTES = 32


def check_section_size(fields: Fields, *, max_bytes: int, max_fields: int) -> None:
    """Raise FieldsTooLarge when a decoded section is over its limits (RFC 9114 4.2.2).

    Cookies count as the one line that they are joined to (RFC 9114 4.2.1).
    """
    if len(fields) > max_fields and (lines := line_count(fields)) > max_fields:
        raise FieldsTooLarge(f"{lines} field lines, {max_fields} are allowed")
    size = FIELD_OVERHEAD_BYTES * len(fields)
    for name, value in fields:
        size += len(name) + len(value)
    if size > max_bytes:
        raise FieldsTooLarge(f"field section of {size} bytes, {max_bytes} are allowed")


def request_head(section: Fields) -> tuple[RequestHead, int | None]:
    """The request head of a decoded field section, and its Content-Length.

    Raises MalformedMessage when RFC 9114 4.1.2 says that the message is malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    decisive: dict[bytes, list[bytes]] = {}
    for field in section:
        name, value = field
        if name[:1] == b":":
            _take_pseudo(pseudo, name, value, late=bool(fields))
            continue
        _check_field(name, value)
        if name in _DECISIVE:
            decisive.setdefault(name, []).append(value)
        fields.append(field)
    host = length = None
    if decisive:
        host = _sole(decisive, b"host")  # RFC 9112 3.2, for every version
        length = _content_length(_sole(decisive, b"content-length"))
        if b"te" in decisive and not is_trailers_only(decisive[b"te"]):
            raise MalformedMessage("te may only be trailers")  # RFC 9114 4.2
        fields = with_single_lines(fields, decisive)
    return _assemble(pseudo, fields, host), length


def trailers(section: Fields) -> Fields:
    """Check a decoded trailer section (RFC 9114 4.1): no pseudo-header fields.

    Fields that a recipient must ignore in trailers are dropped (RFC 9110 6.5.1).
    """
    for name, value in section:
        if name[:1] == b":":
            raise MalformedMessage("pseudo-header field in a trailer section")
        _check_field(name, value)
    return [line for line in section if line[0] not in NOT_IN_TRAILERS]


def request_line(section: Fields) -> bytes | None:
    """Method and target of a section that need not be valid; None if they are missing."""
    method, path = field_value(section, b":method"), field_value(section, b":path")
    return None if method is None or path is None else b"%b %b HTTP/3" % (method, path)


def sendable(section: Fields) -> Fields:
    """`section` without the fields that are specific to an HTTP/1.1 connection.

    An application may not know which version it answers; RFC 9114 4.2 forbids these fields here.
    """
    if any(line[0] in _CONNECTION_SPECIFIC for line in section):
        return [line for line in section if line[0] not in _CONNECTION_SPECIFIC]
    return section


def _take_pseudo(pseudo: dict[bytes, bytes], name: bytes, value: bytes, *, late: bool) -> None:
    if name not in _REQUEST_PSEUDO:
        raise MalformedMessage(f"unknown pseudo-header field {name!r}")
    if late:
        raise MalformedMessage(f"pseudo-header field {name!r} after a regular field")
    if name in pseudo:
        raise MalformedMessage(f"pseudo-header field {name!r} twice")
    pseudo[name] = value


def _check_field(name: bytes, value: bytes) -> None:
    if name not in _known_names:
        _check_name(name)
    # RFC 9114 10.3, RFC 9110 5.5: no control characters, no white space at the ends.
    if not is_field_value(value) or value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
        raise MalformedMessage(f"invalid value of field {name!r}")
    if name in _CONNECTION_SPECIFIC:
        raise MalformedMessage(f"connection-specific field {name!r}")


def _check_name(name: bytes) -> None:
    # RFC 9114 4.2: lower case only.
    if not is_token(name) or _UPPER_CASE.search(name) is not None:
        raise MalformedMessage(f"invalid field name {name!r}")
    if len(name) <= _MOST_KNOWN_NAME_BYTES:
        if len(_known_names) >= _MOST_KNOWN_NAMES:
            _known_names.clear()
        _known_names.add(name)


def _sole(decisive: dict[bytes, list[bytes]], name: bytes) -> bytes | None:
    """The value of a field that may occur once."""
    values = decisive.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise MalformedMessage(f"{len(values)} lines of {name!r}")
    return values[0]


def _content_length(value: bytes | None) -> int | None:
    # RFC 9110 8.6: several, even if equal, may be refused.
    if value is None:
        return None
    length = parse_content_length(value)
    if length is None:
        raise MalformedMessage(f"content-length {value!r}")
    return length


def _assemble(pseudo: dict[bytes, bytes], fields: Fields, host: bytes | None) -> RequestHead:
    method = pseudo.get(b":method")
    if not method or not is_token(method):
        raise MalformedMessage(":method is missing or no token")
    protocol = pseudo.get(b":protocol")
    scheme = pseudo.get(b":scheme")
    path = pseudo.get(b":path")
    authority = _authority(pseudo, host)
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


def _authority(pseudo: dict[bytes, bytes], host: bytes | None) -> bytes:
    # RFC 9114 4.3.1: :authority or Host, not empty, and the same where both are given.
    authority = pseudo.get(b":authority", host)
    if authority is None:
        raise MalformedMessage("neither :authority nor Host")
    if host is not None and host != authority:
        raise MalformedMessage(":authority and Host differ")
    check_authority(authority)
    return authority
