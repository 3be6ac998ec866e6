"""More than the server is to take: of connections, requests, descriptors and log lines."""

import asyncio
import errno
import logging
import socket

import pytest
from aioquic.quic.packet import QuicErrorCode

from tercel.h1 import accepting
from tercel.shared.messages import ResponseHead
from tests.h1.serving import Clock, echo
from tests.h1.serving import serving as serving_h1
from tests.quic.served import serving as serving_h3
from tests.quic.test_endpoint import RawClient, first_flight, next_flight
from tests.support.asynchronous import asynctest, on_both_loops
from tests.support.h3_client import H3Client, headers


async def slow(exchange):
    await asyncio.Event().wait()


async def is_refused(server, **options):
    """Whether a new TCP connection ends before anything is said on it."""
    try:
        client = await server.connect(**options)
        return await client.rest() == b""
    except ConnectionError:
        return True


@on_both_loops
async def test_tcp_connections_over_the_limit_are_reset():
    async with serving_h1(echo, max_connections=2) as server:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            client.get("/x")
            assert (await client.response()).content == b"/x"
        assert await is_refused(server)
        first.close()
        await server.until(lambda: server.acceptor._context.limits.connections < 2)
        again = await server.connect()
        again.get("/y")
        assert (await again.response()).content == b"/y"
        assert server.acceptor._context.limits.met["max_connections"] == 1


@asynctest
async def test_connections_of_one_address_are_limited_on_tcp():
    async with serving_h1(echo, max_connections_per_ip=1) as server:
        first = await server.connect()
        first.get("/x")
        assert (await first.response()).content == b"/x"
        assert await is_refused(server)
        other = await server.connect(local_addr=("127.0.0.2", 0))
        other.get("/z")
        assert (await other.response()).content == b"/z"


async def half_handshake(port, raw, **options):
    """A client whose handshake has come to its last flight, which is not sent."""
    quic, flight = first_flight(port, **options)
    while not quic._handshake_complete:
        for data in flight:
            raw.send(data)
        flight = next_flight(quic, port, await raw.receive())
    return quic, flight


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
@asynctest
async def test_a_quic_client_over_the_limit_when_its_address_is_shown_is_refused_then(limit):
    async with serving_h3(**{limit: 1}) as server:
        limits = server.endpoint.context.limits
        with RawClient(server.port) as raw:
            quic, flight = await half_handshake(server.port, raw)
            assert limits.connections == 0
            async with H3Client(server.port) as client:
                assert (await client.request()).status == 200
                assert limits.connections == 1
                # A request comes along with the end of the handshake: it is not served.
                quic.send_stream_data(0, headers(), end_stream=True)
                for data in [*flight, *next_flight(quic, server.port)]:
                    raw.send(data)
                while quic._close_event is None:
                    next_flight(quic, server.port, await raw.receive())
                assert quic._close_event.error_code == QuicErrorCode.CONNECTION_REFUSED
                assert (await client.request()).status == 200
                assert len(server.connections) == limits.connections == 1
        assert len(server.exchanges) == 2


@asynctest
async def test_a_quic_client_whose_address_a_token_shows_counts_at_once():
    async with serving_h3(retry="always", max_connections_per_ip=1) as server:
        with RawClient(server.port) as raw:
            await half_handshake(server.port, raw)
            assert server.endpoint.context.limits.connections == 1
            async with H3Client(server.port) as client:
                assert client.close_code == QuicErrorCode.CONNECTION_REFUSED
            (connection,) = server.connections
            connection.abandon()
            assert server.endpoint.context.limits.connections == 0


@asynctest
async def test_a_handshake_that_does_not_come_counts_as_a_connection_until_it_is_given_up(tmp_path):
    from tests.h1.conftest import Tls

    tls = Tls(tmp_path)
    async with serving_h1(echo, tls=tls.server, max_connections=1, header_timeout=3) as server:
        _, silent = await asyncio.open_connection(
            "127.0.0.1", int(server.acceptor.addresses[0].rpartition(":")[2])
        )
        limits = server.acceptor._context.limits
        await server.until(lambda: limits.connections == 1)
        assert await is_refused(server, ssl=tls.client, server_hostname="localhost")
        await server.until(lambda: limits.connections == 0)
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get("/x")
        assert (await client.response()).content == b"/x"
        silent.close()


