"""No memory left: who asked for it is given up, and the server goes on."""

import asyncio
import contextlib
import resource
import ssl
import sys

import pytest

from tercel.shared.limits import MEMORY_RESERVE_BYTES, Limits
from tercel.shared.memory import MemoryWatch
from tests.h1.serving import echo as echo_h1
from tests.h1.serving import serving as serving_h1
from tests.hostile.memory_app import PIECE_BYTES
from tests.quic.served import echo, serving
from tests.support.asynchronous import asynctest, on_both_loops
from tests.support.h3_client import H3Client
from tests.support.process import ServerProcess

ROOM_BYTES = 32 << 20


def no_memory(*_, **__):
    raise MemoryError


# -- a process that has little --------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux's")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_whose_application_has_taken_all_memory_goes_on_serving(loop, tmp_path):
    with ServerProcess(
        *("--loop", loop, "--bind", "127.0.0.1:0", "--no-access-log"),
        "tests.hostile.memory_app:app",
        data_directory=tmp_path,
        may_log_tracebacks=True,
    ) as server:
        _, most = resource.prlimit(server.pid, resource.RLIMIT_AS)
        room = server.virtual_bytes + ROOM_BYTES
        resource.prlimit(server.pid, resource.RLIMIT_AS, (room, most))
        asyncio.run(take_all_memory(server.port))
        resource.prlimit(server.pid, resource.RLIMIT_AS, (most, most))


async def take_all_memory(port):
    async with H3Client(port) as client:
        assert (await client.request("GET", "/greedy")).status == 500
        hoard = client.begin("POST", "/hoard", end=False)
        # Who is given up for want of memory may be who took it: then nothing more comes from there.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(10):
                await client.until(lambda: hoard.status == 200)
            await be_served(port)
            async with asyncio.timeout(10):
                if not hoard.done:  # else it was reset in the meantime
                    client.send(hoard, end=True)
                await client.until(lambda: hoard.done)
            if hoard.reset_code is None:
                assert int(hoard.content) >= ROOM_BYTES // 2 // PIECE_BYTES
    await be_served(port)


async def be_served(port):
    """A small request on each version; the server may take its second to recover."""
    async with asyncio.timeout(100):
        while not (await is_served_h3(port) and await is_served_h1(port)):
            await asyncio.sleep(0.2)


async def is_served_h3(port):
    with contextlib.suppress(OSError):  # a time-out is one, too
        async with asyncio.timeout(5), H3Client(port) as client:
            return (await client.request("POST", "/", content=b"small")).status == 200
    return False


async def is_served_h1(port):
    with contextlib.suppress(OSError, EOFError):
        async with asyncio.timeout(5), tls_connection(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return (await reader.read()).startswith(b"HTTP/1.1 200")
    return False


@contextlib.asynccontextmanager
async def tls_connection(port):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# -- each place where it may be missing -----------------------------------------------------------


@pytest.mark.parametrize("where", ["receive_datagram", "process_events", "transmit"])
@asynctest
async def test_a_quic_connection_without_memory_costs_itself_alone(where, monkeypatch):
    async with serving(echo) as server, H3Client(server.port) as client, H3Client(server.port) as b:
        assert (await b.request()).status == 200
        assert (await client.request()).status == 200
        (connection,) = [
            each for each in server.connections if each.info.client == client.local_address
        ]
        monkeypatch.setattr(connection, where, no_memory)
        client.begin()
        await server.until(lambda: connection.terminated or connection.quic.close_event is not None)
        monkeypatch.undo()
        assert (await b.request()).status == 200
        assert server.endpoint.context.limits.met["memory"] >= 1
        connection.abandon()
        assert server.endpoint.context.limits.connections == 1


@asynctest
async def test_a_quic_timer_without_memory_leaves_no_connection_behind(monkeypatch):
    async with serving(echo) as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        (connection,) = server.connections
        monkeypatch.setattr(connection.quic, "get_timer", no_memory)
        connection._timer_fired()
        assert server.connections == []
        assert server.endpoint.context.limits.connections == 0


@asynctest
async def test_a_new_quic_connection_without_memory_is_not_counted(monkeypatch):
    async with serving(echo) as server:
        limits = server.endpoint.context.limits
        now = [limits._clock()]
        limits._clock = lambda: now[0]
        monkeypatch.setattr(server.endpoint, "_create", no_memory)
        client = H3Client(server.port)
        client.start()
        while not limits.met["memory"]:
            await asyncio.sleep(0)
        client.vanish()
        assert (limits.connections, server.connections) == (0, [])
        monkeypatch.undo()
        now[0] += 1.1
        async with H3Client(server.port) as later:
            assert (await later.request()).status == 200


@on_both_loops
async def test_a_tcp_connection_that_cannot_be_made_is_not_counted(monkeypatch):
    async with serving_h1(echo_h1) as server:
        limits = server.acceptor._context.limits
        now = [limits._clock()]
        limits._clock = lambda: now[0]
        (accepting_one,) = server.acceptor._servers
        monkeypatch.setattr(accepting_one, "_factory", no_memory)
        client = await server.connect()
        assert await client.rest() == b""
        assert (limits.connections, limits.met["memory"]) == (0, 1)
        monkeypatch.undo()
        now[0] += 1.1
        again = await server.connect()
        again.get("/x")
        assert (await again.response()).content == b"/x"


# -- the reserve ----------------------------------------------------------------------------------


def test_the_reserve_is_let_go_and_nobody_comes_in_for_a_second():
    now = [100.0]
    limits = Limits(clock=lambda: now[0])
    assert limits.open_connection("192.0.2.1")
    limits.memory_ran_out()
    assert len(limits._reserve) == 0
    assert not limits.open_connection("192.0.2.1")
    now[0] += 1.1
    assert limits.open_connection("192.0.2.1")
    assert len(limits._reserve) == MEMORY_RESERVE_BYTES


def test_the_reserve_is_not_taken_from_those_it_was_let_go_for(monkeypatch):
    now = [100.0]
    limits = Limits(clock=lambda: now[0])
    limits.memory_ran_out()
    now[0] += 1.1
    free = MEMORY_RESERVE_BYTES

    def scarce(size):
        if size > free:
            raise MemoryError
        return b"\0" * size

    monkeypatch.setattr("tercel.shared.limits.bytes", scarce, raising=False)
    assert limits.open_connection(None)
    assert len(limits._reserve) == 0
    free = 3 * MEMORY_RESERVE_BYTES
    now[0] += 1.1
    assert limits.open_connection(None)
    assert len(limits._reserve) == MEMORY_RESERVE_BYTES


@on_both_loops
async def test_memory_errors_of_the_loop_are_counted_and_others_passed_on():
    loop = asyncio.get_running_loop()
    before = []
    loop.set_exception_handler(lambda _, context: before.append(context["exception"]))
    handler = loop.get_exception_handler()
    limits = Limits()
    watch = MemoryWatch(loop, limits)
    watch.begin()
    error = KeyError("another")
    loop.call_exception_handler({"message": "no memory", "exception": MemoryError()})
    loop.call_exception_handler({"message": "failed", "exception": error})
    assert (limits.met["memory"], before) == (1, [error])
    watch.end()
    assert loop.get_exception_handler() == handler
