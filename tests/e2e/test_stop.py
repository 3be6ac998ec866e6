"""SIGTERM: what runs is finished, what is idle is not waited for."""

import asyncio
from pathlib import Path
from typing import Literal

import curl_cffi
import pytest
from aioquic.quic.packet import QuicErrorCode

from tercel.certs.selfsigned import DevelopmentCertificates
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client
from tests.support.process import ServerProcess

# Well below the grace period, which is there for requests that still run; seconds.
SOON = 60
GRACE = ("--graceful-timeout", "3600")
EVENTS = 8

Version = Literal["v1", "v3only"]


@pytest.mark.parametrize("version", ["v1", "v3only"])
def test_a_running_request_is_finished_before_the_process_ends(
    data_directory: Path, version: Version
) -> None:
    received = bytearray()
    with (
        ServerProcess(*GRACE, data_directory=data_directory) as server,
        curl_cffi.Session(verify=str(server.ca_path), http_version=version) as session,
    ):

        def stop_at_the_first_event(data: bytes) -> int:
            server.terminate()
            received.extend(data)
            return len(data)

        url = f"{server.url}/events?count={EVENTS}&interval_ms=50"
        response = session.get(url, content_callback=stop_at_the_first_event)
        assert response.status_code == 200
        assert received.count(b"\n\n") == EVENTS
        assert server.wait(SOON) == 0


@pytest.mark.parametrize("version", ["v1", "v3only"])
def test_an_idle_connection_does_not_hold_up_the_end(
    data_directory: Path, version: Version
) -> None:
    with (
        ServerProcess(*GRACE, data_directory=data_directory) as server,
        curl_cffi.Session(verify=str(server.ca_path), http_version=version) as session,
    ):
        # libcurl is idle between two calls: over QUIC it has not even acknowledged all of this.
        assert session.get(f"{server.url}/bytes/100000").status_code == 200
        server.terminate()
        assert server.wait(SOON) == 0


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "0.0.0.0"])
@asynctest
async def test_a_successor_serves_the_port_while_running_requests_are_finished(
    data_directory: Path, address: str
) -> None:
    leaf = DevelopmentCertificates(data_directory).ensure().certificate_path
    assert leaf is not None
    certificate = ("--cert", str(leaf))
    with ServerProcess(
        *GRACE, *certificate, "--bind", f"{address}:0", data_directory=data_directory
    ) as server:
        async with H3Client(server.port) as running, H3Client(server.port) as other:
            streams = [
                client.begin("GET", f"/events?count={EVENTS}&interval_ms=250")
                for client in (running, other)
            ]
            for client, stream in zip((running, other), streams, strict=True):
                await client.until(lambda stream=stream: b"\n\n" in stream.content)
            server.terminate()
            await running.until(lambda: running.goaway is not None)
            successor = await asyncio.to_thread(
                ServerProcess(
                    *certificate,
                    "--bind",
                    f"{address}:{server.port}",
                    data_directory=data_directory,
                ).__enter__
            )
            try:
                assert not any(stream.done for stream in streams)
                async with H3Client(server.port) as late:
                    assert (await late.request("GET", "/health")).status == 200
                for client, stream in zip((running, other), streams, strict=True):
                    await client.until(lambda stream=stream: stream.done)
                    assert stream.content.count(b"\n\n") == EVENTS
                assert await asyncio.to_thread(server.wait, SOON) == 0
                async with H3Client(server.port) as later:
                    assert (await later.request("GET", "/health")).status == 200
            finally:
                await asyncio.to_thread(successor.__exit__, None, None, None)


@asynctest
async def test_new_connections_are_refused_at_once_while_a_request_is_finished(
    data_directory: Path,
) -> None:
    with ServerProcess(*GRACE, data_directory=data_directory) as server:
        async with H3Client(server.port) as running:
            stream = running.begin("GET", "/events?count=600&interval_ms=1000")
            await running.until(lambda: b"\n\n" in stream.content)
            server.terminate()
            await running.until(lambda: running.goaway is not None)
            async with H3Client(server.port) as late:
                assert late.close_code == QuicErrorCode.CONNECTION_REFUSED
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", server.port)
            assert not stream.done
        assert await asyncio.to_thread(server.wait, SOON) == 0
