"""The grammar of request lines and field lines (RFC 9112 2, 3, 5), stricter than llhttp's: each
pattern is possessive, so none can backtrack. `shared.control_data` interprets request lines.
"""

import re

from tercel.shared.control_data import TARGET_CHARACTER
from tercel.shared.errors import (
    FieldsTooLarge,
    MalformedMessage,
    RemoteProtocolError,
    UnsupportedVersion,
)
from tercel.shared.messages import Field, Fields
from tercel.shared.settings import Settings

# RFC 9114 4.2.2: what each field counts besides its name and value; the limits are the same for
# every HTTP version.
FIELD_OVERHEAD_BYTES = 32

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# RFC 9110 5.5: no control characters but HTAB; so neither NUL nor a CR or LF of its own.
_VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]*+"
# RFC 9112 3: single spaces; 2.3: one digit for each part of the version.
# Lines are matched without their CRLF.
REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") (" + TARGET_CHARACTER + rb"++) HTTP/(1\.[0-9])")
# RFC 9112 5.1: no white space before the colon; 5.2: no line folding, as no line begins with it.
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):(" + _VALUE + rb")")

# Bytes in an incomplete section that no continuation can make valid: waiting for the rest would
# turn a fault into a time-out.
UNFINISHED_FAULT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]|(?<!\r)\n")
# A request line of any version, or the beginning of one.
_BEGUN_LINE = re.compile(
    rb"(?:\r\n)*+(" + _TOKEN + rb" [\x21\x22\x24-\x7e]++(?: [HTP/0-9.]{0,8}+)?+)(?:\r\n|\Z)"
)
_LATER_VERSION = re.compile(rb"[^ \r\n]++ [^ \r\n]++ HTTP/[23](?:\.[0-9])?+\r\n")

_LIST_OF_CODINGS = re.compile(
    _TOKEN + rb"(?:[ \t]*+;[^,]++)?+(?:[ \t]*+,[ \t]*+" + _TOKEN + rb"(?:[ \t]*+;[^,]++)?+)*+"
)


def head_fault(head: bytes | bytearray) -> RemoteProtocolError:
    """The error for the malformed `head`, of which at least one line is complete."""
    line = REQUEST_LINE.match(head)
    if line is not None and head.startswith(b"\r\n", line.end()):
        return MalformedMessage("malformed field line")
    if _LATER_VERSION.match(head):
        return UnsupportedVersion("this is HTTP/1.1; no later version without TLS and ALPN")
    return MalformedMessage("malformed request line")


def begun_request_line(data: bytes | bytearray) -> bytes | None:
    """The received part of the request line at the start of `data`; None if it is not one."""
    match = _BEGUN_LINE.match(data)
    return None if match is None else bytes(match[1])


def field_section(lines: bytes, settings: Settings) -> Fields:
    """The fields of a complete section, in which each line has its CRLF.

    Raises MalformedMessage and FieldsTooLarge.
    """
    if lines.count(b"\n") > settings.max_fields:
        raise FieldsTooLarge(f"more than {settings.max_fields} field lines")
    fields = [field(line) for line in lines.split(b"\r\n")[:-1]]
    check_section_size(fields, settings)
    return fields


def field(line: bytes) -> Field:
    """The field of a field line without its CRLF. Raises MalformedMessage."""
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise MalformedMessage("malformed field line")
    name, value = match.groups()
    return name.lower(), value.strip(b" \t")


def check_section_size(fields: Fields, settings: Settings) -> None:
    """Raise FieldsTooLarge when `fields` are over `max_field_section_bytes`."""
    size = sum(FIELD_OVERHEAD_BYTES + len(name) + len(value) for name, value in fields)
    if size > settings.max_field_section_bytes:
        raise FieldsTooLarge(
            f"field section of {size} bytes, {settings.max_field_section_bytes} are allowed"
        )


def is_list_of_codings(value: bytes) -> bool:
    """Whether a Transfer-Encoding is well formed (RFC 9112 6.1), known or not."""
    return _LIST_OF_CODINGS.fullmatch(value) is not None
