"""The fields that the server adds to every response: date, server, alt-svc, and the operator's."""

import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from operator import itemgetter

from tercel.shared.errors import ConfigurationError
from tercel.shared.messages import Field, Fields, is_field_value, is_token

_name_of = itemgetter(0)

_DATE, _SERVER, _ALT_SVC = b"date", b"server", b"alt-svc"

# RFC 9110 7.6.1, 8.6: they are about one connection, or about the content of one response.
_NOT_FOR_EVERY_RESPONSE = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class ResponseFields:
    """Adds fields that an application left out. The date is rendered once a second.

    `added` are further fields. A field in `added` is not added a second time: a `server` there
    replaces `server`.
    """

    __slots__ = (
        "_added",
        "_added_advertising",
        "_alt_svc",
        "_clock",
        "_date",
        "_dated",
        "_lines",
        "_lines_advertising",
        "_second",
        "_unchanging",
        "names",
    )

    def __init__(
        self,
        *,
        server: bytes | None = b"tercel",
        alt_svc: bytes | None = None,
        date: bool = True,
        added: Sequence[Field] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        given = {name for name, _ in added}
        self._unchanging: Fields = list(added)
        if server is not None and _SERVER not in given:
            self._unchanging.insert(0, (_SERVER, server))
        self._alt_svc: Fields = []
        if alt_svc is not None and _ALT_SVC not in given:
            self._alt_svc.append((_ALT_SVC, alt_svc))
        self._dated = date and _DATE not in given
        self.names = _names(tuple(added))
        """The names of all fields that are added unless the application sends them."""
        self._second = -1
        self._date: Field = (_DATE, b"")
        self._added: Fields = []
        self._added_advertising: Fields = []
        self._lines = self._lines_advertising = b""

    def date(self) -> Field:
        """The Date field (RFC 9110 6.6.1) of the current second."""
        now = int(self._clock())
        if now != self._second:
            self._render(now)
        return self._date

    def lines(self, *, advertise: bool = False) -> bytes:
        """The fields that `complete` adds to a section with none of them, as lines of HTTP/1.1."""
        now = int(self._clock())
        if now != self._second:
            self._render(now)
        return self._lines_advertising if advertise else self._lines

    def complete(self, fields: Fields, *, advertise: bool = False) -> None:
        """Add to `fields` each field that it lacks.

        With `advertise`, alt-svc is added too (RFC 7838 3): on a secure HTTP/1.1 connection it
        tells the client that the same origin is available over HTTP/3.
        """
        now = int(self._clock())
        if now != self._second:
            self._render(now)
        added = self._added_advertising if advertise else self._added
        if self.names.isdisjoint(map(_name_of, fields)):
            fields += added
        else:
            given = dict(fields)
            fields += [line for line in added if line[0] not in given]

    def _render(self, now: int) -> None:
        self._second = now
        self._date = (_DATE, formatdate(now, usegmt=True).encode())
        self._added = [self._date, *self._unchanging] if self._dated else self._unchanging
        self._added_advertising = [*self._added, *self._alt_svc]
        self._lines = b"".join(b"%b: %b\r\n" % line for line in self._added)
        self._lines_advertising = b"".join(b"%b: %b\r\n" % line for line in self._added_advertising)


@lru_cache(maxsize=64)
def _names(added: tuple[Field, ...]) -> frozenset[bytes]:
    # One object for equal fields, so that heads which are kept can be told by it.
    return frozenset((_DATE, _SERVER, _ALT_SVC, *(name for name, _ in added)))


def parse_added_field(text: str) -> Field:
    """Parse `text`, NAME:VALUE, as a field to be added to every response.

    Raises ConfigurationError for an invalid field.
    """
    name, colon, value = text.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon:
        raise ConfigurationError(f"--header {text!r} has no colon: write NAME:VALUE")
    if not (name.isascii() and is_token(name.encode())):
        raise ConfigurationError(
            f"--header {text!r}: {name!r} is no field name: write letters, digits and hyphens"
        )
    if not (value.isascii() and is_field_value(value.encode())):
        raise ConfigurationError(
            f"--header {name}: the value is plain ASCII text without line breaks: leave other "
            "characters out"
        )
    if name.encode() in _NOT_FOR_EVERY_RESPONSE:
        raise ConfigurationError(
            f"--header {name}: that field is the server's to write, for each response anew: "
            "leave it out"
        )
    return name.encode(), value.encode()
