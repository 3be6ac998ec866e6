"""Who forges the address of a host does not keep that host out, on either transport."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.quic.test_endpoint import RawClient, first_flight
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client
from tests.support.process import ServerProcess


async def handshakes_begun(forger: RawClient, port: int, count: int) -> None:
    """Let Initials of so many clients come from an address, none of which says any more."""
    for _ in range(count):
        forger.send(first_flight(port)[1][0])
    clients = set()
    while len(clients) < count:
        data = await forger.receive()
        clients.add(data[6 : 6 + data[5]])


@pytest.mark.parametrize("limit", ["--max-connections", "--max-connections-per-ip"])
@asynctest
async def test_forged_initials_keep_nobody_out(data_directory: Path, limit: str) -> None:
    with (
        ServerProcess(limit, "20", data_directory=data_directory) as server,
        RawClient(server.port) as forger,
    ):
        await handshakes_begun(forger, server.port, 22)
        async with H3Client(server.port) as client:
            assert (await client.request("GET", "/health")).status == 200
        trusting = ssl.create_default_context(cafile=str(server.ca_path))
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
