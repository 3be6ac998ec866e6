"""The interface of what the server starts and stops: it accepts connections."""

from abc import ABC, abstractmethod


class Listener(ABC):
    """Accepts connections on sockets that are bound already.

    The server calls, in this order: `start`, `stop_accepting`, `drain`, `close`, `wait_closed`.
    """

    @abstractmethod
    async def start(self) -> None:
        """Begin to accept connections."""

    @abstractmethod
    def is_serving(self) -> bool:
        """Whether new connections are accepted."""

    @abstractmethod
    def stop_accepting(self) -> None:
        """Accept no new connection and no new exchange; running exchanges continue.

        Peers are told: HTTP/1.1 answers with `Connection: close`, HTTP/3 sends GOAWAY. Idle
        connections are closed.
        """

    @abstractmethod
    async def drain(self, timeout: float) -> bool:
        """Wait until the last exchange has ended, `timeout` seconds at most; True if it has."""

    @abstractmethod
    def close(self) -> None:
        """End all that is still running, and release the sockets."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Return when every connection has ended."""

    @property
    @abstractmethod
    def addresses(self) -> list[str]:
        """The clients' view: `127.0.0.1:4433`, `[::1]:4433` or the path of a unix socket."""