@on_both_loops
async def test_requests_over_the_concurrency_get_503_on_http_1():
    async with serving_h1(slow, max_concurrency=1) as server:
        first = await server.connect()
        first.get("/1")
        await server.application.exchange()
        second = await server.connect()
        for _ in range(2):  # and the connection persists
            second.get("/2")
            response = await second.response()
            assert response.status == 503
            assert response.fields[b"retry-after"] == b"1"
        assert len(server.application.exchanges) == 1


@asynctest
async def test_requests_over_the_concurrency_get_503_on_http_3():
    async with serving_h3(slow, max_concurrency=1) as server, H3Client(server.port) as client:
        client.begin("GET", "/1")
        await server.until(lambda: len(server.exchanges) == 1)
        response = await client.request("POST", "/2", content=b"x" * 1000)
        assert response.status == 503
        assert response.fields[b"retry-after"] == b"1"
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("serving", [serving_h1, serving_h3])
@asynctest
async def test_an_application_that_cannot_begin_takes_no_place(serving, monkeypatch):
    def fails(stream):
        raise RuntimeError("as it is told to")

    async def status_of(server):
        if serving is serving_h1:
            client = await server.connect()
            client.get()
            return (await client.response()).status
        async with H3Client(server.port) as client:
            stream = client.begin("GET", "/")
            await client.until(lambda: stream.done)
            return stream.status

    async def answers(exchange):
        exchange.stream.send_response(ResponseHead(200, []), b"")

    async with serving(answers, max_concurrency=1) as server:
        application = server.application if serving is serving_h1 else server.app
        with monkeypatch.context() as patched:
            patched.setattr(application, "open", fails)
            assert [await status_of(server) for _ in range(3)] == (
                [500] * 3 if serving is serving_h1 else [None] * 3
            )
        assert await status_of(server) == 200


@asynctest
async def test_requests_over_the_rate_of_a_connection_get_429_on_http_1():
    async with serving_h1(echo, clock=Clock(), max_request_rate=2) as server:
        client = await server.connect()
        for _ in range(3):
            client.get("/x")
        statuses = [(await client.response()).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        other = await server.connect()
        other.get("/x")
        assert (await other.response()).status == 200


@asynctest
async def test_requests_over_the_rate_of_a_connection_get_429_on_http_3():
    async with serving_h3(max_request_rate=2) as server, H3Client(server.port) as client:
        await client.settled()
        now = server.endpoint.context.clock()
        server.endpoint.context.clock = lambda: now
        assert [(await client.request()).status for _ in range(3)] == [200, 200, 429]
        async with H3Client(server.port) as other:
            assert (await other.request()).status == 200


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left."""

    left = 0

    def accept(self):
        if Exhausted.left <= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@asynctest
async def test_exhausted_descriptors_pause_accepting_and_are_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.02)
    caplog.set_level(logging.WARNING)
    Exhausted.left = 0
    original = socket.socket
    monkeypatch.setattr(socket, "socket", Exhausted)
    async with serving_h1(echo, clock=Clock()) as server:
        monkeypatch.setattr(socket, "socket", original)
        client = await server.connect()
        client.get("/x")
        limits = server.acceptor._context.limits
        await server.until(lambda: limits.met["file descriptors"] >= 3)
        Exhausted.left = 1
        assert (await client.response()).content == b"/x"
    assert [record.name for record in caplog.records] == ["tercel.limits"]


@asynctest
async def test_a_flood_of_refused_connections_is_a_few_log_lines(caplog):
    caplog.set_level(logging.INFO)
    async with serving_h1(echo, clock=Clock(), max_connections=1) as server:
        keep = await server.connect()
        keep.get("/x")
        await keep.response()
        for _ in range(100):
            assert await is_refused(server)
    assert len(caplog.records) == 1
