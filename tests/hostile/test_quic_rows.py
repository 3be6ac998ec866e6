"""RFC 9000, 9001: what a hostile QUIC client gets from a running endpoint, row by row."""

import asyncio
import contextlib
import os
import random
import secrets
import tracemalloc
from functools import partial

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionId
from aioquic.quic.packet import QuicErrorCode, QuicPacketType, pull_quic_header
from aioquic.tls import Epoch

from tercel.quic import admission, endpoint
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.transport import key_usage
from tercel.quic.transport.abuse_limits import LIMITS, Flood
from tercel.quic.transport.handshake_state import MOST_CONNECTION_IDS
from tests.quic.served import echo, serving
from tests.quic.test_endpoint import RawClient, first_flight, initial, next_flight
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, turns
from tests.support.h3_client import DATA, H3Client, frame, headers
from tests.support.raw_quic import (
    PADDING,
    PING,
    ack,
    crypto,
    initial_packet,
    numbers,
    short_packet,
    stream,
)

# Frames that are small enough for a full packet, and what they are taken from.
CONTROL_FRAMES = {
    "PING": PING,
    "DATA_BLOCKED": b"\x14" + numbers(0),
    "STREAM_DATA_BLOCKED": b"\x15" + numbers(0, 0),
    "STREAMS_BLOCKED": b"\x16" + numbers(0),
    "MAX_DATA that raises nothing": b"\x10" + numbers(1),
    "MAX_STREAM_DATA that raises nothing": b"\x11" + numbers(0, 1),
    "MAX_STREAMS": b"\x13" + numbers(1),
    "a second ACK in a packet": ack(0),
    "RESET_STREAM that repeats": b"\x04" + numbers(4, 0, len(headers())),
    "STOP_SENDING that repeats": b"\x05" + numbers(0, 0),
    "CRYPTO that repeats": crypto(0, b""),
    "PATH_RESPONSE to nothing": b"\x1b" + bytes(8),
}


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
def packet_path(request):
    """Whether the fast path is on."""
    return request.param


async def throw(client, payload, *, times, per_packet=1):
    """Send a payload in as many packets as it takes, until the server has had enough of it.

    Some packets at a time: the next are sent when the server has taken them.
    """
    sent = 0
    while sent < times and client.close_code is None:
        for _ in range(32):
            client.send_packet(payload * per_packet)
            sent += per_packet
        await client.settled()
    return sent


async def answers_to(raw, data, *, times, refused):
    """How many answers come to so many of `data`; `refused` counts those that get none.

    Some at a time: no buffer of the kernel's overflows, however long the server is kept waiting.
    """
    sent = answers = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sent < times:
            for _ in range(min(50, times - sent)):
                raw.send(data())
                sent += 1
            while answers + refused() < sent:
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    while raw.sock.recv(65_535):
                        answers += 1
    return answers


async def connected(server, **options):
    """A client with one request behind it."""
    client = await H3Client(server.port, **options).__aenter__()
    assert (await client.request()).status == 200
    return client


# -- floods -------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", CONTROL_FRAMES.values(), ids=CONTROL_FRAMES.keys())
@asynctest
async def test_a_flood_of_control_frames_ends_in_excessive_load(payload):
    burst = LIMITS[Flood.CONTROL_FRAMES][0]
    async with serving() as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        held = client.open()
        client.send(held, headers(), flush=True)
        await client.settled()
        per_packet = 1000 // len(payload)
        sent = await throw(client, payload, times=20 * burst, per_packet=per_packet)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert sent <= 2 * burst + 64 * per_packet
        assert server.endpoint.context.limits.met["too many control frames"] == 1


