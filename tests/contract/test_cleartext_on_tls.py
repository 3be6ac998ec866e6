"""Cleartext HTTP/1.1 sent to a port of TLS: `http://` typed where `https://` was meant."""

import asyncio
import logging
import ssl

import pytest

from tests.contract.apps import hello
from tests.contract.conftest import Pair
from tests.support.asynchronous import asynctest


async def asked(port: int, request: bytes) -> bytes:
    """All that the server says to `request`, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@asynctest
async def test_a_request_in_cleartext_is_sent_to_https(
    pair: Pair, method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tercel.access")
    async with pair(hello) as client:
        host = b"localhost:%d" % client.port
        answer = await asked(
            client.port, method + b" /a?b=c HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 308 "), answer
        assert b"\r\nlocation: https://" + host + b"/a?b=c\r\n" in answer
        assert b"\r\nconnection: close\r\n" in answer
        # Others are served as ever, by their version.
        assert bytes((await client.get()).content) == b"hello"
    assert any("/a?b=c" in line and " 308 " in line for line in caplog.messages)


@asynctest
async def test_a_request_in_cleartext_without_a_host_is_400(pair: Pair) -> None:
    async with pair(hello) as client:
        answer = await asked(client.port, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"https" in answer


@pytest.mark.parametrize(
    "noise", [b"\x15\x03\x01\x00\x02\x02\x28", b"\x00" * 64, b"hello?\r\n\r\n"]
)
@asynctest
async def test_neither_tls_nor_http_ends_the_connection(pair: Pair, noise: bytes) -> None:
    async with pair(hello) as client:
        answer = await asked(client.port, noise)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer
        assert bytes((await client.get()).content) == b"hello"


@asynctest
async def test_silence_at_a_port_of_tls_ends_after_the_header_timeout(pair: Pair) -> None:
    async with pair(hello, header_timeout=0.05) as client:
        assert await asked(client.port, b"") == b""


@asynctest
async def test_a_tls_handshake_may_come_byte_by_byte(pair: Pair) -> None:
    async with pair(hello) as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        for byte in outgoing.read():
            writer.write(bytes((byte,)))
            await writer.drain()
        # The server's handshake, and no answer in cleartext.
        assert await reader.readexactly(1) == b"\x16"
        writer.close()
