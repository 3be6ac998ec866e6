"""What only HTTP/1.1 has: the upgrade of a connection (RFC 6455 4.2.1), byte by byte."""

import asyncio
from typing import Any

import pytest

from tests.contract.apps import Receive, Scope, Send
from tests.contract.websocket.apps import accepted, echo, say, websockets_only
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO = b"\x81\x85\x00\x00\x00\x00hello"


async def connect(client: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", client.http.port)


@asynctest
async def test_the_response_answers_the_key(served_plain: Served) -> None:
    async with served_plain(echo) as client:
        reader, writer = await connect(client)
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert lines[0] == b"http/1.1 101 switching protocols"
        # The example of RFC 6455 1.3.
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".lower() in lines
        assert lines.count(b"upgrade: websocket") == lines.count(b"connection: upgrade") == 1
        assert not any(line.startswith((b"content-length", b"transfer-")) for line in lines)
        writer.close()


@pytest.mark.parametrize("cut", [len(HANDSHAKE) - 1, len(HANDSHAKE), len(HANDSHAKE) + 1, None])
@asynctest
async def test_frames_that_come_with_the_handshake_are_received(
    served_plain: Served, cut: int | None
) -> None:
    async with served_plain(echo) as client:
        reader, writer = await connect(client)
        data = HANDSHAKE + HELLO + HELLO
        for part in [data] if cut is None else [data[:cut], data[cut:]]:
            writer.write(part)
            await writer.drain()
            await client.still(lambda: 0)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(14) == b"\x81\x05hello" * 2
        writer.close()


@asynctest
async def test_a_message_that_is_sent_at_once_follows_the_head(served_plain: Served) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await say(send, "welcome")

    async with served_plain(accepted(talk)) as client:
        reader, writer = await connect(client)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(9) == b"\x81\x07welcome"
        writer.close()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET ", b"POST ", 405),
        (b"keep-alive, Upgrade", b"keep-alive", 200),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", 400),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Kay", 400),
        (b"Version: 13", b"Version: 12", 426),
        (b"HTTP/1.1", b"HTTP/1.0", 200),
    ],
    ids=["POST", "no Connection: upgrade", "short key", "no key", "version 12", "HTTP/1.0"],
)
@asynctest
async def test_a_handshake_that_is_none_is_not_upgraded(
    served_plain: Served, old: bytes, new: bytes, status: int
) -> None:
    async with served_plain(echo) as client:
        reader, writer = await connect(client)
        writer.write(HANDSHAKE.replace(old, new))
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert (b"sec-websocket-version: 13" in head.lower()) == (status == 426)
        writer.close()


@asynctest
async def test_a_refused_handshake_leaves_the_connection_for_the_next_request(
    served_plain: Served,
) -> None:
    @websockets_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    async with served_plain(app) as client:
        reader, writer = await connect(client)
        for _ in range(3):
            writer.write(HANDSHAKE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 403 ")
            await reader.readexactly(len(b"Forbidden"))
        writer.close()


@asynctest
async def test_the_connection_is_closed_after_the_closing_handshake(served_plain: Served) -> None:
    async with served_plain(echo) as client:
        reader, writer = await connect(client)
        writer.write(HANDSHAKE + b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        await reader.readuntil(b"\r\n\r\n")
        # RFC 6455 7.1.1: the server ends its side first.
        assert await reader.read() == b"\x88\x02\x03\xe8"
        writer.close()
