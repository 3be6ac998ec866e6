"""What a WebSocket runs on: bytes of a TCP connection after its upgrade, or of a CONNECT stream.

The same contract on every HTTP version (RFC 6455 4.2.2, RFC 9220), so one WebSocket
implementation serves both.
"""

from abc import ABC, abstractmethod

from tercel.shared.connection import ConnectionInfo
from tercel.shared.errors import ServerError


class ByteReceiver(ABC):
    """Who gets the bytes. None of the calls may block or raise."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """The next bytes, in order. Not called between `pause_reading` and `resume_reading`."""

    @abstractmethod
    def eof_received(self) -> None:
        """The peer sends nothing more; it may still read."""

    @abstractmethod
    def connection_lost(self, error: ServerError | None) -> None:
        """The byte stream is gone, once, and last; `error` is None when this side closed it."""

    @abstractmethod
    def going_away(self) -> None:
        """The server stops: bring what runs on the stream to its end."""

    def ending(self, error: ServerError | None) -> str:
        """How it ended, for the access log; empty where all was regular.

        To be called after `connection_lost`, with the same `error`.
        """
        return "" if error is None else str(error)


class ByteStream(ABC):
    """A bidirectional stream of bytes. Methods other than `drain` never wait."""

    connection: ConnectionInfo

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send `data` after all that was written before; dropped when the stream is closing."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether `drain` would return at once."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that were written and that the peer has not taken yet."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until more may be written.

        Raises StreamAborted when the peer is gone, or took nothing for `send_timeout` seconds.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Let the peer send no more than what its window, or the kernel's buffer, allows.

        Idempotent, as `resume_reading` is.
        """

    @abstractmethod
    def resume_reading(self) -> None:
        """Receive again; what came in between is delivered from the next turn of the loop on."""

    @abstractmethod
    def write_eof(self) -> None:
        """End this side after what was written; the peer's bytes still come. Idempotent.

        A transport without a half-close (TLS) ends both sides, as `close` does.
        """

    @abstractmethod
    def close(self) -> None:
        """End both sides after what was written: FIN, then nothing is read. Idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """End both sides at once; unsent bytes are lost. Idempotent.

        `connection_lost` follows from a later turn of the loop, as it does for `close`. HTTP/3
        resets the stream with H3_REQUEST_CANCELLED.
        """
