"""Request fields that may be sent in several lines, with one meaning for every HTTP version.

The lines of a list form one list (RFC 9110 5.3). Knows nothing about how lines are sent.
"""

import re
from collections.abc import Mapping, Sequence

from tercel.shared.errors import ExpectationFailed
from tercel.shared.messages import Fields, field_values

# RFC 9110 6.5.1: fields for framing, routing and authentication mean nothing in a trailer section.
NOT_IN_TRAILERS = frozenset(
    (
        b"connection",
        b"content-length",
        b"cookie",
        b"host",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

# RFC 9110 5.6.1, 5.6.4: a comma inside a quoted string separates nothing.
_ELEMENT = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*+"?+)++')


def list_elements(values: Sequence[bytes]) -> list[bytes]:
    """The elements of a list sent in several lines, in lower case, without empty ones.

    Values have no surrounding white space.
    """
    if len(values) == 1 and b"," not in values[0]:  # 0.3 us instead of 0.9
        return [values[0].lower()] if values[0] else []
    elements = []
    for value in values:
        parts = _ELEMENT.findall(value) if b'"' in value else value.split(b",")
        elements += [part.strip(b" \t").lower() for part in parts]
    return [element for element in elements if element]


def check_expectations(values: Sequence[bytes]) -> None:
    """Raise ExpectationFailed unless the lines of Expect contain nothing but 100-continue."""
    if set(list_elements(values)) != {b"100-continue"}:
        raise ExpectationFailed("only 100-continue is understood")


def is_trailers_only(values: Sequence[bytes]) -> bool:
    """Whether the lines of TE contain `trailers` and nothing else."""
    return set(list_elements(values)) == {b"trailers"}


def takes_trailers(fields: Fields) -> bool:
    """Whether a client accepts trailers: `trailers` is an element of its TE.

    It has no weight (RFC 9110 10.1.4): with one it is the name of a transfer coding.
    """
    return b"trailers" in list_elements(field_values(fields, b"te"))


def with_single_lines(fields: Fields, values: Mapping[bytes, Sequence[bytes]]) -> Fields:
    """`fields` with Cookie and Early-Data in one line each, as applications expect them.

    `values` are those of all lines of these fields, by their names.
    """
    if len(values.get(b"cookie", ())) > 1:
        # RFC 9114 4.2.1 has several lines; elsewhere there should be one (RFC 6265 5.4).
        fields = _replaced(fields, b"cookie", b"; ".join(values[b"cookie"]))
    return with_early_data(fields) if b"early-data" in values else fields


def with_early_data(fields: Fields) -> Fields:
    """`fields` with Early-Data: 1.

    Several lines or another value mean the same (RFC 8470 5.1).
    """
    return _replaced(fields, b"early-data", b"1")


def line_count(fields: Fields) -> int:
    """The number of lines in `fields` once its cookies are in one."""
    return len(fields) - max(0, len(field_values(fields, b"cookie")) - 1)


def _replaced(fields: Fields, name: bytes, value: bytes) -> Fields:
    """`fields` with one line called `name`, the last."""
    return [*(line for line in fields if line[0] != name), (name, value)]
