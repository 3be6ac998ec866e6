"""Heads and field sections, the same for every HTTP version. No I/O, no protocol state."""

import re
from collections.abc import Iterable
from operator import itemgetter

from tercel.shared.errors import LocalProtocolError

Field = tuple[bytes, bytes]
Fields = list[Field]
"""Field lines in order: lower-case name, value without surrounding white space (RFC 9110 5)."""

# RFC 9110 5.6.2: the characters of a token.
TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# RFC 9110 5.5: control characters except HTAB make a value invalid.
_control_character = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_value = itemgetter(1)

# Applications use few names; each is checked once, and kept with its form in lower case.
_NAMES: dict[bytes, bytes] = {}
_MAX_NAMES = 1024
_MAX_NAME_BYTES = 64

# RFC 9110 9.2.2 and 15: no content, whatever the application says.
BODILESS_STATUS = frozenset((204, 304))


class RequestHead:
    """The head of a request: control data and header fields (RFC 9110 6).

    `target` is the path and query as received (`/a%20b?c`), `*` for OPTIONS, or the authority for
    CONNECT; `authority` is the host of the request, from the target if that contains one.
    `protocol` is the `:protocol` of an extended CONNECT (RFC 9220), None elsewhere.
    """

    __slots__ = (
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


class ResponseHead:
    """The head of a final response: a status from 200 to 599 and its header fields."""

    __slots__ = ("fields", "length", "status")

    def __init__(self, status: int, fields: Fields, length: int | None = -1) -> None:
        self.status = status
        self.fields = fields
        self.length = length
        """The value of Content-Length, None without one; negative until it was looked up."""

    def promised_length(self) -> int | None:
        """The number in the Content-Length field, None without one.

        Raises LocalProtocolError for several such fields, and for one that is not a number.
        """
        length = self.length
        if length is None or length >= 0:
            return length
        values = field_values(self.fields, b"content-length")
        if len(values) > 1:
            # RFC 9112 6.3: a client could only guess where the response ends.
            raise LocalProtocolError("more than one content-length")
        self.length = parse_content_length(values[0]) if values else None
        if values and self.length is None:
            self.length = -1
            raise LocalProtocolError(f"content-length {values[0]!r} is not a number")
        return self.length


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
    return _control_character(value) is None


def parse_content_length(value: bytes) -> int | None:
    """The number in a Content-Length field, or None when it is not 1*DIGIT below 2^63."""
    # RFC 9110 8.6: 1*DIGIT, so no sign, no underscore, no list. int() alone would take them.
    if len(value) > 19 or not value.isdigit():
        return None
    length = int(value)
    return length if length < 1 << 63 else None


def checked_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Normalise an application's field lines: names in lower case, values trimmed.

    Raises LocalProtocolError for a name that is no token and for a value with CR, LF, NUL or
    another control character, which would let content be read as fields (response splitting).
    """
    lines = fields if type(fields) is list else list(fields)
    try:
        # The values of nearly all sections are valid, so they are checked together: 0.5 us less for
        # seven fields than each by itself.
        result = [
            (_NAMES[name], value.strip(b" \t")) for name, value in lines if type(value) is bytes
        ]
        if len(result) == len(lines) and not _control_character(b"".join(map(_value, result))):
            return result
    except (KeyError, TypeError):
        pass  # a new name, or what is neither bytes nor valid
    return [_checked_field(name, value) for name, value in lines]


def response_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """The response head for an application's fields, which `checked_fields` normalises."""
    checked = checked_fields(fields)
    by_name = dict(checked)
    # Negative where `promised_length` has to find out what is wrong: several lengths, or no number.
    length: int | None = -1
    if len(by_name) == len(checked):
        value = by_name.get(b"content-length")
        if value is None:
            length = None
        elif len(value) < 19 and value.isdigit():
            length = int(value)
    return ResponseHead(int(status), checked, length)


def _checked_field(name: object, value: object) -> Field:
    name, value = _octets(name), _octets(value)
    lower = name.lower()
    if not is_token(lower):
        raise LocalProtocolError(f"invalid field name {name!r}")
    if not is_field_value(value):
        raise LocalProtocolError(f"control character in the value of field {lower!r}")
    if len(name) <= _MAX_NAME_BYTES:
        if len(_NAMES) >= _MAX_NAMES:
            # Names that never come again must not keep those out that do.
            _NAMES.clear()
        _NAMES[name] = lower
    return lower, value.strip(b" \t")


def _octets(value: object) -> bytes:
    # bytes() alone would make a number into that many zeros.
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise LocalProtocolError(f"names and values of fields are bytes, not {type(value).__name__}")
