"""The fields that the server adds to every response: date, server, alt-svc."""

import time
from collections.abc import Callable
from email.utils import formatdate

from tercel.shared.messages import Field, Fields


class ResponseFields:
    """Adds what an application left out. The date is rendered once a second, not per response."""

    __slots__ = (
        "_alt_svc",
        "_clock",
        "_date",
        "_lines",
        "_lines_advertising",
        "_second",
        "_server",
    )

    def __init__(
        self,
        *,
        server: bytes | None = b"tercel",
        alt_svc: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._server: Field | None = None if server is None else (b"server", server)
        self._alt_svc: Field | None = None if alt_svc is None else (b"alt-svc", alt_svc)
        self._second = -1
        self._date: Field = (b"date", b"")
        self._lines = self._lines_advertising = b""

    def date(self) -> Field:
        """The date field (RFC 9110 6.6.1) of this second."""
        now = int(self._clock())
        if now != self._second:
            self._render(now)
        return self._date

    def lines(self, *, advertise: bool = False) -> bytes:
        """What `complete` adds to a section that has none of it, as lines of HTTP/1.1."""
        now = int(self._clock())
        if now != self._second:
            self._render(now)
        return self._lines_advertising if advertise else self._lines

    def complete(self, fields: Fields, *, advertise: bool = False) -> None:
        """Add date and server to `fields` unless they are there.

        With `advertise` alt-svc is added too (RFC 7838 3): on a secure HTTP/1.1 connection it
        tells the client that the same origin is to be had over HTTP/3.
        """
        has_date = has_server = has_alt_svc = False
        for name, _ in fields:
            if name == b"date":
                has_date = True
            elif name == b"server":
                has_server = True
            elif name == b"alt-svc":
                has_alt_svc = True
        if not has_date:
            fields.append(self.date())
        if self._server is not None and not has_server:
            fields.append(self._server)
        if advertise and self._alt_svc is not None and not has_alt_svc:
            fields.append(self._alt_svc)

    def _render(self, now: int) -> None:
        self._second = now
        self._date = (b"date", formatdate(now, usegmt=True).encode())
        lines = b"date: %b\r\n" % self._date[1]
        if self._server is not None:
            lines += b"server: %b\r\n" % self._server[1]
        self._lines = self._lines_advertising = lines
        if self._alt_svc is not None:
            self._lines_advertising += b"alt-svc: %b\r\n" % self._alt_svc[1]