@pytest.mark.parametrize(
    "payload", [stream(0, 0, b""), stream(4, 0, headers()[:1])], ids=["of the past", "of now"]
)
@asynctest
async def test_a_flood_of_stream_data_that_is_there_already_ends_in_excessive_load(payload):
    async with serving() as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        client.send(client.open(), headers(b"POST"))
        await client.settled()
        await throw(client, payload, times=400_000, per_packet=1000 // len(payload))
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many repetitions"] == 1


@pytest.mark.parametrize("payload", [PADDING * 20, PADDING * 1000], ids=["short", "long"])
@asynctest
async def test_a_flood_of_packets_with_nothing_but_padding_ends_in_excessive_load(payload):
    burst, _ = LIMITS[Flood.IDLE_PACKETS]
    async with serving() as server, H3Client(server.port) as client:
        await throw(client, payload, times=10 * burst)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many idle packets"] == 1


@asynctest
async def test_a_flood_of_new_connection_ids_ends_in_excessive_load():
    async with serving() as server, H3Client(server.port) as client:
        issued = 0
        while client.close_code is None:
            # One more of the client's own, which retires all before it; and as the client answers
            # to it, it hears and acknowledges what comes of that.
            new = QuicConnectionId(os.urandom(8), client.quic._host_cid_seq, os.urandom(16), True)
            client.quic._host_cid_seq += 1
            client.quic._host_cids.append(new)
            retiring = numbers(new.sequence_number, new.sequence_number)
            client.send_packet(b"\x18" + retiring + b"\x08" + new.cid + new.stateless_reset_token)
            await client.settled()
            issued += 1
            assert issued <= 4 * LIMITS[Flood.CONNECTION_IDS][0]
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many connection ids"] == 1


@asynctest
async def test_a_flood_of_retired_connection_ids_ends_in_excessive_load():
    async with serving() as server, H3Client(server.port) as client:
        changes = 0
        while client.close_code is None:
            client.quic.change_connection_id()
            client.flush()
            await turns(8)
            changes += 1
            assert len(server.endpoint._by_cid) <= 10
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert changes >= 50
        assert server.endpoint.context.limits.met["too many connection ids"] == 1


@asynctest
async def test_a_flood_of_path_challenges_ends_in_excessive_load():
    async with serving() as server, H3Client(server.port) as client:
        await throw(client, b"\x1a" + bytes(8), times=2000, per_packet=4)
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert server.endpoint.context.limits.met["too many paths"] == 1


@asynctest
async def test_paths_that_a_client_tries_are_bounded():
    async with serving() as server, H3Client(server.port) as client:
        (connection,) = server.connections
        for _ in range(40):
            client.migrate()
            await client.settled()
        assert len(connection.quic.network_paths) <= 8
        assert (await client.request()).status == 200


# -- gaps -----------------------------------------------------------------------------------------


@asynctest
async def test_gaps_in_stream_data_hold_what_arrived_and_not_what_is_missing():
    """RUSTSEC-2026-0185: four streams, each with its whole window missing but the last byte."""
    async with serving() as server, H3Client(server.port) as client:
        for _ in range(4):
            client.quic.send_stream_data(client.open().id, b"")  # so that the client knows them
        await client.settled()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for stream_id in range(0, 16, 4):
            payload = stream(stream_id, 1_048_575, b"x")
            client._socket.sendto(short_packet(client.quic, payload), client._address)
        await client.settled()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak - before < 262_144, "4 MiB of credit, 4 bytes of data"
        for stream_id in range(0, 16, 4):
            payload = b"\x04" + numbers(stream_id, 0x10C, 1_048_576)
            client._socket.sendto(short_packet(client.quic, payload), client._address)
        await client.settled()
        assert client.close_code is None


@asynctest
async def test_gaps_on_all_streams_stay_within_the_window_of_the_connection():
    async with serving() as server, H3Client(server.port) as client:
        for stream_id in range(0, 4 * 128, 4):
            payload = stream(stream_id, 1_048_575, b"x")
            client._socket.sendto(short_packet(client.quic, payload), client._address)
        assert await client.close_reason() == QuicErrorCode.FLOW_CONTROL_ERROR


@asynctest
async def test_stream_data_in_thousands_of_pieces_ends_in_excessive_load():
    async with serving() as server, H3Client(server.port) as client:
        for start in range(0, 20_000, 200):
            pieces = [stream(0, 1 + 2 * index, b"x") for index in range(start, start + 200)]
            client._socket.sendto(short_packet(client.quic, b"".join(pieces)), client._address)
            await turns(4)
            if client.close_code is not None:
                break
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD


@asynctest
async def test_stream_data_in_any_order_arrives_whole():
    content = os.urandom(60_000)
    data = headers(b"POST") + frame(DATA, content)
    pieces = [(offset, data[offset : offset + 700]) for offset in range(0, len(data), 500)]
    secrets.SystemRandom().shuffle(pieces)
    async with serving(echo) as server, H3Client(server.port) as client:
        await client.settled()
        answer = client.open()
        client.quic.send_stream_data(answer.id, b"")  # so that aioquic knows the stream
        for offset, piece in pieces:
            last = offset + len(piece) == len(data)
            payload = stream(answer.id, offset, piece, fin=last)
            client._socket.sendto(short_packet(client.quic, payload), client._address)
            await turns(2)
        await client.until(lambda: answer.ended)
        assert answer.content == content
        assert server.connections[0].quic.budgets.fragments == 0


@pytest.mark.parametrize("offset", [70_000, 400_000, 500_000_000])
@asynctest
async def test_crypto_data_with_a_wide_gap_ends_in_crypto_buffer_exceeded(offset):
    """CVE-2024-1765, CVE-2025-54939: one Initial made others keep half a megabyte."""
    async with serving() as server:
        with RawClient(server.port) as raw:
            quic, _ = first_flight(server.port)
            raw.send(initial_packet(quic, crypto(offset, b"x")))
            next_flight(quic, server.port, await raw.receive())
            assert quic._close_event.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED


@asynctest
async def test_crypto_data_with_gaps_holds_what_arrived_and_not_what_is_missing():
    async with serving(retry="never") as server:
        with RawClient(server.port) as raw:
            costs = []
            for offset in (1, 60_000):
                clients = [first_flight(server.port)[0] for _ in range(20)]
                packets = [initial_packet(quic, crypto(offset, b"x")) for quic in clients]
                known = len(server.connections)
                tracemalloc.start()
                for packet in packets:
                    raw.send(packet)
                await server.until(lambda known=known: len(server.connections) == known + 20)
                costs.append(tracemalloc.get_traced_memory()[0] / 20)
                tracemalloc.stop()
        assert abs(costs[1] - costs[0]) < 10_000


@asynctest
async def test_a_client_hello_without_end_is_not_collected():
    async with serving() as server:
        with RawClient(server.port) as raw:
            quic, _ = first_flight(server.port)
            hello = b"\x01\xff\xff\xff" + bytes(996)  # sixteen megabytes to come
            for offset in range(0, 70_000, 1000):
                raw.send(initial_packet(quic, crypto(offset, hello)))
                hello = bytes(1000)
                await turns(2)
            quic.receive_datagram(await raw.receive(), ("127.0.0.1", server.port), 0)
            while quic._close_event is None:
                next_flight(quic, server.port, await raw.receive())
            assert quic._close_event.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED


# -- acknowledgements ---------------------------------------------------------------------------


@asynctest
async def test_an_ack_of_a_packet_that_was_never_sent_is_a_protocol_violation():
    async with serving() as server, H3Client(server.port) as client:
        await client.settled()
        client._socket.sendto(short_packet(client.quic, ack(1_000_000)), client._address)
        assert await client.close_reason() == QuicErrorCode.PROTOCOL_VIOLATION


@asynctest
async def test_an_optimistic_ack_is_a_protocol_violation():
    """CVE-2025-4820, CVE-2025-4821: who acknowledges all that may have been sent is found out."""
    async with serving(echo) as server, H3Client(server.port) as client:
        (connection,) = server.connections
        while not connection.quic._skipped:
            assert (await client.request("POST", content=b"x" * 20_000)).status == 200
        latest = connection.quic._packet_number - 1
        payload = ack(latest, latest - 3)
        client._socket.sendto(short_packet(client.quic, payload), client._address)
        assert await client.close_reason() == QuicErrorCode.PROTOCOL_VIOLATION


@asynctest
async def test_packet_numbers_that_were_left_out_disturb_nobody():
    async with serving(echo) as server, H3Client(server.port) as client:
        for _ in range(40):
            response = await client.request("POST", content=b"x" * 20_000)
            assert len(response.content) == 20_000
        assert len(server.connections[0].quic._skipped) >= 2
        assert client.close_code is None


# -- addresses that were not validated ----------------------------------------------------------


@asynctest
async def test_an_unvalidated_address_gets_at_most_three_times_what_it_sent():
    async with serving(handshake_timeout=1.5, retry="never") as server:
        with RawClient(server.port) as raw:
            _, (first, *_) = first_flight(server.port)
            raw.send(first)
            await server.until(lambda: server.connections != [])
            await server.until(lambda: server.connections == [])
            received = 0
            while True:
                try:
                    received += len(raw.sock.recv(65_535))
                except BlockingIOError:
                    break
        assert 1200 < received <= 3 * len(first)


@asynctest
async def test_an_address_a_client_moves_to_is_not_trusted_before_it_was_validated():
    """CVE-2024-45397: one packet from a forged address must not bring a download to it."""

    def app(exchange):
        exchange.respond(200, b"x" * 400_000)

    async with serving(app) as server, H3Client(server.port) as client:
        await client.settled()
        with RawClient(server.port) as victim:
            client.quic.send_stream_data(client.open().id, headers(), end_stream=True)
            now = asyncio.get_running_loop().time()
            sent = 0
            for data, _ in client.quic.datagrams_to_send(now):
                victim.send(data)
                sent += len(data)
            await server.until(lambda: len(server.exchanges) == 1)
            await asyncio.sleep(0.3)  # so that probes are in it, too
            received = 0
            while True:
                try:
                    received += len(victim.sock.recv(65_535))
                except BlockingIOError:
                    break
        assert 0 < received <= 3 * sent
        for connection in server.connections:
            connection.abandon()


@asynctest
async def test_handshakes_do_not_keep_connected_clients_waiting(monkeypatch):
    """However many Initials come in one batch, a few are opened between others' requests."""
    opened = []

    def app(exchange):
        opened.append(len(server.connections))
        exchange.respond(200)

    monkeypatch.setattr(endpoint, "_HANDSHAKES", 1)
    async with serving(app, retry="never") as server, H3Client(server.port) as client:
        await client.settled()
        with RawClient(server.port) as raw:
            for _ in range(40):
                raw.send(first_flight(server.port)[1][0])
            stream = client.begin()
            await client.until(lambda: stream.done)
            assert stream.status == 200
            assert opened[0] < 41
            await server.until(lambda: len(server.connections) == 41)


@asynctest
async def test_nothing_is_allocated_for_an_initial_under_pressure():
    async with serving(retry_half_open=0) as server:
        with RawClient(server.port) as raw:
            for _ in range(50):
                raw.send(first_flight(server.port)[1][0])
                header = pull_quic_header(Buffer(data=await raw.receive()), 8)
                assert header.packet_type is QuicPacketType.RETRY
        assert (server.connections, server.endpoint._by_cid) == ([], {})


@asynctest
async def test_retry_begins_by_itself_while_half_open_connections_press():
    async with serving(retry_half_open=3) as server, H3Client(server.port) as client:
        assert client.quic._retry_count == 0
        await client.settled()
        with RawClient(server.port) as raw:
            for _ in range(3):
                raw.send(first_flight(server.port)[1][0])
            await server.until(lambda: len(server.connections) == 4)
            async with H3Client(server.port) as later:
                assert later.quic._retry_count == 1
                assert (await later.request()).status == 200
        assert server.endpoint.context.limits.met["retry_half_open"] >= 1


@asynctest
async def test_retry_begins_by_itself_above_a_rate_of_initials_and_ends_with_it():
    async with serving(retry_initial_rate=4) as server:
        now = [1000.0]
        server.endpoint._entrance._context.clock = lambda: now[0]
        counts = []
        for _ in range(4):
            async with H3Client(server.port) as client:
                counts.append(client.quic._retry_count)
        assert counts == [0, 0, 1, 1]
        now[0] += 3.0
        async with H3Client(server.port) as client:
            assert client.quic._retry_count == 0


@asynctest
async def test_a_flood_of_initials_is_shed_but_for_those_with_a_token(monkeypatch):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 200)
    tokens = []
    async with serving(retry="always") as server:
        client = H3Client(server.port)
        client.quic._token_handler = tokens.append
        async with client:
            await client.until(lambda: tokens != [])
        now = server.endpoint.context.clock() + 10
        server.endpoint.context.clock = lambda: now
        with RawClient(server.port) as raw:
            data, met = first_flight(server.port)[1][0], server.endpoint.context.limits.met
            refused = partial(met.__getitem__, "initials")
            assert await answers_to(raw, lambda: data, times=300, refused=refused) == 200
            assert refused() == 100
        async with H3Client(server.port, token=tokens[0]) as again:
            assert (await again.request()).status == 200


