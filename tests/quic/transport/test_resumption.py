"""Sessions that are resumed with what the ticket has, and 0-RTT that is taken once."""

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import MAX_EARLY_DATA, QuicConnection
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, Context, Epoch, NewSessionTicket, push_new_session_ticket

from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.resumption import Session, Sessions, session_ticket
from tercel.quic.transport.tokens import SESSION_LIFETIME_SECONDS, KeyRing, Tokens
from tests.quic.pair import Pair
from tests.quic.served import echo, serving
from tests.support.asynchronous import asynctest, on_both_loops
from tests.support.h3_client import ClientConnection, H3Client, client_configuration

NOW = 1_000_000.0
SESSION = Session(0x1301, 12345, 1, b"l" * 16, b"s" * 32, NOW)


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def sessions(*, early_data=False, clock=None, ring=None):
    clock = clock or Clock()
    return Sessions(Tokens(clock, ring), clock, early_data=early_data)


# -- tickets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"s" * 32, b"s" * 48])
def test_a_ticket_brings_its_session_back(secret):
    known = sessions()
    session = SESSION._replace(secret=secret)
    assert known.open(known.seal(session)) == session


@pytest.mark.parametrize("early_data", [False, True])
@pytest.mark.parametrize("ticket", [b"", b"a ticket", b"t" * 300])
def test_a_ticket_is_told_as_by_aioquic(ticket, early_data):
    message = NewSessionTicket(
        ticket_lifetime=SESSION_LIFETIME_SECONDS,
        ticket_age_add=0x12345678,
        ticket=ticket,
        max_early_data_size=MAX_EARLY_DATA if early_data else None,
    )
    buf = Buffer(capacity=1024)
    push_new_session_ticket(buf, message)
    assert session_ticket(0x12345678, ticket, early_data=early_data) == buf.data


def test_a_ticket_hides_its_secret():
    assert SESSION.secret not in sessions().seal(SESSION)


def test_a_ticket_of_another_server_opens_nothing():
    assert sessions().open(sessions().seal(SESSION)) is None
    ring = KeyRing([b"k" * 32])
    assert sessions(ring=ring).open(sessions(ring=ring).seal(SESSION)) == SESSION


@pytest.mark.parametrize("ticket", [b"", b"\x03", b"x" * 200])
def test_what_is_no_ticket_opens_nothing(ticket):
    assert sessions().open(ticket) is None


def test_a_ticket_lives_for_a_day():
    clock = Clock()
    known = sessions(clock=clock)
    ticket = known.seal(SESSION)
    clock.now += SESSION_LIFETIME_SECONDS
    assert known.open(ticket) == SESSION
    clock.now += 1
    assert known.open(ticket) is None


def test_early_data_is_taken_once_with_a_ticket():
    known = sessions(early_data=True)
    assert known.use_early(b"ticket", NOW)
    assert not known.use_early(b"ticket", NOW)
    assert known.use_early(b"another", NOW)


def test_a_ticket_from_before_a_restart_brings_back_its_session_and_takes_no_early_data():
    ring, clock = KeyRing([b"k" * 32]), Clock()
    ticket = sessions(early_data=True, clock=clock, ring=ring).seal(SESSION)
    clock.now += 1
    again = sessions(early_data=True, clock=clock, ring=ring)
    session = again.open(ticket)
    assert session == SESSION
    assert not again.use_early(ticket, session.issued_at)
    assert again.use_early(b"its own", again.open(again.seal(SESSION)).issued_at)


def test_used_tickets_are_remembered_until_they_expire():
    clock = Clock()
    known = sessions(early_data=True, clock=clock)
    known.use_early(b"ticket", NOW)
    clock.now += SESSION_LIFETIME_SECONDS
    assert not known.use_early(b"ticket", NOW)


# -- two connections ----------------------------------------------------------------------------


