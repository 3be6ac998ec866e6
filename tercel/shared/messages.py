"""Heads and field sections, the same for every HTTP version. No I/O, no protocol state."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tercel.shared.errors import LocalProtocolError

Field = tuple[bytes, bytes]
Fields = list[Field]
"""Field lines in order: lower-case name, value without surrounding white space (RFC 9110 5)."""

# RFC 9110 5.6.2: the characters of a token.
TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# RFC 9110 5.5: control characters except HTAB make a value invalid.
_NOT_IN_VALUE = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))

# Applications send the same few field lines again and again; looking them up here makes
# checked_fields take 0.5 us for four fields where it took 2.3. Long values are rarely the same.
_CHECKED: dict[Field, Field] = {}
_MAX_CHECKED = 1024
_MAX_CHECKED_BYTES = 128

# The same for whole heads: some 4 KiB each at most, with what is made of them.
_HEADS: dict[tuple[Any, ...], "ResponseHead"] = {}
_MAX_HEADS = 256
_MAX_HEAD_FIELDS = 16

# RFC 9110 9.2.2 and 15: no content, whatever the application says.
BODILESS_STATUS = frozenset((204, 304))


_new = object.__new__


class RequestHead:
    """The head of a request: control data and header fields (RFC 9110 6).

    `target` is the path and query as received (`/a%20b?c`), `*` for OPTIONS, or the authority for
    CONNECT; `authority` is the host of the request, from the target if that contains one.
    `protocol` is the `:protocol` of an extended CONNECT (RFC 9220), None elsewhere. Immutable once
    an application has it: a repeated request on the same connection may have the same object.
    """

    __slots__ = (
        "adapted",
        "authority",
        "fields",
        "http_version",
        "method",
        "protocol",
        "scheme",
        "target",
    )

    def __init__(
        self,
        *,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        target: bytes,
        fields: Fields,
        http_version: str,
        protocol: bytes | None = None,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.target = target
        self.fields = fields
        self.http_version = http_version
        self.protocol = protocol
        self.adapted: Any = None
        """Cache of the application's adapter, for repeated requests with this head."""

    def with_target(self, method: bytes, target: bytes) -> "RequestHead":
        """A copy with another method and target; its list of fields is a copy, too."""
        # 0.3 us; by way of __init__ with its keywords it is 0.8.
        head = _new(RequestHead)
        head.method = method
        head.scheme = self.scheme
        head.authority = self.authority
        head.target = target
        head.fields = self.fields.copy()
        head.http_version = self.http_version
        head.protocol = self.protocol
        head.adapted = None
        return head


class ResponseHead:
    """The head of a final response: a status from 200 to 599 and its header fields.

    Immutable once sent: one that `response_head` has made may be sent again.
    """

    __slots__ = ("fields", "framed", "length", "rendered", "repeated", "status")

    def __init__(self, status: int, fields: Fields) -> None:
        self.status = status
        self.fields = fields
        self.length: int | None = -1
        """The value of Content-Length; negative until it was looked up."""
        self.repeated = False
        """Whether to cache its encoded forms: the head was sent before."""
        self.rendered: Any = None
        """Its encoded form, cached by a writer."""
        self.framed: tuple[bytes, bytes] | None = None
        """Its HTTP/3 frame, including the fields that the server adds."""


def field_value(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first field line called `name` (lower case), or None."""
    for key, value in fields:
        if key == name:
            return value
    return None


def field_values(fields: Fields, name: bytes) -> list[bytes]:
    """The values of all field lines called `name` (lower case), in order."""
    return [value for key, value in fields if key == name]


def is_token(name: bytes) -> bool:
    """Whether `name` is a token (RFC 9110 5.6.2)."""
    return bool(name) and not name.translate(None, TOKEN_CHARACTERS)


def is_field_value(value: bytes) -> bool:
    """Whether `value` is a valid field value (RFC 9110 5.5): no control characters but HTAB."""
    return len(value) == len(value.translate(None, _NOT_IN_VALUE))


def parse_content_length(value: bytes) -> int | None:
    """The number in a Content-Length field, or None when it is not 1*DIGIT below 2^63."""
    # Before the cache, which keeps what it is asked for.
    return _parse_content_length(value) if len(value) <= 19 else None


@lru_cache(maxsize=256)  # 0.1 us instead of 0.2; the same few lengths come again and again
def _parse_content_length(value: bytes) -> int | None:
    # RFC 9110 8.6: 1*DIGIT, so no sign, no underscore, no list. int() alone would take them.
    if not value.isdigit():
        return None
    length = int(value)
    return length if length < 1 << 63 else None


def checked_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Normalise an application's field lines: names in lower case, values trimmed.

    Raises LocalProtocolError for a name that is no token and for a value with CR, LF, NUL or
    another control character, which would let content be read as fields (response splitting).
    """
    result = []
    for line in fields:
        try:
            known = _CHECKED.get(line)
        except TypeError:  # made of what has no hash
            known = None
        result.append(known or _checked_field(*line))
    return result


def response_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """The response head for an application's fields, which `checked_fields` normalises.

    Most applications have few heads and send them repeatedly: a cached head of two fields is found
    in 0.3 us, together with its encoded forms.
    """
    if type(fields) is not list and type(fields) is not tuple:
        return ResponseHead(int(status), checked_fields(fields))
    key = (status, *fields)
    try:
        known = _HEADS.get(key)
    except TypeError:  # made of what has no hash
        return ResponseHead(int(status), checked_fields(fields))
    if known is None:
        known = ResponseHead(int(status), checked_fields(fields))
        if _is_short(fields):
            if len(_HEADS) >= _MAX_HEADS:
                _HEADS.clear()
            _HEADS[key] = known
    else:
        known.repeated = True
    return known


def _is_short(fields: Fields | tuple[Field, ...]) -> bool:
    """Whether `fields` may be cached: they are few, and their bytes refer to nothing else."""
    if len(fields) > _MAX_HEAD_FIELDS:
        return False
    for name, value in fields:
        if type(name) is not bytes or type(value) is not bytes:
            return False
        if len(name) + len(value) > _MAX_CHECKED_BYTES:
            return False
    return True


def _checked_field(name: object, value: object) -> Field:
    name, value = _octets(name), _octets(value)
    lower = name.lower()
    if not is_token(lower):
        raise LocalProtocolError(f"invalid field name {name!r}")
    if not is_field_value(value):
        raise LocalProtocolError(f"control character in the value of field {lower!r}")
    line = lower, value.strip(b" \t")
    if len(name) + len(value) <= _MAX_CHECKED_BYTES:
        if len(_CHECKED) >= _MAX_CHECKED:
            # Values that never come again must not keep those out that do.
            _CHECKED.clear()
        _CHECKED[name, value] = line
    return line


def _octets(value: object) -> bytes:
    # bytes() alone would make a number into that many zeros.
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise LocalProtocolError(f"names and values of fields are bytes, not {type(value).__name__}")