class StrangersInitials:
    """350 Initials a second where a hundred are looked into, at random times of a fake clock."""

    def __init__(self, server, raw):
        self.now = server.endpoint.context.clock() + 10
        server.endpoint.context.clock = lambda: self.now
        self.answered = 0
        self._met = server.endpoint.context.limits.met
        self._raw = raw
        self._data = initial()
        self._random = random.Random(1)

    async def is_answered(self, raw, data):
        """Whether a datagram, which comes some time after the one before, gets an answer."""
        self.now += self._random.expovariate(350)
        before = self._met["initials"]
        return await answers_to(
            raw, lambda: data, times=1, refused=lambda: self._met["initials"] - before
        )

    async def go_on(self, count):
        """Let so many of them come."""
        for _ in range(count):
            self.answered += await self.is_answered(self._raw, self._data)


@asynctest
async def test_of_a_flood_of_initials_as_many_as_the_limit_are_answered(monkeypatch):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 100)
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            flood = StrangersInitials(server, raw)
            begin = flood.now
            await flood.go_on(1000)
        expected = 100 + 100 * (flood.now - begin)
        assert flood.answered == pytest.approx(expected, abs=2)


@asynctest
async def test_a_flood_of_initials_keeps_no_honest_client_out(monkeypatch):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 100)
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            flood = StrangersInitials(server, raw)
            await flood.go_on(350)
            for _ in range(30):
                with RawClient(server.port) as honest:
                    _, (first, *_) = first_flight(server.port)
                    # Without an answer each sends its Initial again, as clients do.
                    for _ in range(20):
                        if await flood.is_answered(honest, first):
                            break
                        await flood.go_on(3)
                    else:
                        pytest.fail("an honest client sent 20 Initials in vain")


