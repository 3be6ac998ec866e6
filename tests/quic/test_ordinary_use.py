"""What comes along with requests and content is paid for by them, however fast they come.

Each case does twice what a burst allows, in a time in which nothing comes back.
tests/e2e/test_heavy_pages.py has real browsers.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tercel.quic.transport.abuse_limits import LIMITS, Flood
from tests.quic.http3.test_connection import insert
from tests.quic.served import echo, hello, serving
from tests.support.asynchronous import asynctest
from tests.support.h3_client import DATA, H3Client, frame, headers
from tests.support.raw_quic import ack, numbers, stream

PRIORITY_UPDATE = 0xF0700
RESET_STREAM, MAX_STREAM_DATA, DATA_BLOCKED = b"\x04", b"\x11", b"\x14"
TABLE = insert(b"a", bytes(200))
ENTRY = TABLE[3:]  # without the capacity
BURST = 512
# Requests at a time.
WIDTH = 20
# A wave is a tenth of the burst at most.
MOST = 0.25


@pytest.fixture(autouse=True)
def no_time(monkeypatch):
    for flood in Flood:
        monkeypatch.setitem(LIMITS, flood, (BURST, 0.1))


@asynccontextmanager
async def unbothered(script=hello):
    """A client that in the end has come near the end of no budget."""
    async with serving(script) as server, H3Client(server.port) as client:
        yield client
        await client.settled()
        (connection,) = server.connections
        peaks = connection.quic.budgets.peaks()
        assert {flood.name: peak for flood, peak in peaks.items() if peak > MOST} == {}


def next_ids(client):
    """The streams of the next requests."""
    first = client.quic.get_next_available_stream_id()
    return range(first, first + 4 * WIDTH, 4)


async def requests(client):
    await asyncio.gather(*(client.request() for _ in range(WIDTH)))


@asynctest
async def test_each_request_pays_for_two_priority_updates():
    async with unbothered() as client:
        for _ in range(BURST // WIDTH):
            updates = [frame(PRIORITY_UPDATE, numbers(id) + b"u=1") for id in next_ids(client)]
            client.send(client.control, b"".join(updates))
            await requests(client)
            client.send(client.control, b"".join(updates))


@asynctest
async def test_each_request_pays_for_a_limit_of_its_own_that_curl_sends():
    async with unbothered() as client:
        for _ in range(2 * BURST // WIDTH):
            for id in next_ids(client):
                client.send_packet(MAX_STREAM_DATA + numbers(id, 1 << 24))
            await requests(client)


@asynctest
async def test_each_request_pays_for_two_entries_of_the_table():
    async with unbothered() as client:
        client.send(client.encoder, TABLE)
        for _ in range(BURST // WIDTH):
            client.send(client.encoder, ENTRY * 2 * WIDTH)
            await requests(client)


@asynctest
async def test_each_answer_pays_for_a_request_that_is_given_up():
    async with unbothered(echo) as client:
        for _ in range(2 * BURST // WIDTH):
            given_up = [client.begin("POST", end=False) for _ in range(WIDTH)]
            await requests(client)
            for request in given_up:
                client.reset(request)


@asynctest
async def test_content_pays_for_what_is_said_when_a_window_is_full():
    part = frame(DATA, bytes(32_768))
    async with unbothered(echo) as client:
        upload = client.send(client.open(), headers(b"POST"))
        for _ in range(BURST // WIDTH):
            sent = client.sent(upload) + WIDTH * len(part)
            client.send(upload, part * WIDTH)
            client.send_packet((DATA_BLOCKED + numbers(0)) * 2 * WIDTH)
            await client.until(lambda sent=sent: client.sent(upload) == sent)


@asynctest
async def test_content_pays_for_full_packets_that_are_sent_again():
    part = frame(DATA, bytes(1024))
    async with unbothered(echo) as client:
        upload = client.send(client.open(), headers(b"POST"))
        for _ in range(2 * BURST // WIDTH):
            client.send(upload, part * WIDTH)
            for _ in range(WIDTH):
                client.send_packet(stream(upload.id, 0, headers(b"POST")))
            await client.settled()


@asynctest
async def test_packets_that_are_acknowledged_pay_for_acknowledgements_that_come_late():
    def download(exchange):
        exchange.respond(200, bytes(1200 * WIDTH))

    async with unbothered(download) as client:
        for _ in range(2 * BURST // WIDTH):
            await client.request()
            for _ in range(WIDTH):
                client.send_packet(ack(0))
            await client.settled()


@pytest.mark.parametrize("gap", [False, True], ids=["reset", "gap, then reset"])
@asynctest
async def test_content_that_never_came_earns_nothing(gap):
    async with serving(echo) as server, H3Client(server.port) as client:
        for _ in range(WIDTH):
            request = client.begin("POST", end=False)
            if gap:
                client.send_packet(stream(request.id, 999_999, b"x"))
            client.send_packet(RESET_STREAM + numbers(request.id, 0x10C, 1_000_000))
            await client.settled()
        (connection,) = server.connections
        assert connection.quic.work.so_far().kilobytes < 10
