"""A server and its shadow, to which the same happens: all of it done by aioquic's code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from unittest import mock

from aioquic import tls
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from tercel.quic.transport import tls_flight
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.resumption import Sessions
from tercel.quic.transport.tokens import KeyRing, Tokens
from tests.quic.pair import CLIENT, SERVER, Pair
from tests.quic.twin import chance, differences, state
from tests.support.h3_client import ClientConnection, client_configuration

_EXCHANGE_KEY, _P256_KEY = X25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())


class _Exchange:
    @staticmethod
    def generate() -> X25519PrivateKey:
        return _EXCHANGE_KEY


@contextmanager
def certain(seed: object) -> Iterator[None]:
    """Let all that a server does by chance come out the same each time."""
    with (
        chance(seed),
        mock.patch.object(ec, "generate_private_key", return_value=_P256_KEY),
        mock.patch.object(tls.x25519, "X25519PrivateKey", _Exchange),
        mock.patch.object(tls_flight, "X25519PrivateKey", _Exchange),
    ):
        yield


@cache
def identity() -> tuple[x509.Certificate, ed25519.Ed25519PrivateKey]:
    """A certificate, and a key whose signatures come out the same each time."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=1)).sign(key, None), key


class Unarmed(QuicServerConnection):
    """Never on the fast path."""

    def _arm(self) -> None:
        pass


class Shadowed(Pair):
    """Whatever happens to `server` happens to `shadow`, and it has to do the same.

    `client_options` are a QuicConfiguration's; `ring` seals tickets; `kind` is what the server is.
    """

    kind: type[QuicServerConnection] = Unarmed
    shadow: QuicServerConnection

    def __init__(
        self,
        *,
        ring: KeyRing | None = None,
        early_data: bool = False,
        client_options: dict[str, Any] | None = None,
        server_options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.tickets: list[Any] = []
        self.steps = 0
        self._client_options = client_options or {}
        self._server_options = server_options or {}
        self._ring, self._early_data = ring or KeyRing([b"r" * 32]), early_data
        super().__init__(handshake=False, **settings)

    def client_class(self, *, configuration: Any) -> ClientConnection:
        return ClientConnection(
            configuration=client_configuration(**self._client_options),
            session_ticket_handler=self.tickets.append,
        )

    def server_class(self, *, configuration: Any, settings: Any, **options: Any) -> Any:
        configuration.certificate, configuration.private_key = identity()
        configuration.certificate_chain = []
        servers: list[QuicServerConnection] = []
        # What is prepared once takes chances, too: not for one of the two only.
        self.kind(configuration=configuration, settings=settings, **options)
        for fast in (True, False):
            known = Sessions(
                Tokens(lambda: 1e6, self._ring), lambda: 1e6, early_data=self._early_data
            )
            with certain("begin"):
                server = self.kind(
                    configuration=configuration,
                    settings=settings,
                    sessions=known,
                    **options | self._server_options,
                )
            server._fast_path = fast
            servers.append(server)
        self.shadow = servers[1]
        return servers[0]

    def both(self, step: Callable[[QuicServerConnection], Any]) -> Any:
        """What `step` returns for the server, which has to be what it returns for its shadow."""
        self.steps += 1
        results = []
        for server in (self.server, self.shadow):
            with certain(self.steps):
                results.append(step(server))
        assert results[0] == results[1]
        found = differences(known_of(self.server), known_of(self.shadow))
        assert not found, "\n".join(found)
        return results[0]

    def receive(self, *datagrams: bytes, address: Any = CLIENT) -> None:
        """Let the server take what may not be of the client's."""
        for data in datagrams:
            self.both(lambda server, data=data: server.receive_datagram(data, address, self.now))

    def client_sends(self) -> bool:
        datagrams = [data for data, _ in self.client.datagrams_to_send(self.now)]
        self.receive(*(data for data in datagrams if not self.drop_from_client(data)))
        while (event := self.both(next_event)) is not None:
            self.server_events.append(event)
        return bool(datagrams)

    def server_sends(self) -> bool:
        if not self.server.network_paths:
            return False  # it has heard of nobody
        datagrams = self.both(lambda server: server.datagrams_to_send(self.now))
        self.both(lambda server: server.get_timer())
        for data, _ in datagrams:
            if not self.drop(data):
                self.client.receive_datagram(data, SERVER, self.now)
        self._collect(self.client, self.client_events)
        return bool(datagrams)

    def run(self, seconds: float = 2.0) -> None:
        end = self.now + seconds
        while True:
            self.exchange()
            timers = self.client.get_timer(), self.both(lambda server: server.get_timer())
            due = min((timer for timer in timers if timer is not None), default=end)
            if due >= end:
                break
            self.now = max(self.now, due)
            if timers[0] is not None and timers[0] <= self.now:
                self.client.handle_timer(self.now)
            if timers[1] is not None and timers[1] <= self.now:
                self.both(lambda server: server.handle_timer(self.now))
        self.now = end


def next_event(server: QuicServerConnection) -> Any:
    return server.next_event()


def known_of(server: QuicServerConnection) -> dict[str, Any]:
    """What counts of a server's state."""
    known = state(server)
    known.pop("_sessions")
    # In which order streams that were served wait behind the others, aioquic leaves to chance.
    queue = sorted(str(stream.stream_id) for stream in server._streams_queue)
    return known | {"queue": queue, "told": told(server)}


def told(server: QuicServerConnection) -> list[Any]:
    """Who is told what of the packets that are on their way."""
    return [
        (epoch.name, number, handler.__name__, [_name(argument) for argument in arguments])
        for epoch, space in server._spaces.items()
        for number, packet in space.sent_packets.items()
        for handler, arguments in packet.delivery_handlers
    ]


def _name(argument: Any) -> Any:
    return argument if isinstance(argument, (int, bool)) else type(argument).__name__