@asynctest
async def test_retry_never_begins_where_it_is_switched_off():
    async with (
        serving(retry="never", retry_half_open=0, retry_initial_rate=0) as server,
        H3Client(server.port) as client,
    ):
        assert client.quic._retry_count == 0


@asynctest
async def test_a_token_from_the_last_connection_spares_the_retry():
    tokens = []
    async with serving(retry="always") as server:
        client = H3Client(server.port)
        client.quic._token_handler = tokens.append
        async with client:
            assert client.quic._retry_count == 1
            await client.until(lambda: tokens != [])
        async with H3Client(server.port, token=tokens[0]) as again:
            assert again.quic._retry_count == 0
            assert (await again.request()).status == 200
        server.endpoint.context.limits.met.clear()
        forged = tokens[0][:-1] + bytes([tokens[0][-1] ^ 1])
        async with H3Client(server.port, token=forged) as other:
            assert other.quic._retry_count == 1


async def address_token(server, **options):
    """What a client at an address is given to show the next time."""
    tokens = []
    client = H3Client(server.port, **options)
    client.quic._token_handler = tokens.append
    async with client:
        await client.until(lambda: tokens != [])
    await server.until(lambda: server.connections == [])
    return tokens[0]


@asynctest
async def test_an_address_token_is_good_once_and_then_as_none():
    async with serving(retry="always") as server:
        token = await address_token(server)
        for retries in (0, 1, 1):
            async with H3Client(server.port, token=token) as client:
                assert client.quic._retry_count == retries
                assert (await client.request()).status == 200


