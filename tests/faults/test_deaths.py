"""Clients that are killed, whatever they were doing, and clocks that jump."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

from tercel.shared.messages import ResponseHead
from tests.h1.serving import echo as echo_h1
from tests.h1.serving import serving as serving_h1
from tests.quic.served import serving
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest
from tests.support.h3_client import DATA, H3Client, frame, headers

PHASES = {
    "before its handshake is complete": "client.quic.connect(address, now)",
    "without a request": "",
    "in the middle of a head": "client.send(client.open(), headers()[:-4])",
    "in the middle of content": "client.begin('POST', content=b'x' * 5000, end=False)",
    "waiting for the response": "client.begin('GET', '/never')",
    "in the middle of the response": "client.begin('GET', '/endless')",
}
CLIENT = """
import asyncio, sys
from tests.support.h3_client import H3Client, headers

async def main(port):
    address, now = ("127.0.0.1", port), asyncio.get_running_loop().time()
    client = H3Client(port)
    if {early}:
        client.start()
    else:
        await client.__aenter__()
        {act}
        await client.settled()
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(int(sys.argv[1])))
"""


async def app(exchange):
    """As the path says."""
    if exchange.path == b"/never":
        await exchange.change()
        while exchange.error is None:
            await exchange.change()
    elif exchange.path == b"/endless":
        exchange.stream.send_head(ResponseHead(200, []))
        while True:
            exchange.stream.send_content(b"x" * 10_000)
            await exchange.stream.drain()
    else:
        await exchange.whole()
        exchange.respond(200, bytes(exchange.body))


async def is_at_its_base_line(server):
    """Nothing of a client is left."""
    await server.until(lambda: server.connections == [])
    endpoint = server.endpoint
    assert (endpoint._by_cid, endpoint._half_open) == ({}, {})
    assert await endpoint.context.tasks.wait(PATIENCE_SECONDS)
    limits = endpoint.context.limits
    assert (limits.connections, limits.calls) == (0, 0)


@pytest.mark.parametrize(("phase", "act"), PHASES.items(), ids=PHASES.keys())
@asynctest
async def test_nothing_is_left_of_a_client_that_is_killed(phase, act):
    early = "connect(" in act
    code = textwrap.dedent(CLIENT).format(early=early, act="pass" if early else act or "pass")
    async with serving(
        app, idle_timeout=3, handshake_timeout=3, send_timeout=3, header_timeout=3
    ) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(server.port)], stdout=subprocess.PIPE
        )
        try:
            ready = asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
            assert await ready == b"ready\n"
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        async with H3Client(server.port) as other:
            assert (await other.request()).status == 200
        await is_at_its_base_line(server)


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-"])
@asynctest
async def test_nothing_is_left_of_a_tcp_client_that_is_killed(data):
    async with serving_h1(echo_h1) as server:
        client = await server.connect()
        client.send(data)
        await server.until(lambda: bool(server.connections))
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await server.until(lambda: not server.connections)
        limits = server.acceptor._context.limits
        assert (limits.connections, limits.calls) == (0, 0)


# -- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3600.0, 86_400.0 * 400])
@asynctest
async def test_a_jump_of_the_clock_forward_costs_no_running_connection(jump):
    """As after a machine has slept: the monotonic clock of some systems goes on meanwhile."""
    async with serving(app) as server, H3Client(server.port) as client:
        clock = server.endpoint.context.clock
        stream = client.send(client.open(), headers(b"POST") + frame(DATA, b"abc"))
        await client.settled()
        server.endpoint.context.clock = lambda: clock() + jump
        client.send(stream, frame(DATA, b"def"), end=True)
        await client.until(lambda: stream.done)
        assert (stream.status, bytes(stream.content)) == (200, b"abcdef")
        assert (await client.request()).status == 200


@pytest.mark.parametrize("jump", [-86_400.0 * 30, 86_400.0 * 30])
@asynctest
async def test_a_jump_of_the_wall_clock_costs_a_round_trip_at_most(jump):
    tokens = []
    async with serving(app, retry="always") as server:
        client = H3Client(server.port)
        client.quic._token_handler = tokens.append
        async with client:
            await client.until(lambda: tokens != [])
        clock = server.endpoint.context.wall_clock
        server.endpoint._entrance._tokens._clock = lambda: clock() + jump
        async with H3Client(server.port, token=tokens[0]) as again:
            assert again.quic._retry_count == 1
            assert (await again.request()).status == 200
