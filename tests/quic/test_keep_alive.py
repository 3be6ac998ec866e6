"""A connection that its client keeps by PINGs: for long while it is of use, else not for ever."""

import asyncio

import pytest

from tests.quic.served import echo, serving
from tests.support.fake_clock import clocktest
from tests.support.h3_client import H3Client, frame

HOUR = 3600.0
NO_ERROR = 0x100
# An unknown frame, which is to be ignored (RFC 9114 9).
UNKNOWN = frame(0x21 + 0x1F * 7, b"x")

pytestmark = pytest.mark.usefixtures("either_path")


def running(*args, **settings):
    """A server whose time is the loop's."""
    return serving(*args, clock=asyncio.get_running_loop().time, **settings)


async def keep(client, seconds, *, every=50.0, control=b""):
    """Keep a connection for so long, or until the server closes it; how long it was kept."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while client.close_code is None and loop.time() < begin + seconds:
        await asyncio.sleep(every)
        if control:
            client.send(client.control, control)
        await client.settled()
    return loop.time() - begin


@pytest.mark.parametrize("requests", [0, 1])
@pytest.mark.parametrize("control", [b"", UNKNOWN], ids=["PING", "frames without effect"])
@clocktest
async def test_a_client_that_asks_for_nothing_does_not_keep_its_connection_for_ever(
    requests, control
):
    async with running(unused_timeout=HOUR) as server, H3Client(server.port) as client:
        for _ in range(requests):
            assert (await client.request()).status == 200
        kept = await keep(client, 3 * HOUR, control=control)
        assert HOUR <= kept <= 1.25 * HOUR + 60
        assert client.close_code == NO_ERROR
        assert client.goaway == 4 * requests
        await server.until(lambda: server.connections == [])


@clocktest
async def test_it_is_told_before_that_what_it_sends_now_is_not_served():
    async with running(unused_timeout=10) as server, H3Client(server.port) as client:
        while client.goaway is None:
            await keep(client, 0.1, every=0.1)
        assert client.close_code is None
        stream = await client.request()
        assert stream.reset_code == 0x10B
        assert server.exchanges == []
        await keep(client, 10)
        assert client.close_code == NO_ERROR


@clocktest
async def test_requests_now_and_then_keep_it():
    async with running(unused_timeout=HOUR) as server, H3Client(server.port) as client:
        for _ in range(3):
            await keep(client, 0.9 * HOUR)
            assert (await client.request()).status == 200


@clocktest
async def test_an_open_exchange_keeps_it():
    patient = {"content_timeout": 9 * HOUR, "header_timeout": HOUR, "send_timeout": HOUR}
    async with (
        running(echo, unused_timeout=HOUR, **patient) as server,
        H3Client(server.port) as client,
    ):
        stream = client.begin("POST", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        await keep(client, 3 * HOUR)
        client.send(stream, end=True)
        await client.until(lambda: stream.done)
        assert stream.status == 200


@clocktest
async def test_without_a_limit_it_is_kept():
    async with running(unused_timeout=0) as server, H3Client(server.port) as client:
        await keep(client, 3 * HOUR)
        assert (await client.request()).status == 200


@clocktest
async def test_a_client_that_sends_nothing_is_forgotten_in_silence():
    async with running(idle_timeout=60, unused_timeout=HOUR) as server:
        client = await H3Client(server.port).__aenter__()
        assert (await client.request()).status == 200
        client.vanish()
        begin = asyncio.get_running_loop().time()
        await server.until(lambda: server.connections == [], timeout=HOUR)
        assert asyncio.get_running_loop().time() - begin <= 61
