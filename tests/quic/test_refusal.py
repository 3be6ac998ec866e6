"""Clients that are not served are told so at once, by CONNECTION_REFUSED (RFC 9000 5.2.2)."""

import asyncio
from functools import partial

import pytest
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicProtocolVersion

from tercel.quic import admission, endpoint
from tercel.quic.refusal import refusal
from tests.hostile.test_quic_rows import answers_to
from tests.quic.served import hello, serving
from tests.quic.test_endpoint import RawClient, first_flight, initial, long_header, next_flight
from tests.support.asynchronous import asynctest, on_both_loops
from tests.support.h3_client import H3Client

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
REFUSED = QuicErrorCode.CONNECTION_REFUSED

each_version = pytest.mark.parametrize(
    "versions",
    [
        {"supported_versions": [V1], "original_version": V1},
        {"supported_versions": [V2], "original_version": V2},
        {"supported_versions": [V2, V1], "original_version": V1},
    ],
    ids=["1", "2", "1 to 2"],
)


async def is_refused(server, **options):
    """Whether a client's handshake is answered by CONNECTION_REFUSED."""
    async with H3Client(server.port, **options) as client:
        return client.close_code == REFUSED


@each_version
@asynctest
async def test_a_client_reads_what_its_initial_is_answered_by(versions):
    quic, (first, *_) = first_flight(443, **versions)
    answer = refusal(first, REFUSED, "because")
    assert len(answer) < 100, "without padding, as it asks for no acknowledgement"
    quic.receive_datagram(answer, ("127.0.0.1", 443), 0)
    event = quic._close_event
    assert (event.error_code, event.frame_type) == (REFUSED, QuicFrameType.PADDING)
    assert event.reason_phrase == "because"


@pytest.mark.parametrize("size", [8, 14, 20])
def test_connection_ids_may_have_any_length(size):
    destination, source = b"d" * size, b"s" * (20 - size)
    answer = refusal(initial(destination=destination, source=source), REFUSED, "")
    assert answer[5:].startswith(
        bytes([len(source)]) + source + bytes([len(destination)]) + destination
    )


# -- when -----------------------------------------------------------------------------------------


@each_version
@on_both_loops
async def test_a_client_that_comes_while_the_server_stops_is_refused_at_once(versions):
    release = asyncio.Event()

    async def slow(exchange):
        await release.wait()
        exchange.respond(200, b"done")

    async with serving(slow) as server, H3Client(server.port) as running:
        stream = running.begin()
        await server.until(lambda: len(server.exchanges) == 1)
        server.endpoint.stop_accepting()
        assert await is_refused(server, **versions)
        assert len(server.connections) == 1
        release.set()
        await running.until(lambda: stream.done)
        assert bytes(stream.content) == b"done"


@asynctest
async def test_clients_whose_handshake_waits_to_begin_are_refused_when_the_server_stops(
    monkeypatch,
):
    monkeypatch.setattr(endpoint, "_HANDSHAKES", 1)
    async with serving(retry="never") as server:
        clients = [H3Client(server.port) for _ in range(20)]
        for client in clients:
            client.start()
        await server.until(lambda: server.connections != [])
        begun = len(server.connections)
        server.endpoint.stop_accepting()
        for client in clients:
            await client.until(lambda client=client: client.connected or client.close_code)
        assert [client.close_code for client in clients].count(REFUSED) == 20 - begun > 0
        for client in clients:
            client.close()


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
@asynctest
async def test_a_client_over_a_limit_of_connections_is_refused_at_once(limit):
    async with serving(**{limit: 1}) as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        assert await is_refused(server)
        assert server.endpoint.context.limits.met[limit] == 1
        assert (await client.request()).status == 200


@asynctest
async def test_a_client_that_comes_while_memory_is_short_is_refused_at_once():
    async with serving() as server:
        server.endpoint.context.limits.memory_ran_out()
        assert await is_refused(server)


@asynctest
async def test_a_client_is_refused_before_it_has_to_show_its_address():
    async with serving(retry="always", max_connections=1) as server, H3Client(server.port) as first:
        assert (await first.request()).status == 200
        async with H3Client(server.port) as client:
            assert client.close_code == REFUSED
            assert client.quic._retry_count == 0


@asynctest
async def test_a_client_whose_retry_token_is_not_valid_is_told_so_at_once():
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw, RawClient(server.port) as thief:
            quic, (first, *_) = first_flight(server.port)
            raw.send(first)
            (second, *_) = next_flight(quic, server.port, await raw.receive())
            thief.send(second)
            next_flight(quic, server.port, await thief.receive())
            assert quic._close_event.error_code == QuicErrorCode.INVALID_TOKEN
        assert server.connections == []


# -- what keeps silence ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        initial()[:1199],
        initial(V2)[:1199],
        long_header(V1, first=0xE0),  # Handshake
        long_header(V1, first=0xD0),  # 0-RTT
        initial(destination=b"1234567"),
    ],
    ids=lambda data: f"{len(data)}-{data[:12].hex()}",
)
@asynctest
async def test_what_opens_no_connection_is_not_refused_either(data):
    async with serving() as server:
        server.endpoint.stop_accepting()
        with RawClient(server.port) as raw:
            raw.send(data)
            assert await raw.answers() == []


@asynctest
async def test_of_a_flood_as_many_as_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(admission, "_REFUSAL_RATE", 20)
    async with serving(hello) as server:
        server.endpoint.stop_accepting()
        server.endpoint.context.clock = lambda: 1000.0
        met = server.endpoint.context.limits.met
        with RawClient(server.port) as raw:
            refused = partial(met.__getitem__, "refusals")
            assert await answers_to(raw, initial, times=50, refused=refused) == 20
        assert met["refusals"] == 30
