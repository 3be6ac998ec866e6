"""tercel.h1.acceptor: sockets, TLS, and the order in which a listener ends."""

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest

from tercel.h1.base import SanicProtocol
from tercel.h1.protocol import HttpProtocol
from tercel.shared.errors import StreamAborted
from tests.h1.conftest import Tls
from tests.h1.serving import Exchange, echo, nothing, serving
from tests.support.asynchronous import PATIENCE_SECONDS


async def test_addresses_are_those_of_the_sockets() -> None:
    async with serving(echo) as server:
        (address,) = server.acceptor.addresses
        assert address.startswith("127.0.0.1:")
        assert server.acceptor.is_serving()


async def test_peer_and_server_are_known_on_tcp() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        client.get()
        info = (await server.application.exchange()).stream.connection
        assert info.client == client.writer.get_extra_info("sockname")
        assert info.server == client.writer.get_extra_info("peername")
        assert not info.secure
        assert info.tls is None


async def test_unix_socket_is_served(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with serving(echo, unix=path) as server:
        assert server.acceptor.addresses == [path]
        client = await server.connect()
        for _ in range(2):
            client.get("/x")
            assert (await client.response()).content == b"/x"
        info = server.application.exchanges[0].stream.connection
        assert info.client is None
        assert info.server == (path, None)


async def test_tls_is_served_and_described(tls: Tls) -> None:
    async with serving(echo, tls=tls.server, alt_svc=b'h3=":443"') as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get("/x")
        response = await client.response()
        assert response.content == b"/x"
        assert response.fields[b"alt-svc"] == b'h3=":443"'
        stream = server.application.exchanges[0].stream
        assert stream.head.scheme == b"https"
        assert stream.connection.secure
        assert stream.connection.tls == {
            "server_cert": None,
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": 0x1302,
        }


async def test_alt_svc_is_not_advertised_without_tls() -> None:
    async with serving(echo, alt_svc=b'h3=":443"') as server:
        client = await server.connect()
        client.get()
        assert b"alt-svc" not in (await client.response()).fields


async def test_client_certificate_is_described(tls: Tls) -> None:
    tls.server.verify_mode = ssl.CERT_REQUIRED
    tls.server.load_verify_locations(tls.client_identity.cert)
    async with serving(echo, tls=tls.server) as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get()
        await client.response()
        described = server.application.exchanges[0].stream.connection.tls
        assert described is not None
        assert described["client_cert_name"] == "CN=client,O=Tests\\, Inc."
        assert described["client_cert_chain"][0] == tls.client_identity.cert.read_text()


async def test_tls_1_2_is_described_by_its_numbers(tls: Tls) -> None:
    tls.client.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    async with serving(echo, tls=tls.server) as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get()
        await client.response()
        described = server.application.exchanges[0].stream.connection.tls
        assert described is not None
        assert described["tls_version"] == 0x0303
        assert described["cipher_suite"] == 0xC02B


async def test_fault_is_answered_over_tls(tls: Tls) -> None:
    async with serving(echo, tls=tls.server) as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.send(b"GET  / HTTP/1.1\r\n\r\n")
        assert (await client.response()).status == 400


async def test_tls_client_that_goes_in_the_middle_aborts_its_request(tls: Tls) -> None:
    async with serving(echo, tls=tls.server) as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.post("Content-Length: 3", content=b"a")
        exchange = await server.application.exchange()
        await exchange.reached("content")
        client.close()
        await exchange.reached("aborted")


async def test_failed_handshake_is_no_traceback(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with serving(echo, tls=tls.server) as server:
        for data in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05junk!", b"x"):
            client = await server.connect()
            client.send(data)
            client.writer.write_eof()
            # How the server hangs up is TLS's business; that it does is what counts.
            with contextlib.suppress(ConnectionError):
                await client.rest()
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get()
        assert (await client.response()).status == 200
    assert problems == []
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_handshake_that_stalls_is_closed(tls: Tls) -> None:
    async with serving(echo, tls=tls.server, header_timeout=0.05) as server:
        client = await server.connect()
        assert await client.rest() == b""


async def test_no_connection_is_accepted_after_stop_accepting() -> None:
    async with serving(echo) as server:
        server.acceptor.stop_accepting()
        assert not server.acceptor.is_serving()
        with pytest.raises(ConnectionError):
            await server.connect()


async def test_drain_ends_with_the_last_exchange_or_its_time() -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        await echo(exchange)

    async with serving(wait) as server:
        client = await server.connect()
        client.get("/x")
        await server.application.exchange()
        server.acceptor.stop_accepting()
        assert not await server.acceptor.drain(0.01)
        gate.set()
        assert (await client.response()).content == b"/x"
        assert await server.acceptor.drain(PATIENCE_SECONDS)


async def test_close_aborts_what_still_runs() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        client.get()
        exchange = await server.application.exchange()
        server.acceptor.close()
        await server.acceptor.wait_closed()
        await exchange.reached("response aborted")
        assert server.connections == set()
        with contextlib.suppress(ConnectionError):
            assert await client.rest() == b""


async def test_loop_s_server_gets_the_caller_s_arguments() -> None:
    async with serving(
        echo, acceptor={"asyncio_server_kwargs": {"start_serving": False}}
    ) as server:
        assert not server.acceptor.is_serving()


async def test_subclass_of_the_protocol_is_served() -> None:
    class Counting(HttpProtocol):
        made = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            Counting.made += 1

    state = {"a": 1}
    async with serving(echo, acceptor={"protocol": Counting, "state": state}) as server:
        client = await server.connect()
        client.get("/x")
        assert (await client.response()).content == b"/x"
        assert Counting.made == 1
        assert server.connection.state is state


class Reverse(SanicProtocol):
    """A protocol that is no HTTP: sends each line back in reverse."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> None:
        while self.transport is not None and not self.transport.is_closing():
            while b"\n" in self.recv_buffer:
                line, _, rest = bytes(self.recv_buffer).partition(b"\n")
                self.recv_buffer[:] = rest
                await self.send(line[::-1] + b"\n")
            await self.receive_more()


async def test_protocol_of_another_kind_is_served() -> None:
    async with serving(nothing, acceptor={"protocol": Reverse}) as server:
        client = await server.connect()
        client.send(b"abc\nde")
        assert await client.reader.readline() == b"cba\n"
        client.send(b"f\n")
        assert await client.reader.readline() == b"fed\n"
        (connection,) = server.connections
        server.acceptor.stop_accepting()
        assert await client.rest() == b""
        await connection.task
        with pytest.raises(StreamAborted):
            await connection.send(b"late")


async def test_protocol_of_another_kind_stops_reading_above_its_bound() -> None:
    acceptor = {"protocol": SanicProtocol}
    async with serving(nothing, acceptor=acceptor, max_receive_buffer_bytes=4096) as server:
        client = await server.connect()
        client.send(b"x" * 1_000_000)
        await server.until(lambda: bool(server.connections))
        (connection,) = server.connections
        await server.until(lambda: connection._reading_paused)
        before = len(connection.recv_buffer)
        assert before <= 4096 + 262_144
        await connection.receive_more()
        assert len(connection.recv_buffer) > before


async def test_close_with_a_timeout_aborts_when_the_client_does_not_read() -> None:
    async with serving(nothing, acceptor={"protocol": SanicProtocol}) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()
        await server.until(lambda: bool(server.connections))
        (connection,) = server.connections
        connection.transport.write(b"x" * 20_000_000)
        connection.close(timeout=0.05)
        await server.until(lambda: not server.connections)
