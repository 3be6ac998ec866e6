"""Whether this server works with the aioquic that is installed.

`transport` uses parts of aioquic that it does not document, and another release may lack one, or
mean something else by it. A release that tercel was tested with is trusted. With any other, a
connection is made in memory before a socket opens.
"""

import importlib.metadata
import ssl
from collections.abc import Callable

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from tercel.certs.context import quic_identity
from tercel.certs.load import Credential
from tercel.quic.transport.connection import QuicServerConnection
from tercel.shared.requirements import TESTED_AIOQUIC, unfit_aioquic
from tercel.shared.settings import Settings

_ALPN = ["h3"]
_SERVER, _CLIENT, _ELSEWHERE = ("192.0.2.1", 443), ("192.0.2.2", 50_000), ("192.0.2.2", 50_001)
_REQUEST_BYTES, _RESPONSE_BYTES = 5_000, 100_000
# More than this conversation needs, which is some forty.
_MOST_ROUND_TRIPS = 300
_ROUND_TRIP_SECONDS = 0.02
# The datagrams of the server that are lost: one in the handshake, one amid a response.
_LOST = (1, 20)


def check_aioquic(credential: Credential) -> None:
    """Raise ServerError if the installed aioquic is one that tercel does not work with."""
    if importlib.metadata.version("aioquic") in TESTED_AIOQUIC:
        return
    try:
        _Conversation(credential).complete()
    except Exception as error:
        # Whatever goes wrong with another aioquic, its user can only install a tested one.
        raise unfit_aioquic(error) from error


class _Conversation:
    """A connection of aioquic's client to a server in memory, which loses some datagrams.

    It takes the ways that are used most, and those that use most of aioquic's parts: loss, PING,
    streams that are reset, a key update, another address of the client, and the end.
    """

    def __init__(self, credential: Credential) -> None:
        self._now = 0.0
        self._sent = 0
        self._address = _CLIENT
        self._received: dict[int, int] = {}
        self._ended = False
        self._client = QuicConnection(
            configuration=QuicConfiguration(
                is_client=True, alpn_protocols=_ALPN, verify_mode=ssl.CERT_NONE
            )
        )
        self._client.connect(_SERVER, self._now)
        identity = quic_identity(credential)
        configuration = QuicConfiguration(
            is_client=False, alpn_protocols=_ALPN, connection_id_length=8
        )
        configuration.certificate = identity.certificate
        configuration.certificate_chain = identity.certificate_chain
        configuration.private_key = identity.private_key
        self._server = QuicServerConnection(
            configuration=configuration,
            settings=Settings(),
            original_destination_connection_id=self._client.original_destination_connection_id,
        )

    def complete(self) -> None:
        """Take each step; raises whatever aioquic raises, or RuntimeError."""
        client = self._client
        self._exchange(0)
        client.send_ping(1)
        client.request_key_update()
        self._exchange(4)
        client.change_connection_id()
        self._address = _ELSEWHERE
        client.send_stream_data(8, bytes(_REQUEST_BYTES))
        client.reset_stream(8, 0)
        client.send_stream_data(12, bytes(_REQUEST_BYTES))
        client.stop_stream(12, 0)
        self._exchange(16)
        self._check_attributes()
        client.close()
        self._until(lambda: self._ended)

    def _check_attributes(self) -> None:
        """Check that what this server sets on objects of aioquic's is what aioquic reads there."""
        ours, theirs = self._server._loss, self._client._loss
        pairs = [(ours, theirs), (ours.spaces[-1], theirs.spaces[-1])]
        for own, stock in pairs:
            if strange := vars(own).keys() - vars(stock).keys():
                raise RuntimeError(f"{type(own).__name__} has no {min(strange)}")

    def _exchange(self, stream_id: int) -> None:
        """A request and its response."""
        self._client.send_stream_data(stream_id, bytes(_REQUEST_BYTES), end_stream=True)
        self._until(lambda: self._received.get(stream_id) == _RESPONSE_BYTES)
        self._until(self._server.is_delivered)

    def _until(self, condition: Callable[[], bool]) -> None:
        for _ in range(_MOST_ROUND_TRIPS):
            if condition():
                return
            self._round_trip()
        raise RuntimeError("a connection of this server with itself stalls")

    def _round_trip(self) -> None:
        self._now += _ROUND_TRIP_SECONDS
        now, client, server = self._now, self._client, self._server
        for data, _ in client.datagrams_to_send(now):
            server.receive_datagram(data, self._address, now)
        while (event := server.next_event()) is not None:
            self._serve(event)
        for data, _ in server.datagrams_to_send(now):
            self._sent += 1
            if self._sent not in _LOST:
                client.receive_datagram(data, _SERVER, now)
        while (event := client.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                received = self._received.get(event.stream_id, 0)
                self._received[event.stream_id] = received + len(event.data)
        for side in (client, server):
            timer = side.get_timer()
            if timer is not None and timer <= now:
                side.handle_timer(now)

    def _serve(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self._server.grant(event.stream_id, len(event.data))
            if event.end_stream:
                self._server.write(event.stream_id, bytes(_RESPONSE_BYTES), True)
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            if self._server.can_send(event.stream_id):
                self._server.reset_stream(event.stream_id, 0)
        elif isinstance(event, ConnectionTerminated):
            self._ended = True
