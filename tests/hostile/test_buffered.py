"""Clients that make the server hold all they can, and take nothing: they pay, and nobody else."""

import asyncio
import contextlib
import sys

import pytest

from tercel.shared.messages import ResponseHead
from tests.contract.websocket.h3 import extended_connect
from tests.contract.websocket.test_unfinished import compressed_fragment
from tests.h1.conftest import Tls
from tests.h1.serving import serving as serving_h1
from tests.quic.served import serving as serving_h3
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, on_both_loops
from tests.support.h3_client import DATA, H3Client, frame, headers
from tests.support.process import ServerProcess

MIB = 1 << 20
PIECE = bytes(16_384)
REQUESTS = 128
LARGE = 16 * MIB  # of which the kernel takes up to four by itself


# -- HTTP/3 ---------------------------------------------------------------------------------------


async def endless(exchange):
    """Sends as long as it may; /small is one small response."""
    if exchange.path == b"/small":
        exchange.respond(200, b"small")
        return
    exchange.stream.send_head(ResponseHead(200, []))
    while True:
        exchange.stream.send_content(PIECE)
        await exchange.stream.drain()


@contextlib.asynccontextmanager
async def silent(port, requests=REQUESTS):
    """A client that asks for much, with credit for all of it, and is not heard of any more."""
    async with H3Client(port, max_data=1 << 30, max_stream_data=1 << 26) as client:
        await client.settled()
        for _ in range(requests):
            client.send(client.open(), headers(), end=True, flush=False)
        client.flush()
        client.vanish()
        yield client


@asynctest
async def test_what_a_silent_http_3_client_makes_the_server_hold_is_little_beside_its_requests():
    """What each exchange has in its hands, and not a share of megabytes."""
    async with serving_h3(endless) as server, silent(server.port):
        await server.until(lambda: len(server.exchanges) == REQUESTS)
        await asyncio.sleep(0.2)
        (connection,) = server.connections
        most = server.endpoint.context.settings.max_unsent_bytes
        assert connection.quic.kept() < REQUESTS * len(PIECE) + 3 * most
        assert server.endpoint.context.limits.buffers.total == connection.quic.kept()


@asynctest
async def test_silent_http_3_clients_stay_within_the_budget_and_others_are_served():
    budget = 8 * MIB
    async with (
        serving_h3(endless, max_buffered_bytes=budget) as server,
        contextlib.AsyncExitStack() as clients,
        H3Client(server.port) as honest,
    ):
        limits = server.endpoint.context.limits
        for number in range(12):
            await clients.enter_async_context(silent(server.port))
            await server.until(lambda n=number: len(server.exchanges) >= (n + 1) * REQUESTS)
            assert (await honest.request(path="/small")).content == b"small"
            assert limits.buffers.total <= budget
        assert limits.met["max_buffered_bytes"] >= 3
        assert honest.close_code is None


@asynctest
async def test_the_http_3_client_that_takes_nothing_is_closed_and_not_the_newest():
    async with (
        serving_h3(endless, max_buffered_bytes=2 * MIB) as server,
        H3Client(server.port, max_data=100_000) as idle,
        H3Client(server.port, max_data=100_000) as newest,
    ):
        buffers = server.endpoint.context.limits.buffers
        idle.quic.withhold_credit = newest.quic.withhold_credit = True
        for _ in range(90):
            idle.begin()
        await server.until(lambda: len(server.exchanges) == 90)
        await idle.settled()
        await asyncio.sleep(1.1)  # the clock is the server's own
        for _ in range(50):
            newest.begin()
        assert await idle.close_reason() == 0x107  # H3_EXCESSIVE_LOAD
        assert newest.close_code is None
        assert buffers.total <= 2 * MIB


# -- HTTP/1.1 -------------------------------------------------------------------------------------


async def large(exchange):
    """One large response, written in one piece, unless something small is asked for."""
    await exchange.read_all()
    exchange.answer(b"small" if exchange.stream.head.target == b"/small" else bytes(LARGE))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_both_loops
async def test_what_an_http_1_client_does_not_take_is_counted(secure, tmp_path):
    tls = Tls(tmp_path)
    options = {"ssl": tls.client, "server_hostname": "localhost"} if secure else {}
    async with serving_h1(large, tls=tls.server if secure else None) as server:
        buffers = server.limits.buffers
        client = await server.connect_deaf(**options)
        client.get("/large")
        # What the kernel has taken is not held here.
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.until(lambda: buffers.total > LARGE // 2)
        assert buffers.total <= LARGE + MIB
        client.writer.transport.abort()
        await server.until(lambda: not server.connections)
        assert buffers.total == 0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_both_loops
async def test_deaf_http_1_clients_stay_within_the_budget_and_others_are_served(secure, tmp_path):
    budget = 3 * LARGE
    tls = Tls(tmp_path)
    options = {"ssl": tls.client, "server_hostname": "localhost"} if secure else {}
    async with serving_h1(
        large, tls=tls.server if secure else None, max_buffered_bytes=budget
    ) as server:
        limits = server.limits
        honest = await server.connect(**options)
        for number in range(10):
            (await server.connect_deaf(**options)).get("/large")
            await server.until(lambda n=number: len(server.application.exchanges) > 2 * n)
            honest.get("/small")
            assert (await honest.response()).content == b"small"
            assert limits.buffers.total <= budget
        assert limits.met["max_buffered_bytes"] >= 1


# -- WebSocket ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_unfinished_compressed_messages_of_one_client_take_little_memory(tmp_path):
    """32 WebSockets on a connection, with one fragment each that inflates to 16 MiB."""
    with ServerProcess(
        *("--bind", "127.0.0.1:0", "--no-access-log"), data_directory=tmp_path
    ) as server:
        before = server.resident_bytes
        asyncio.run(inflate(server.port))
        assert server.peak_resident_bytes - before < 128 * MIB


async def inflate(port):
    fragment = frame(DATA, compressed_fragment(16 * MIB - 100))
    fields = [
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
    ]
    async with H3Client(port) as client:
        for _ in range(32):
            stream = client.send(client.open(), extended_connect(b"/ws/echo", fields))
            await client.until(lambda s=stream: s.status is not None)
            assert stream.status == 200
            client.send(stream, fragment)
            await client.settled()
        assert (await client.request()).status == 200
