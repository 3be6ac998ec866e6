"""A client and a server connection in memory, in virtual time, with datagrams passed by hand."""

from collections.abc import Callable
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger

from tercel.certs.context import quic_identity
from tercel.quic.transport.connection import QuicServerConnection
from tercel.shared.settings import Settings
from tests.support.credentials import credential
from tests.support.h3_client import ClientConnection, client_configuration

CLIENT = ("192.0.2.1", 50_000)
SERVER = ("192.0.2.2", 443)

# Probes for larger datagrams come at times of their own; tests of other things go without them.
DEFAULTS: dict[str, Any] = {"max_datagram_bytes": 1200}
"""Settings other than the defaults, where a test does not say them."""


def server_configuration(settings: Settings, **options: Any) -> QuicConfiguration:
    """What the endpoint would make of `settings`."""
    identity = quic_identity(credential())
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        congestion_control_algorithm=settings.congestion_control,
        connection_id_length=8,
        max_data=settings.connection_window_bytes,
        max_stream_data=settings.stream_window_bytes,
        **options,
    )
    configuration.certificate = identity.certificate
    configuration.certificate_chain = identity.certificate_chain
    configuration.private_key = identity.private_key
    return configuration


class Pair:
    """A client of aioquic's and the server connection under test, after their handshake.

    `drop` decides for each datagram of the server's whether it gets lost.
    """

    client_class: Callable[..., ClientConnection] = ClientConnection
    server_class: Callable[..., QuicServerConnection] = QuicServerConnection

    def __init__(self, *, handshake: bool = True, logged: bool = False, **settings: Any) -> None:
        self.settings = Settings(**DEFAULTS | settings)
        self.now = 1000.0
        self.log = QuicLogger()
        self.client = self.client_class(configuration=client_configuration())
        self.client.connect(SERVER, self.now)
        self.server = self.server_class(
            configuration=server_configuration(
                self.settings, quic_logger=self.log if logged else None
            ),
            settings=self.settings,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.drop: Callable[[bytes], bool] = lambda _: False
        self.drop_from_client: Callable[[bytes], bool] = lambda _: False
        self.server_events: list[events.QuicEvent] = []
        self.client_events: list[events.QuicEvent] = []
        self.sent_by_server = 0
        """Datagrams, lost ones included."""
        if handshake:
            self.run()

    def run(self, seconds: float = 2.0) -> None:
        """Pass datagrams and let timers fire until `seconds` have gone by."""
        end = self.now + seconds
        while True:
            self.exchange()
            timers = [side.get_timer() for side in (self.client, self.server)]
            due = min((timer for timer in timers if timer is not None), default=end)
            if due >= end:
                break
            self.now = max(self.now, due)
            for side in (self.client, self.server):
                timer = side.get_timer()
                if timer is not None and timer <= self.now:
                    side.handle_timer(self.now)
        self.now = end

    def exchange(self) -> None:
        """Pass datagrams until neither side has one to send at this moment."""
        moved = True
        while moved:
            moved = self.client_sends()
            moved = self.server_sends() or moved

    def client_sends(self) -> bool:
        """Pass what the client has to send now."""
        datagrams = self.client.datagrams_to_send(self.now)
        for data, _ in datagrams:
            if not self.drop_from_client(data):
                self.server.receive_datagram(data, CLIENT, self.now)
        self._collect(self.server, self.server_events)
        return bool(datagrams)

    def server_sends(self) -> bool:
        """Pass what the server has to send now."""
        datagrams = self.server.datagrams_to_send(self.now)
        for data, _ in datagrams:
            self.sent_by_server += 1
            if not self.drop(data):
                self.client.receive_datagram(data, SERVER, self.now)
        self._collect(self.client, self.client_events)
        return bool(datagrams)

    def received(self, stream_id: int = 0) -> int:
        """Bytes of a stream that the server has received in order."""
        return sum(
            len(event.data)
            for event in self.server_events
            if isinstance(event, events.StreamDataReceived) and event.stream_id == stream_id
        )

    def frames(self, name: str) -> list[dict[str, Any]]:
        """The frames called `name` that the server sent; only with `logged`."""
        return [
            found
            for trace in self.log.to_dict()["traces"]
            for entry in trace["events"]
            if entry["name"] == "transport:packet_sent"
            for found in entry["data"]["frames"]
            if found["frame_type"] == name
        ]

    @staticmethod
    def _collect(side: Any, into: list[events.QuicEvent]) -> None:
        while (event := side.next_event()) is not None:
            into.append(event)
