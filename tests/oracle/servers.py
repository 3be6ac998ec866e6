"""The two servers behind one interface: aioquic's as it comes, and tercel's.

The only module of the oracle that knows tercel. Uses public methods of both.
"""

import functools
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.resumption import Sessions
from tercel.quic.transport.tokens import Tokens
from tercel.shared.settings import Settings

CONNECTION_WINDOW_BYTES = 256 * 1024
STREAM_WINDOW_BYTES = 64 * 1024
MAX_REQUEST_STREAMS = 128
"""aioquic's own limit, which cannot be set."""
IDLE_TIMEOUT = 20.0
CONNECTION_ID_BYTES = 8
# The time for tickets, which does not pass.
_NOW = 1e9


class Server(Protocol):
    """A server's connection, sans-I/O."""

    def receive_datagram(self, data: bytes, address: Any, now: float) -> None:
        """Take a datagram."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What to send, and where to."""

    def next_event(self) -> QuicEvent | None:
        """What happened; None if that is all."""

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called."""

    def handle_timer(self, now: float) -> None:
        """A time has come."""

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        """Queue data."""

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End the sending part of a stream."""

    def stop_stream(self, stream_id: int, code: int) -> None:
        """Ask for the end of the receiving part."""

    def close(self, code: int, frame_type: int | None, reason: str) -> None:
        """Close the connection; the frame type is None if the application does."""

    def grant(self, stream_id: int, size: int) -> None:
        """The application has consumed `size` bytes of a stream."""

    def release(self, stream_id: int) -> None:
        """The application has heard that a stream was reset."""

    def arrives_with(self, mark: int) -> None:
        """The next datagrams have this ECN field (RFC 3168 5)."""


class StockServer:
    """aioquic's, whose windows grow by themselves."""

    def __init__(self, original_destination: bytes, *, tickets: Any = None, **options: Any) -> None:
        """`tickets` is a `ticket_store`; `options` are those of the configuration."""
        stores = {}
        if tickets is not None:
            stores["session_ticket_fetcher"] = tickets.get
            stores["session_ticket_handler"] = lambda new: tickets.update({new.ticket: new})
        self._quic: Any = QuicConnection(
            configuration=_configuration(**options),
            original_destination_connection_id=original_destination,
            **stores,
        )

    @staticmethod
    def ticket_store() -> Any:
        """What a server needs to recognise the tickets that it has issued on other connections."""
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quic, name)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What to send; nothing to nobody."""
        sent: list[tuple[bytes, Any]] = []
        if self._quic.get_peer_address() is not None:
            sent = self._quic.datagrams_to_send(now)
        return sent

    def grant(self, stream_id: int, size: int) -> None:
        """Nothing."""

    def release(self, stream_id: int) -> None:
        """Nothing."""

    def arrives_with(self, mark: int) -> None:
        """Nothing."""


class TercelServer(StockServer):
    """tercel's, whose windows follow consumption."""

    def __init__(self, original_destination: bytes, *, tickets: Any = None, **options: Any) -> None:
        settings = Settings(
            early_data=tickets is not None,
            congestion_control="reno",
            connection_window_bytes=CONNECTION_WINDOW_BYTES,
            max_concurrent_streams=MAX_REQUEST_STREAMS,
            max_datagram_bytes=1200,
            stream_window_bytes=STREAM_WINDOW_BYTES,
        )
        self._quic = QuicServerConnection(
            configuration=_configuration(**options),
            settings=settings,
            original_destination_connection_id=original_destination,
            sessions=tickets,
        )

    @staticmethod
    def ticket_store() -> Sessions:
        """Sessions of one server."""
        return Sessions(Tokens(lambda: _NOW), lambda: _NOW, early_data=True)

    def grant(self, stream_id: int, size: int) -> None:
        """Give credit for consumed data."""
        self._quic.grant(stream_id, size)

    def release(self, stream_id: int) -> None:
        """Give credit for what a reset stream used."""
        self._quic.release(stream_id)

    def arrives_with(self, mark: int) -> None:
        """Count a mark."""
        self._quic.arriving_mark = mark


SERVERS: dict[str, type[StockServer]] = {"aioquic": StockServer, "tercel": TercelServer}


def _configuration(*, chain: int = 0, **options: Any) -> QuicConfiguration:
    """`chain` is the number of certificates behind the server's own."""
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        congestion_control_algorithm="reno",
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=IDLE_TIMEOUT,
        max_data=CONNECTION_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
        **options,
    )
    configuration.certificate, configuration.private_key = _identity()
    configuration.certificate_chain = chain * [configuration.certificate]
    return configuration


@functools.cache
def _identity() -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """A certificate whose signatures always have the same size."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=1)).sign(key, None), key