@asynctest
async def test_a_second_use_of_an_address_token_is_held_to_three_times_what_came():
    async with serving(retry="auto") as server:
        token = await address_token(server)
        with RawClient(server.port) as raw:
            for validated in (True, False):
                raw.send(first_flight(server.port, token=token)[1][0])
                await server.until(lambda: len(server.connections) == 1)
                (connection,) = server.connections
                assert connection.quic.network_paths[0].is_validated is validated
                connection.abandon()


@pytest.mark.parametrize(("retry", "connections"), [("always", 0), ("auto", 1)])
@asynctest
async def test_the_token_of_a_retry_shows_an_address_once(retry, connections):
    limits = {} if retry == "always" else {"retry_initial_rate": 1}
    async with serving(retry=retry, **limits) as server:
        with RawClient(server.port) as raw:
            now = server.endpoint.context.clock()
            server.endpoint.context.clock = lambda: now
            raw.send(first_flight(server.port)[1][0])  # the last without a Retry
            await raw.answers()
            for connection in server.connections:
                connection.abandon()
            quic, (first, *_) = first_flight(server.port)
            raw.send(first)
            (second, *_) = next_flight(quic, server.port, await raw.receive())
            raw.send(second)
            await server.until(lambda: len(server.connections) == 1)
            (connection,) = server.connections
            assert connection.quic.network_paths[0].is_validated
            connection.abandon()
            now += 1.0
            raw.send(second)
            await raw.answers()
            assert len(server.connections) == connections
            for connection in server.connections:
                assert not connection.quic.network_paths[0].is_validated


