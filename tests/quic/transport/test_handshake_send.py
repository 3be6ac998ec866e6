"""What is sent until the fast path is open is what aioquic sends, byte for byte.

Each time that the server may send, a copy of it that does all by aioquic's code does so, too.
"""

import inspect
import re

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived

from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.resumption import Sessions
from tests.quic.pair import Pair
from tests.quic.transport.test_resumption import ResumedPair, sessions
from tests.quic.twin import chance, differences, state, twin


class Unarmed(QuicServerConnection):
    """Never on the fast path."""

    def _arm(self):
        pass


class Twins(Pair):
    """Whenever the server sends, so does its copy; the server has something to say at once."""

    server_class = Unarmed
    greeting = b"settings"
    flushes = 0

    def server_sends(self):
        server = self.server
        if server.cipher_suite is not None and not server._local_next_stream_id_uni > 3:
            for stream_id in (3, 7, 11):
                server.send_stream_data(stream_id, self.greeting)
        other = twin(server)
        with chance(self.now):
            theirs = other.datagrams_to_send(self.now)
        with chance(self.now):
            mine = server.datagrams_to_send(self.now)
        assert mine == theirs
        # In which order streams that were served wait behind the others, aioquic leaves to chance.
        assert differences(state_of(server), state_of(other)) == []
        assert set(queue_of(server)) == set(queue_of(other))
        self.flushes += bool(mine)
        for data, _ in mine:
            if not self.drop(data):
                self.client.receive_datagram(data, ("192.0.2.2", 443), self.now)
        self._collect(self.client, self.client_events)
        return bool(mine)


def state_of(server):
    known = state(server)
    # A log has the time of its entries.
    for holder in (known, known["_loss"]):
        holder.pop("_quic_logger")
    return known


def queue_of(server):
    return [stream.stream_id for stream in server._streams_queue]


def answered(pair, content=b"response", *, end_stream=True):
    """A request of the client's, and its response."""
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"request", end_stream=True)
    pair.exchange()
    pair.server.send_stream_data(stream_id, content, end_stream)
    pair.run()
    return stream_id


@pytest.mark.parametrize("greeting", [b"s", b"s" * 500, b"s" * 2000], ids=len)
@pytest.mark.parametrize("logged", [False, True])
def test_a_handshake_and_requests(greeting, logged):
    class Greeting(Twins):
        pass

    Greeting.greeting = greeting
    pair = Greeting(logged=logged)
    for size in (1, 3000, 60_000):
        answered(pair, b"r" * size)
    assert pair.server.handshake_completed
    assert pair.flushes > 5
    assert pair.server.is_delivered()


@pytest.mark.parametrize("lost", range(8))
def test_a_handshake_of_which_a_datagram_is_lost(lost):
    seen = []

    class Lossy(Twins):
        def exchange(self):
            self.drop = lambda data: seen.append(data) or len(seen) == lost + 1
            super().exchange()

    pair = Lossy()
    answered(pair, b"r" * 3000)
    assert len(seen) > lost
    assert pair.server.handshake_completed


def test_a_handshake_whose_client_is_not_heard_again():
    pair = Twins(handshake=False)
    pair.client_sends()
    pair.drop = lambda data: True
    pair.drop_from_client = lambda data: True
    pair.run(5.0)
    assert pair.flushes >= 2  # it repeats itself, within what an address may get that nobody showed


def test_a_session_that_is_resumed(monkeypatch):
    monkeypatch.setattr(Sessions, "__deepcopy__", lambda self, _: self, raising=False)

    class Resumed(Twins, ResumedPair):
        def server_class(self, **options):
            return Unarmed(sessions=self.known, **options)

    known = sessions()
    (ticket,) = Resumed(known).tickets
    pair = Resumed(known, ticket=ticket)
    answered(pair)
    assert pair.completed().session_resumed


def test_what_is_uncommon_is_sent_by_aioquic():
    pair = Twins(logged=True)
    stream_id = answered(pair, b"r" * 10, end_stream=False)
    pair.server.reset_stream(stream_id, 7)
    pair.server.send_ping(1)
    pair.run(0.1)
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"request")
    pair.client_sends()
    pair.server.stop_stream(stream_id, 7)
    pair.client.change_connection_id()
    pair.run(0.1)
    for name in ("reset_stream", "ping", "stop_sending", "retire_connection_id"):
        assert pair.frames(name), name


def test_a_stream_that_the_client_does_not_allow_yet_holds_no_response_back():
    pair = Twins()
    stream_id = 4 * pair.server._remote_max_streams_uni + 3
    pair.server.send_stream_data(stream_id, b"too early")
    answered(pair, b"r" * 3000)
    heard = [event for event in pair.client_events if isinstance(event, StreamDataReceived)]
    assert sum(len(event.data) for event in heard if event.stream_id == 0) == 3000
    assert stream_id not in {event.stream_id for event in heard}  # RFC 9000 4.6


def test_canary_the_loops_of_aioquic_write_what_they_wrote():
    written = {
        name: re.findall(r"self\.(_write_\w+)\(", inspect.getsource(getattr(QuicConnection, name)))
        for name in ("_write_handshake", "_write_application")
    }
    assert written == {
        "_write_handshake": ["_write_ack_frame", "_write_crypto_frame", "_write_ping_frame"],
        "_write_application": [
            "_write_ack_frame",
            "_write_path_challenge_frame",
            "_write_handshake_done_frame",
            "_write_path_response_frame",
            "_write_new_connection_id_frame",
            "_write_retire_connection_id_frame",
            "_write_streams_blocked_frame",
            "_write_streams_blocked_frame",
            "_write_connection_limits",
            "_write_stream_limits",
            "_write_ping_frame",
            "_write_ping_frame",
            "_write_crypto_frame",
            "_write_datagram_frame",
            "_write_stop_sending_frame",
            "_write_reset_stream_frame",
            "_write_stream_frame",
        ],
    }
