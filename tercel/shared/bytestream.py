"""The transport of a WebSocket: a TCP connection after its upgrade, or a CONNECT stream.

The same contract on every HTTP version (RFC 6455 4.2.2, RFC 9220), so one WebSocket implementation
serves both.
"""

from abc import ABC, abstractmethod

from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.errors import ServerError


class ByteReceiver(ABC):
    """Receives the bytes. None of the methods may block or raise."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """The next bytes, in order. Not called between `pause_reading` and `resume_reading`."""

    @abstractmethod
    def eof_received(self) -> None:
        """The peer sends no more data; it may still read."""

    @abstractmethod
    def connection_lost(self, error: ServerError | None) -> None:
        """The byte stream is closed: called once, last; `error` is None if this side closed it."""

    @abstractmethod
    def going_away(self) -> None:
        """The server is shutting down: end the protocol on the stream."""

    def ending(self, error: ServerError | None) -> str:
        """How the stream ended, for the access log; empty for a regular end.

        To be called after `connection_lost`, with the same `error`.
        """
        return "" if error is None else str(error)


class ByteStream(ABC):
    """A bidirectional stream of bytes. Methods other than `drain` never wait."""

    connection: ConnectionInfo

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send `data` after all earlier data; dropped when the stream is closing."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether `drain` would return at once."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not accepted yet."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until more may be written.

        Raises StreamAborted when the peer is gone, or accepted no data for `send_timeout` seconds.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop reading; the peer can send only what its window, or the kernel's buffer, allows.

        Idempotent, as `resume_reading` is.
        """

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again; data received meanwhile is delivered from the next loop iteration on."""

    @abstractmethod
    def write_eof(self) -> None:
        """End this side after the written data; the peer may still send. Idempotent.

        A transport without a half-close (TLS) ends both sides, as `close` does.
        """

    @abstractmethod
    def close(self) -> None:
        """End both sides after the written data: FIN, then nothing is read. Idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """End both sides at once; unsent bytes are lost. Idempotent.

        `connection_lost` follows in a later loop iteration, as it does for `close`. HTTP/3 resets
        the stream with H3_REQUEST_CANCELLED.
        """


class UpgradedExchange(ByteStream):
    """The byte stream that an exchange has become, as its connection sees it."""

    closed: bool
    """Whether this side has ended the stream."""

    @abstractmethod
    def pass_on(self, data: bytes) -> bool:
        """Pass on the next `data`; False if it has to wait in the exchange's content."""

    @abstractmethod
    def lost(self, error: ServerError | None) -> str:
        """The exchange is over; `error` says why if neither side ended it. Called once.

        Returns how it ended, for the access log.
        """