@asynctest
async def test_a_token_whose_initial_is_dropped_is_good_when_that_comes_again():
    async with serving(retry="always", max_half_open_connections=1) as server:
        token = await address_token(server)
        with RawClient(server.port) as raw, RawClient(server.port) as other:
            _, (retried, *_) = first_flight(server.port, token=token)
            quic, (first, *_) = first_flight(server.port)
            raw.send(first)
            (second, *_) = next_flight(quic, server.port, await raw.receive())
            raw.send(second)
            await server.until(lambda: len(server.connections) == 1)
            other.send(retried)
            await other.answers()
            server.connections[0].abandon()
            other.send(retried)
            await server.until(lambda: len(server.connections) == 1)


@asynctest
async def test_one_address_does_not_take_all_places_of_handshakes():
    async with serving(host="0.0.0.0", retry="always", max_half_open_connections=20) as server:
        with RawClient(server.port) as raw:
            for _ in range(30):
                quic, (first, *_) = first_flight(server.port)
                raw.send(first)
                while (answer := await raw.receive())[0] & 0xF0 != 0xF0:
                    pass  # not a Retry, but what one before had for its second Initial
                for data in next_flight(quic, server.port, answer):
                    raw.send(data)
            await raw.answers()
            met = server.endpoint.context.limits.met
            assert (len(server.connections), met["max_half_open_connections"]) == (11, 19)
            async with H3Client(server.port, host="127.0.0.2") as other:
                assert (await other.request()).status == 200


@pytest.mark.parametrize("token", [b"made up", b"\x02made up"])
@asynctest
async def test_made_up_tokens_spare_nobody_the_limit_of_a_flood(token, monkeypatch):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 50)
    async with serving(retry="always") as server:
        now = server.endpoint.context.clock() + 10
        server.endpoint.context.clock = lambda: now
        with RawClient(server.port) as raw:
            refused = partial(server.endpoint.context.limits.met.__getitem__, "initials")
            data = partial(initial, token=token)
            assert await answers_to(raw, data, times=100, refused=refused) == 50


@asynctest
async def test_version_negotiation_is_held_to_the_limit_of_a_flood(monkeypatch):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 50)
    async with serving() as server:
        now = server.endpoint.context.clock() + 10
        server.endpoint.context.clock = lambda: now
        data = initial(0x1A2A3A4A, token=b"not one in this version")
        with RawClient(server.port) as raw:
            refused = partial(server.endpoint.context.limits.met.__getitem__, "initials")
            assert await answers_to(raw, lambda: data, times=100, refused=refused) == 50


