"""The number of a connection's bytes that the kernel has not accepted, also under TLS.

A TLS transport reports only the bytes that wait to be encrypted. The bytes in the transport below
it are not reported, and a response that is written in one piece goes there at once.
"""

import asyncio

from tercel.shared.sockets import accepted_bytes


class UnsentBytes:
    """The unsent bytes of one connection, as far as can be known."""

    __slots__ = ("_accepted", "_hidden", "_secure", "_transport", "_written")

    def __init__(self, transport: asyncio.Transport, *, secure: bool) -> None:
        self._transport = transport
        self._secure = secure
        self._written = 0
        self._accepted = 0
        self._hidden = 0

    def measure(self, written: int) -> int:
        """The unsent bytes, when `written` bytes were written since the connection was made.

        Exact without TLS. With TLS the result is a little too low, because records are larger than
        their content; the error is reset whenever nothing is unsent.
        """
        known = self._transport.get_write_buffer_size()
        if not self._secure:
            return known
        accepted = accepted_bytes(self._transport.get_extra_info("socket"))
        if accepted is None:
            return known
        hidden = self._hidden + (written - self._written) - (accepted - self._accepted)
        self._written, self._accepted = written, accepted
        self._hidden = max(hidden, known, 0)
        return self._hidden
