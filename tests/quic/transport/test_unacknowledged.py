"""What is kept for a client that acknowledges nothing: it is bounded, whatever the client does.

A client's packets are made by hand here, so that it is the test that decides what it acknowledges.
"""

import tracemalloc

import pytest

from tercel.quic.http3 import connection
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.transport.unacknowledged import ASK_AFTER_PACKETS
from tests.quic.pair import CLIENT, SERVER, Pair
from tests.quic.served import serving
from tests.support.asynchronous import asynctest
from tests.support.h3_client import DATA, HEADERS, H3Client, frame, headers
from tests.support.raw_quic import PING, numbers, short_packet, stream

PATHS = [{}, {"quic_fast_path": False}, {"logged": True}]
MOST_BYTES = 262_144
# RFC 9204 4.3: the capacity of the table, 4,096, and its one entry.
TABLE = b"\x3f\xe1\x1f" + b"\x47x-token\x05value"
# RFC 9204 4.5: a request that refers to it.
SECTION = b"\x02\x00" + b"\xd1\xd7\xc1" + b"\x50\x09localhost" + b"\x80"


def idle(number):
    """A PING, as often as its budget allows."""
    return PING


def upload(number):
    """The next part of one request's content."""
    head = headers(b"POST")
    if number == 0:
        return stream(0, 0, head + numbers(DATA, 1 << 24))
    return stream(0, len(head) + len(numbers(DATA, 1 << 24)) + 40 * (number - 1), bytes(40))


def gaps(number):
    """A PING in every second packet number only, so that the ranges of an ACK are many."""
    return PING


def many_requests(number):
    """As many requests as there may be, then what the application does not read."""
    return stream(4 * number, 0, headers(), fin=True) if number < 100 else PING


CLIENTS = [idle, upload, gaps, many_requests]


def drive(pair, payload, *, packets, first=0, seconds=0.006):
    """Let a client send packets that acknowledge nothing; how many until it was closed, if so."""
    server, client = pair.server, pair.client
    for number in range(first, first + packets):
        pair.now += seconds
        client._packet_number += payload is gaps
        server.receive_datagram(short_packet(client, payload(number)), CLIENT, pair.now)
        act(pair)
        if server.close_event is not None:
            return number
    return packets


def act(pair, client=None):
    """Let the server do what an endpoint would make it do, and answer each request."""
    server = pair.server
    while (event := server.next_event()) is not None:
        if (stream_id := getattr(event, "stream_id", None)) is not None:
            server.grant(stream_id, len(getattr(event, "data", b"")))
            if getattr(event, "end_stream", False) and server.can_send(stream_id):
                server.send_stream_data(stream_id, b"an answer", end_stream=True)
    while (timer := server.get_timer()) is not None and timer <= pair.now:
        server.handle_timer(pair.now)
        if not send(pair, client):
            break
    send(pair, client)


def send(pair, client):
    """Let the server send, to `client` if there is one that listens."""
    datagrams = pair.server.datagrams_to_send(pair.now)
    if client is not None:
        for data, _ in datagrams:
            client.receive_datagram(data, SERVER, pair.now)
    return datagrams


@pytest.mark.parametrize("options", PATHS[:2])
@pytest.mark.parametrize("payload", CLIENTS)
def test_20000_packets_of_a_client_that_acknowledges_nothing_keep_little_or_end_it(
    payload, options
):
    pair = Pair(**options)
    drive(pair, payload, packets=200)  # what is made once
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    drive(pair, payload, packets=20_000, first=200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < MOST_BYTES


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize("payload", [idle, upload])
def test_a_client_that_acknowledges_nothing_is_closed(payload, options):
    pair = Pair(**options)
    assert drive(pair, payload, packets=20_000) < 20_000
    assert pair.server.close_event.error_code == ErrorCode.EXCESSIVE_LOAD
    assert pair.server.exceeded == "too few acknowledgements"


@pytest.mark.parametrize("options", PATHS)
def test_a_client_that_only_sends_is_asked_now_and_then_for_an_acknowledgement(options):
    """Without that it has nothing to acknowledge."""
    pair = Pair(**options)
    pair.client.send_stream_data(0, headers(b"POST"))
    pair.run(1.0)
    answers = 0
    rounds = 10 * ASK_AFTER_PACKETS
    for _ in range(rounds):
        pair.client.send_stream_data(0, bytes(40))
        pair.client_sends()
        pair.now += 0.01
        act(pair, pair.client)
        # When an acknowledgement that was asked for has to come at the latest, and nothing else.
        pair.now += 0.03
        answers += pair.client_sends()
        act(pair)
    assert rounds // ASK_AFTER_PACKETS - 2 <= answers <= rounds // ASK_AFTER_PACKETS + 2
    assert pair.server.close_event is None


@pytest.mark.parametrize("options", PATHS[:2])
def test_a_client_in_earnest_that_only_sends_is_never_closed(options):
    pair = Pair(**options)
    pair.client.send_stream_data(0, headers(b"POST") + numbers(DATA, 1 << 24))
    pair.run(1.0)
    for number in range(3000):
        pair.client.send_stream_data(0, bytes(1000))
        pair.client_sends()
        pair.now += 0.002 if number % 10 else 0.2
        act(pair, pair.client)
    assert pair.server.close_event is None


@asynctest
async def test_instructions_that_a_client_gives_no_credit_for_end_in_excessive_load(monkeypatch):
    """One comes of each request whose fields are in the QPACK table."""
    monkeypatch.setattr(connection, "MAX_INSTRUCTION_BYTES", 64)
    async with serving() as server, StingyClient(server.port) as client:
        client.send(client.encoder, TABLE)
        await client.settled()
        for _ in range(1000):
            client.send(client.open(), frame(HEADERS, SECTION), end=True)
            await client.settled()
            if client.close_code is not None:
                break
        assert client.close_code == ErrorCode.EXCESSIVE_LOAD
        await server.until(lambda: server.connections == [])
        assert server.endpoint.context.limits.met["too many untaken QPACK instructions"] == 1


class StingyClient(H3Client):
    """Gives no more credit for a server's unidirectional streams than its SETTINGS need."""

    def start(self):
        self.quic._local_max_stream_data_uni = 64
        self.quic.withhold_credit = True
        super().start()
