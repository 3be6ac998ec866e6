"""Start and stop: every listener once, in order, and nothing that runs is lost."""

import pytest

from tests.sanic.conftest import Server, Start, connected
from tests.support.asynchronous import asynctest

SERVER_START = ["before_server_start", "after_server_start"]
SERVER_STOP = ["background", "before_server_stop", "after_server_stop"]

HOWS = ["sanic", "tercel", "installed", "installed-3"]


def expected(how: str) -> list[str]:
    # A single process of Sanic's has no main process, and so none of its listeners.
    if how != "tercel":
        return SERVER_START + SERVER_STOP
    start = ["main_process_start", "before_server_start", "main_process_ready"]
    return [*start, "after_server_start", *SERVER_STOP, "main_process_stop"]


@pytest.mark.parametrize("how", HOWS)
@asynctest
async def test_every_listener_runs_once_and_in_order(start: Start, how: str) -> None:
    server = start(how)
    async with connected(server.port, "h3" if how == "installed-3" else "h1") as client:
        await client.http.get("/")
    server.stop()
    assert server.events == expected(how), server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("how", HOWS)
@asynctest
async def test_app_stop_stops_the_server(start: Start, how: str) -> None:
    server = start(how)
    async with connected(server.port, "h3" if how == "installed-3" else "h1") as client:
        assert (await client.http.request("POST", "/stop")).status == 200
        server.wait_for("before_server_stop")
    server.wait()
    assert server.events == expected(how), server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("how", ["sanic", "tercel", "installed"])
@asynctest
async def test_request_that_runs_is_finished_before_the_stop(start: Start, how: str) -> None:
    server = start(how)
    async with connected(server.port, "h1") as client:
        exchange = await client.http.begin("POST", "/transfers/duplex")
        await exchange.send(b"before ")
        await exchange.received(7)
        server.process.terminate()
        server.wait_for("before_server_stop")
        await exchange.send(b"after")
        await exchange.end()
        await exchange.whole()
        assert bytes(exchange.content) == b"BEFORE AFTER"
    server.wait()


async def workers_that_answer(server: Server, version: str = "h1") -> set[bytes]:
    """The processes that took one of many connections.

    Many for another reason, too: a manager of Sanic's that is told to stop while it still waits
    for its workers' acknowledgement never ends, and so short a time after their start it may.
    """
    processes = set()
    for _ in range(60):
        async with connected(server.port, version) as client:
            exchange = await client.http.get("/process")
            assert exchange.header[b"server"] == b"tercel"
            processes.add(bytes(exchange.content))
    return processes


@asynctest
async def test_worker_processes_of_sanic_serve_with_tercel(start: Start) -> None:
    server = start("installed-workers")
    answered = await workers_that_answer(server)
    server.stop()
    main, *workers = sorted(server.events_by_process.values(), key=len)
    assert main == ["main_process_start", "main_process_ready", "main_process_stop"]
    assert workers == [SERVER_START + SERVER_STOP] * 2
    assert answered <= {process.encode() for process in server.events_by_process}
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("how", "version"), [("installed", "h1"), ("installed-3", "h3")])
@asynctest
async def test_app_run_serves_with_tercel_once_installed(
    start: Start, how: str, version: str
) -> None:
    server = start(how)
    async with connected(server.port, version) as client:
        exchange = await client.http.get("/version")
        assert exchange.header[b"server"] == b"tercel"
        conversation = await client.connect("/chat/echo", subprotocols=["plain"])
        assert await conversation.recv() == "plain wss GET /chat/echo"
        await conversation.close()
    assert bytes(exchange.content) == (b"3 3" if version == "h3" else b"1.1 1")


@asynctest
async def test_both_versions_prepared_in_one_program_share_a_port_and_tell_of_it(
    start: Start,
) -> None:
    server = start("installed-both")
    async with connected(server.port, "h3") as client:
        over_quic = await client.http.get("/version")
    async with connected(server.port, "h1") as client:
        over_tcp = await client.http.get("/version")
    assert (bytes(over_quic.content), bytes(over_tcp.content)) == (b"3 3", b"1.1 1")
    assert over_tcp.header[b"alt-svc"] == b'h3=":%d"' % server.port
    assert b"alt-svc" not in over_quic.header
    assert len(await workers_that_answer(server)) == 1
    server.stop()
    main, worker = sorted(server.events_by_process.values(), key=len)
    assert main == ["main_process_start", "main_process_ready", "main_process_stop"]
    assert worker == SERVER_START + SERVER_STOP
    assert "Traceback" not in server.output
