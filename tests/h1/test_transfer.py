"""Files that the kernel sends by itself, past the transport."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.apps.files import FilePart
from tercel.shared.errors import LocalProtocolError, StreamAborted
from tercel.shared.messages import ResponseHead
from tests.h1.conftest import Tls
from tests.h1.serving import Exchange, serving
from tests.support.descriptors import open_descriptors

SIZE = 8 * 1024 * 1024
CONTENT = bytes(range(256)) * (SIZE // 256)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def sends(
    path: Path, *, length: int = SIZE, told: Callable[[BaseException | None], None] | None = None
) -> Any:
    """A script that has the file at `path` sent."""

    async def script(exchange: Exchange) -> None:
        stream = exchange.stream
        part = await FilePart.of_path(str(path), limit=None)
        try:
            stream.send_head(ResponseHead(200, [(b"content-length", b"%d" % length)]))
            stream.send_content(await part.read())
            assert stream.takes_transfers
            await stream.send_transfer(part.transfer, part.left)
            stream.send_content(b"", end_stream=True)
        except BaseException as error:
            if told is not None:
                told(error)
            raise
        finally:
            part.close()

    return script


async def test_the_file_arrives_whole_and_the_connection_goes_on(file: Path) -> None:
    async with serving(sends(file)) as server:
        client = await server.connect()
        client.get("/first")
        client.get("/second")
        for _ in range(2):
            assert (await client.response()).content == CONTENT
        exchanges = server.application.exchanges
        # The client has the last byte before the server is told that the kernel took it.
        await server.until(lambda: [e.stream.content_sent for e in exchanges] == [SIZE, SIZE])


async def test_it_arrives_whole_at_a_client_that_reads_slowly(file: Path) -> None:
    async with serving(sends(file)) as server:
        client = await server.connect(limit=1024)
        client.get()
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % SIZE in head
        received = bytearray()
        while len(received) < SIZE:
            received += await client.reader.read(65_536)
            await asyncio.sleep(0)
        assert received == CONTENT


async def test_a_unix_socket_takes_it_too(file: Path, tmp_path: Path) -> None:
    async with serving(sends(file), unix=str(tmp_path / "socket")) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).content == CONTENT


async def test_a_client_that_stops_reading_is_given_up_after_send_timeout(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, told=errors.append), send_timeout=0.05) as server:
        client = await server.connect(limit=1024)
        client.get()
        await server.until(lambda: bool(errors))
        assert isinstance(errors[0], StreamAborted)
        await server.until(lambda: not server.connections)


async def test_a_client_that_goes_in_the_middle_ends_it(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, told=errors.append)) as server:
        client = await server.connect(limit=1024)
        client.get()
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.transport.abort()
        await server.until(lambda: bool(errors))
        assert isinstance(errors[0], StreamAborted)


async def test_a_connection_that_is_aborted_here_sends_no_more(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, told=errors.append)) as server:
        client = await server.connect(limit=1024)
        client.get()
        await client.reader.readuntil(b"\r\n\r\n")
        server.connection.abort()
        await server.until(lambda: bool(errors))
        assert isinstance(errors[0], StreamAborted)
        assert len(await client.rest()) < SIZE


async def test_a_file_shorter_than_promised_is_an_error(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, length=SIZE + 1, told=errors.append)) as server:
        client = await server.connect()
        client.get()
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(SIZE) == CONTENT
        await server.until(lambda: bool(errors))
        assert isinstance(errors[0], LocalProtocolError)


async def test_a_file_that_is_cut_meanwhile_has_no_more(file: Path) -> None:
    part = await FilePart.of_path(str(file), limit=None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await part.read()
        os.truncate(file, part.offset + 3)
        assert await part.transfer(ours.fileno()) == 3
        assert await part.transfer(ours.fileno()) == -1
    part.close()


async def test_more_than_was_promised_is_refused(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, length=SIZE - 1, told=errors.append)) as server:
        client = await server.connect()
        client.get()
        await server.until(lambda: bool(errors))
        assert isinstance(errors[0], LocalProtocolError)


async def test_no_descriptor_is_left_open_by_a_cancelled_transfer(file: Path) -> None:
    errors: list[BaseException | None] = []
    async with serving(sends(file, told=errors.append)) as server:
        client = await server.connect(limit=1024)
        client.get()
        await client.reader.readuntil(b"\r\n\r\n")
        before = open_descriptors()
        tasks = server.application.context.tasks
        await tasks.cancel_all()
        assert isinstance(errors[0], asyncio.CancelledError)
        # The file's own, and the one of the socket.
        assert open_descriptors() == before - 2


async def test_under_tls_the_kernel_cannot_do_it(tls: Tls) -> None:
    seen: list[bool] = []

    async def script(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, [(b"content-length", b"2")]))
        exchange.stream.send_content(b"o")
        seen.append(exchange.stream.takes_transfers)
        exchange.stream.send_content(b"k", end_stream=True)

    async with serving(script, tls=tls.server) as server:
        client = await server.connect(ssl=tls.client, server_hostname="localhost")
        client.get()
        assert (await client.response()).content == b"ok"
        assert seen == [False]


async def test_chunked_content_is_not_for_the_kernel() -> None:
    seen: list[bool] = []

    async def script(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"o")
        seen.append(exchange.stream.takes_transfers)
        exchange.stream.send_content(b"k", end_stream=True)

    async with serving(script) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).content == b"ok"
        assert seen == [False]
