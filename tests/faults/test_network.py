"""Transfers over networks that lose, delay, reorder, double and corrupt."""

import asyncio
import hashlib
import random

import pytest

from tests.faults.relay import Relay
from tests.quic.served import serving
from tests.support.asynchronous import TEST_SECONDS, asynctest
from tests.support.h3_client import DATA, H3Client, frame, headers

NETWORKS = {
    "loss": {"loss": 0.05},
    "reordering": {"delay": 0.002, "jitter": 0.01},
    "duplication": {"duplicate": 0.2},
    "corruption": {"corrupt": 0.05},
    "all of it": {
        "loss": 0.03,
        "duplicate": 0.05,
        "corrupt": 0.02,
        "delay": 0.005,
        "jitter": 0.01,
    },
}


async def echo_with_hash(exchange):
    """Answers with the content, and its hash as it was here."""
    await exchange.whole()
    digest = hashlib.sha256(exchange.body).hexdigest().encode()
    exchange.respond(200, bytes(exchange.body), (b"x-sha256", digest))


async def transfer(client, content):
    """Send content and have it back; checks it at both ends."""
    stream = client.send(client.open(), headers(b"POST") + frame(DATA, content), end=True)
    await client.until(lambda: stream.done, TEST_SECONDS)
    assert stream.ended, f"reset by {stream.reset_code}"
    digest = hashlib.sha256(content).hexdigest().encode()
    assert stream.fields[b"x-sha256"] == digest
    assert hashlib.sha256(stream.content).hexdigest().encode() == digest


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
@asynctest
async def test_forty_transfers_at_a_time_arrive_unchanged(network):
    await run_transfers(network, connections=4, streams=10, size=20_000)


def test_two_hundred_transfers_at_a_time_arrive_unchanged():
    network = NETWORKS["all of it"]
    main = run_transfers(network, connections=20, streams=10, size=16_000)
    asyncio.run(asyncio.wait_for(main, TEST_SECONDS))


async def run_transfers(network, *, connections, streams, size):
    chance = random.Random(5)
    patience = {"idle_timeout": TEST_SECONDS, "handshake_timeout": TEST_SECONDS}
    async with (
        serving(echo_with_hash, **patience) as server,
        Relay(server.port, seed=3, **network) as relay,
    ):
        clients = [H3Client(relay.port) for _ in range(connections)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.__aenter__())
        async with asyncio.TaskGroup() as group:
            for client in clients:
                for _ in range(streams):
                    content = chance.randbytes(chance.randint(1, size))
                    group.create_task(transfer(client, content))
        for name in network:
            if name in ("loss", "duplicate", "corrupt"):
                done = {"loss": "lost", "duplicate": "doubled", "corrupt": "corrupted"}[name]
                assert relay.counted[done]
        for client in clients:
            assert client.close_code is None
            client.vanish()
        for connection in server.connections:
            connection.abandon()
        assert server.endpoint.context.limits.connections == 0