@asynctest
async def test_tokens_are_good_for_every_server_with_the_same_key(tmp_path):
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    tokens = []
    async with (
        serving(retry="always", token_key=str(key)) as one,
        serving(retry="always", token_key=str(key)) as other,
        serving(retry="always") as stranger,
    ):
        client = H3Client(one.port)
        client.quic._token_handler = tokens.append
        async with client:
            await client.until(lambda: tokens != [])
        async with H3Client(other.port, token=tokens[0]) as again:
            assert again.quic._retry_count == 0
        async with H3Client(stranger.port, token=tokens[0]) as again:
            assert again.quic._retry_count == 1


@asynctest
async def test_initials_beyond_the_half_open_cap_are_dropped():
    async with serving(max_half_open_connections=2, retry="never") as server:
        with RawClient(server.port) as raw:
            for _ in range(10):
                raw.send(first_flight(server.port)[1][0])
            await raw.answers()
        assert len(server.connections) == 2
        assert server.endpoint.context.limits.met["max_half_open_connections"] == 8


# -- stateless reset ------------------------------------------------------------------------------


@asynctest
async def test_a_packet_of_a_forgotten_connection_is_answered_by_its_reset_token(tmp_path):
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    async with serving(token_key=str(key)) as server, H3Client(server.port) as client:
        await client.settled()
        ids = [client.quic._peer_cid, *client.quic._peer_cid_available]
        packets = []
        for connection_id in ids:
            client.quic._peer_cid = connection_id
            packets.append(short_packet(client.quic, PING))
        client.vanish()
    known = [connection_id.stateless_reset_token for connection_id in ids[1:]]
    assert len(known) == MOST_CONNECTION_IDS - 1
    # After a restart nothing is known but the key.
    async with serving(token_key=str(key)) as server:
        with RawClient(server.port) as raw:
            tokens = []
            for packet in packets:
                raw.send(packet)
                answer = await raw.receive()
                assert len(answer) < len(packet)
                assert answer[0] & 0xC0 == 0x40
                tokens.append(answer[-16:])
    assert tokens[1:] == known
    assert len(set(tokens)) == MOST_CONNECTION_IDS


@pytest.mark.parametrize("size", [1, 8, 21])
@asynctest
async def test_a_packet_too_short_for_a_smaller_reset_gets_no_answer(size):
    async with serving() as server:
        with RawClient(server.port) as raw:
            raw.send(b"\x41" * size)
            assert await raw.answers() == []


@asynctest
async def test_two_servers_do_not_reset_each_other_for_ever():
    async with serving() as server:
        with RawClient(server.port) as raw:
            data, answers = b"\x41" * 1200, 0
            raw.send(data)
            while (data := await raw.receive())[6:11] != b"PROBE":
                answers += 1
                raw.send(data)
                if len(data) <= 21:
                    break
            assert await raw.answers() == []
        assert 1 <= answers <= 22


@asynctest
async def test_of_a_flood_of_stray_packets_as_many_as_the_limit_get_a_stateless_reset():
    async with serving() as server:
        now = [1000.0]
        server.endpoint.context.clock = lambda: now[0]
        met = server.endpoint.context.limits.met
        with RawClient(server.port) as raw:
            for seconds in range(3):
                answers = await answers_to(
                    raw,
                    lambda: b"\x41" + os.urandom(40),
                    times=500,
                    refused=lambda before=met["stateless resets"]: met["stateless resets"] - before,
                )
                assert (answers, met["stateless resets"]) == (200, 300 * (seconds + 1))
                now[0] += 1.0


# -- keys -----------------------------------------------------------------------------------------


@asynctest
async def test_keys_are_updated_long_before_they_are_worn_out(monkeypatch):
    monkeypatch.setattr(key_usage, "KEY_UPDATE_AFTER", 40)
    async with serving(echo) as server, H3Client(server.port) as client:
        (connection,) = server.connections
        keys = connection.quic._cryptos[Epoch.ONE_RTT]
        secrets_seen = set()
        for _ in range(20):
            response = await client.request("POST", content=b"x" * 20_000)
            assert len(response.content) == 20_000
            secrets_seen.add(keys.send.secret)
        assert len(secrets_seen) >= 3
        assert client.close_code is None