class ResumedPair(Pair):
    """A client that keeps tickets, and a server that gives them out."""

    def __init__(self, known, *, ticket=None, early=b"", **settings):
        self.tickets = []
        self.known = known
        self.ticket = ticket
        self.early = early
        super().__init__(**settings)

    def run(self, seconds=2.0):
        if self.early:
            stream_id = self.client.get_next_available_stream_id()
            self.client.send_stream_data(stream_id, self.early, end_stream=True)
            self.early = b""
        super().run(seconds)

    def client_class(self, *, configuration):
        configuration.session_ticket = self.ticket
        configuration.server_name = "localhost"
        return ClientConnection(
            configuration=configuration, session_ticket_handler=self.tickets.append
        )

    def server_class(self, **options):
        return QuicServerConnection(sessions=self.known, **options)

    def completed(self):
        (event,) = [e for e in self.server_events if isinstance(e, HandshakeCompleted)]
        return event


def test_a_client_comes_back_without_a_certificate():
    known = sessions()
    (ticket,) = ResumedPair(known).tickets
    again = ResumedPair(known, ticket=ticket)
    assert again.completed().session_resumed
    assert not again.completed().early_data_accepted
    assert len(again.tickets) == 1
    assert again.tickets[0].ticket != ticket.ticket


def test_without_sessions_there_is_no_ticket():
    assert ResumedPair(None).tickets == []


@pytest.mark.parametrize(
    "suite", [CipherSuite.AES_256_GCM_SHA384, CipherSuite.CHACHA20_POLY1305_SHA256]
)
def test_every_cipher_suite_is_resumed(suite):
    known = sessions()

    class Chosen(ResumedPair):
        def client_class(self, *, configuration):
            configuration.cipher_suites = [suite]
            return super().client_class(configuration=configuration)

    (ticket,) = Chosen(known).tickets
    assert Chosen(known, ticket=ticket).completed().session_resumed


def test_a_ticket_of_another_version_is_not_taken():
    known = sessions()
    (ticket,) = ResumedPair(known).tickets

    class Version2(ResumedPair):
        def client_class(self, *, configuration):
            configuration.original_version = QuicProtocolVersion.VERSION_2
            configuration.supported_versions = [QuicProtocolVersion.VERSION_2]
            return super().client_class(configuration=configuration)

    assert not Version2(known, ticket=ticket).completed().session_resumed


def test_a_ticket_that_is_not_known_leads_to_a_whole_handshake():
    (ticket,) = ResumedPair(sessions()).tickets
    assert not ResumedPair(sessions(), ticket=ticket).completed().session_resumed


# -- 0-RTT --------------------------------------------------------------------------------------


def test_tickets_allow_no_early_data_by_default():
    (ticket,) = ResumedPair(sessions()).tickets
    assert ticket.max_early_data_size is None


def test_early_data_arrives_with_the_first_flight_and_is_told_apart():
    known = sessions(early_data=True)
    (ticket,) = ResumedPair(known).tickets
    again = ResumedPair(known, ticket=ticket, early=b"GET", handshake=False)
    stream_id = again.client.get_next_available_stream_id()
    again.client.send_stream_data(stream_id, b"GET", end_stream=True)
    again.client_sends()
    assert again.received(stream_id) == 3
    assert again.server.is_early(stream_id)
    again.early = b""
    again.run()
    assert again.completed().early_data_accepted
    assert not again.server.is_early(stream_id)


def test_a_replay_of_early_data_is_refused():
    known = sessions(early_data=True)
    (ticket,) = ResumedPair(known).tickets
    first = ResumedPair(known, ticket=ticket, early=b"GET")
    assert first.completed().early_data_accepted
    second = ResumedPair(known, ticket=ticket, early=b"GET")
    assert second.completed().session_resumed
    assert not second.completed().early_data_accepted


def test_a_client_that_sends_early_data_unasked_is_refused():
    known = sessions()
    (ticket,) = ResumedPair(known).tickets
    allowed = sessions(early_data=True)
    (other,) = ResumedPair(allowed).tickets
    ticket.max_early_data_size = other.max_early_data_size
    again = ResumedPair(known, ticket=ticket, early=b"GET")
    assert again.completed().session_resumed
    assert not again.completed().early_data_accepted


