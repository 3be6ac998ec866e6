"""A connection is kept while it is of use, by PINGs of either side, and else not for ever."""

import asyncio

import pytest
from aioquic.quic.logger import QuicLogger

from tests.quic.served import echo, hello, serving
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


# -- PINGs of the server's ------------------------------------------------------------------------


async def late(exchange):
    """Answers after 40 seconds; at /now at once."""
    if exchange.path != b"/now":
        await asyncio.sleep(40)
    exchange.respond(200, b"late")


def pings(client):
    """How many PINGs have come to a client with a `quic_logger`."""
    return sum(
        frame["frame_type"] == "ping"
        for trace in client.quic.configuration.quic_logger.to_dict()["traces"]
        for event in trace["events"]
        if event["name"] == "transport:packet_received"
        for frame in event["data"]["frames"]
    )


@pytest.mark.parametrize(
    ("server_seconds", "client_seconds"), [(60, 1), (60, 2), (1, 60), (20, 20)]
)
@clocktest
async def test_an_answer_that_takes_long_outlives_the_idle_time_outs(
    server_seconds, client_seconds
):
    async with (
        running(late, idle_timeout=server_seconds) as server,
        H3Client(server.port, idle_timeout=client_seconds) as client,
    ):
        for _ in range(2):
            stream = client.begin()
            await client.until(lambda stream=stream: stream.done or client.close_code is not None)
            assert bytes(stream.content) == b"late"


@clocktest
async def test_no_more_pings_are_sent_than_a_connection_needs():
    async with (
        running(late) as server,
        H3Client(server.port, idle_timeout=2, quic_logger=QuicLogger()) as client,
    ):
        assert (await client.request()).status == 200
        assert 20 < pings(client) <= 40
    async with (
        running(late) as server,
        H3Client(server.port, quic_logger=QuicLogger()) as client,
    ):
        assert (await client.request()).status == 200
        assert pings(client) <= 2


@clocktest
async def test_a_ping_may_get_lost():
    async with running(late) as server, H3Client(server.port, idle_timeout=2) as client:
        stream = client.begin()
        await server.until(lambda: len(server.exchanges) == 1)
        receive = client.quic.receive_datagram
        arrived = []

        def lossy(data, address, now):
            arrived.append(data)
            if len(arrived) % 2 == 0:
                receive(data, address, now)

        client.quic.receive_datagram = lossy
        await client.until(lambda: stream.done or client.close_code is not None)
        assert stream.status == 200
        assert len(arrived) > 40


@pytest.mark.parametrize(("script", "path"), [(hello, "/"), (late, "/now")])
@clocktest
async def test_a_connection_without_a_request_gets_none(script, path):
    async with (
        running(script) as server,
        H3Client(server.port, idle_timeout=2, quic_logger=QuicLogger()) as client,
    ):
        await client.request("GET", path)
        begin = asyncio.get_running_loop().time()
        await server.until(lambda: server.connections == [])
        assert asyncio.get_running_loop().time() - begin < 3
        assert pings(client) == 0


@clocktest
async def test_none_are_sent_where_the_option_says_so():
    async with (
        running(late, quic_keep_alive_pings=False) as server,
        H3Client(server.port, idle_timeout=2) as client,
    ):
        stream = client.begin()
        await client.until(lambda: stream.done or client.close_code is not None)
        assert not stream.done
        await server.until(lambda: server.exchanges[0].calls == ["complete", "response aborted"])


@clocktest
async def test_a_client_that_is_gone_is_noticed_for_all_the_pings():
    async with running(late, idle_timeout=20) as server:
        client = await H3Client(server.port).__aenter__()
        client.begin()
        await server.until(lambda: len(server.exchanges) == 1)
        client.vanish()
        begin = asyncio.get_running_loop().time()
        await server.until(lambda: server.connections == [])
        assert asyncio.get_running_loop().time() - begin <= 1.5 * 20 + 1
        assert server.exchanges[0].calls == ["complete", "response aborted"]


@clocktest
async def test_an_idle_time_out_of_zero_is_none():
    async with running(idle_timeout=60) as server, H3Client(server.port, idle_timeout=0) as client:
        client.quic.configuration.idle_timeout = 60  # aioquic's own side takes 0 for the shortest
        assert (await client.request()).status == 200
        await asyncio.sleep(50)
        assert (await client.request()).status == 200