def test_a_key_protects_no_more_packets_than_rfc_9001_6_6_allows():
    assert key_usage.KEY_UPDATE_AFTER < key_usage.CONFIDENTIALITY_LIMIT == 2**23
    assert (key_usage.INTEGRITY_LIMIT, key_usage.INTEGRITY_LIMIT_CHACHA20) == (2**52, 2**36)


@asynctest
async def test_a_flood_of_key_updates_ends_in_excessive_load(packet_path):
    burst, _ = LIMITS[Flood.KEY_UPDATES]
    async with serving(quic_fast_path=packet_path) as server, H3Client(server.port) as client:
        await client.settled()  # before the handshake is confirmed updates wait
        updates = 0
        while client.close_code is None:
            client.quic.request_key_update()
            await client.settled()
            updates += 1
        assert await client.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert updates == burst + 1
        assert server.endpoint.context.limits.met["too many key updates"] == 1


@asynctest
async def test_two_key_updates_without_an_answer_between_are_a_key_update_error(packet_path):
    """RFC 9001 6.2: the first has to be acknowledged before the second."""
    async with serving(quic_fast_path=packet_path) as server, H3Client(server.port) as client:
        await client.settled()
        # In one batch of the server's, which answers when it has taken all of it.
        for _ in range(3):
            client.quic.request_key_update()
            client.quic.send_ping(0)
            for data, address in client.quic.datagrams_to_send(asyncio.get_running_loop().time()):
                client._socket.sendto(data, address)
        (connection,) = server.connections
        await server.until(lambda: connection.quic.close_event is not None)
        assert connection.quic.close_event.error_code == QuicErrorCode.KEY_UPDATE_ERROR


@asynctest
async def test_key_updates_of_a_client_in_earnest_disturb_nobody(packet_path):
    async with (
        serving(echo, quic_fast_path=packet_path) as server,
        H3Client(server.port) as client,
    ):
        await client.settled()
        for _ in range(20):
            client.quic.request_key_update()
            response = await client.request("POST", content=b"x" * 20_000)
            assert len(response.content) == 20_000
        assert client.close_code is None


@asynctest
async def test_too_many_forged_packets_end_in_aead_limit_reached(monkeypatch):
    monkeypatch.setattr(key_usage, "INTEGRITY_LIMIT", 20)
    monkeypatch.setattr(key_usage, "INTEGRITY_LIMIT_CHACHA20", 20)
    async with serving() as server, H3Client(server.port) as client:
        await client.settled()
        for number in range(25):
            packet = bytearray(short_packet(client.quic, PING * 20))
            packet[-1] ^= 1
            client._socket.sendto(packet, client._address)
            if number == 18:
                await client.settled()  # a few are nothing
        assert await client.close_reason() == QuicErrorCode.AEAD_LIMIT_REACHED


# -- what is never answered -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 20, 500, 1199])
@asynctest
async def test_an_initial_in_less_than_1200_bytes_is_never_answered(size):
    async with serving() as server:
        with RawClient(server.port) as raw:
            quic, _ = first_flight(server.port)
            raw.send(initial_packet(quic, crypto(0, b"x"))[:size])
            raw.send(initial()[:size])
            assert await raw.answers() == []
        assert server.connections == []


@asynctest
async def test_version_negotiation_is_never_answered():
    async with serving() as server:
        with RawClient(server.port) as raw:
            raw.send((b"\xc0" + bytes(4) + b"\x08probe-ab\x08probe-cd").ljust(1200, b"\0"))
            assert await raw.answers() == []


# -- others ---------------------------------------------------------------------------------------


@asynctest
async def test_a_flood_on_one_connection_does_not_touch_another():
    async with serving() as server, H3Client(server.port) as good, H3Client(server.port) as bad:
        flood = asyncio.ensure_future(throw(bad, PING, times=10_000, per_packet=500))
        while not flood.done():
            assert (await good.request()).status == 200
        await flood
        assert await bad.close_reason() == ErrorCode.EXCESSIVE_LOAD
        assert (await good.request()).status == 200