@pytest.mark.parametrize(
    "change", [{"max_concurrent_streams": 64}, {"stream_window_bytes": 65_536}]
)
def test_early_data_is_refused_when_the_limits_have_changed(change):
    known = sessions(early_data=True)
    (ticket,) = ResumedPair(known).tickets
    again = ResumedPair(known, ticket=ticket, early=b"GET", **change)
    assert again.completed().session_resumed
    assert not again.completed().early_data_accepted


# -- on the network -----------------------------------------------------------------------------


class Returning(H3Client):
    """An HTTP/3 client that begins with what a ticket allows."""

    def __init__(self, port, *, ticket=None, **options):
        self.tickets = []
        super().__init__(port, **options)
        configuration = client_configuration(session_ticket=ticket, server_name="localhost")
        self.quic = ClientConnection(
            configuration=configuration, session_ticket_handler=self.tickets.append
        )


async def ticket_of(server):
    async with Returning(server.port) as client:
        await client.request()
        await client.until(lambda: bool(client.tickets))
        return client.tickets[0]


async def first_request(server, ticket, method, *fields):
    """A request in the very first flight; the exchange is over before the handshake may be."""
    client = Returning(server.port, ticket=ticket)
    client.quic.connect(("127.0.0.1", server.port), client._loop.time())
    stream = client.begin(method, "/", *fields)
    client.flush()
    await client.until(lambda: stream.done)
    client.close()
    return stream


@on_both_loops
async def test_a_safe_request_in_early_data_is_served_and_says_so():
    async with serving(early_data=True) as server:
        ticket = await ticket_of(server)
        stream = await first_request(server, ticket, "GET")
        assert stream.status == 200
        assert (b"early-data", b"1") in server.exchanges[-1].stream.head.fields
        assert (b"early-data", b"1") not in server.exchanges[0].stream.head.fields


@asynctest
async def test_a_client_cannot_say_otherwise_of_its_early_data():
    async with serving(early_data=True) as server:
        ticket = await ticket_of(server)
        await first_request(server, ticket, "GET", (b"early-data", b"0"), (b"early-data", b"1"))
        fields = server.exchanges[-1].stream.head.fields
        assert [value for name, value in fields if name == b"early-data"] == [b"1"]


@asynctest
async def test_what_a_client_says_of_data_that_is_not_early_is_left_alone():
    # RFC 8470 5.1: an intermediary says so of what it got early itself.
    async with serving(early_data=True) as server:
        async with Returning(server.port) as client:
            stream = client.begin("GET", "/", (b"early-data", b"1"))
            client.flush()
            await client.until(lambda: stream.done)
        assert (b"early-data", b"1") in server.exchanges[-1].stream.head.fields


@asynctest
async def test_an_unsafe_request_in_early_data_is_too_early():
    async with serving(echo, early_data=True) as server:
        ticket = await ticket_of(server)
        stream = await first_request(server, ticket, "POST")
        assert stream.status == 425
        assert len(server.exchanges) == 1


@asynctest
async def test_without_early_data_sessions_are_resumed_all_the_same():
    async with serving() as server:
        ticket = await ticket_of(server)
        async with Returning(server.port, ticket=ticket) as client:
            assert client.quic.tls.session_resumed
            assert (await client.request()).status == 200


# -- canaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["_handle_crypto_frame", "_update_traffic_key", "_handle_stream_frame"]
)
def test_canary_aioquic_has_what_is_overridden(name):
    assert callable(getattr(QuicConnection, name))


def test_canary_what_a_ticket_is_made_of():
    pair = ResumedPair(sessions(), handshake=False)
    pair.client_sends()
    tls = pair.server.tls
    pair.run()
    assert isinstance(tls, Context)
    assert tls._psk_key_exchange_mode is not None
    assert tls.early_data_accepted is False
    assert pair.server._crypto_packet_version == QuicProtocolVersion.VERSION_1
    assert Epoch.ONE_RTT in pair.server._crypto_streams
