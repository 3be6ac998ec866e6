"""What is measured, on which servers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import flow_control
import loads
import quic_client
import traffic
import websocket
from commands import NotSupported
from loads import Work
from servers import Server

H3 = ("tercel", "hypercorn", "sanic", "nginx", "peregrine", "pyvoy")
HANDSHAKES = (*H3, "aioquic")
H1 = ("tercel", "uvicorn", "granian", "hypercorn", "sanic", "peregrine", "pyvoy")
WEBSOCKET = ("tercel", "uvicorn", "peregrine", "pyvoy")

# Whom a quick run leaves out costs the most time and says the least.
QUICK = {
    "3": ("tercel", "hypercorn", "nginx", "peregrine", "aioquic"),
    "1-plain": ("tercel", "uvicorn", "granian"),
}
QUICK["1"] = QUICK["1-plain"]

# The peer that a change of tercel's is compared by: measured in the same run, and not changed.
REFERENCES = {"3": "hypercorn", "1": "uvicorn", "1-plain": "uvicorn"}


@dataclass(frozen=True)
class Scenario:
    """One row of the tables.

    `load` is called with the server, whole seconds, which not every load heeds, and the file of
    the certificate authority. `quick` is for what a quick run has, too; `syscalls` for what system
    calls are counted in; `warm` for loads that keep their own beginning out of the figures.
    """

    title: str
    http: str
    unit: str
    servers: tuple[str, ...]
    load: Callable[[Server, int, Path], Work]
    quick: bool = False
    syscalls: bool = False
    warm: bool = False


@dataclass(frozen=True)
class Memory:
    """One row of the memory table: `measure` gives KiB per `unit` of a server just started."""

    title: str
    http: str
    unit: str
    servers: tuple[str, ...]
    measure: Callable[[Server], float]


def _h3(title: str, quick: bool = False, syscalls: bool = False, **load: object) -> Scenario:
    def run(server: Server, seconds: int, ca: Path) -> Work:
        if "requests" in load:
            return loads.h3(server, seconds, **load)  # type: ignore[arg-type]
        return loads.h3_again(server, seconds, **load)  # type: ignore[arg-type]

    return Scenario(title, "3", "request", H3, run, quick, syscalls, warm=True)


def _h1(
    title: str, http: str, quick: bool = False, syscalls: bool = False, **load: object
) -> Scenario:
    def run(server: Server, seconds: int, ca: Path) -> Work:
        if "requests" in load:
            return loads.h1(server, seconds, **load)  # type: ignore[arg-type]
        return loads.h1_again(server, seconds, **load)  # type: ignore[arg-type]

    return Scenario(title, http, "request", H1, run, quick, syscalls)


def _single_pages() -> Scenario:
    def run(server: Server, seconds: int, ca: Path) -> Work:
        return loads.h3_single_pages(server, seconds)

    title = f"a page of {traffic.PAGE_REQUESTS} requests on a new connection"
    return Scenario(title, "3", "page", H3, run, True)


def _bulk(
    title: str, http: str, servers: tuple[str, ...], size: int, quick: bool
) -> list[Scenario]:
    def down(server: Server, seconds: int, ca: Path) -> Work:
        return loads.download(server, seconds, ca, size)

    def up(server: Server, seconds: int, ca: Path) -> Work:
        return loads.upload(server, seconds, ca, size)

    return [
        Scenario(f"{title} down", http, "Mbit", servers, down, quick),
        Scenario(f"{title} up", http, "Mbit", servers, up, quick),
    ]


def _websocket(title: str, http: str, streams: int, quick: bool = False) -> Scenario:
    shape = websocket.Scenario(http, 32 // streams, streams)

    def run(server: Server, seconds: int, ca: Path) -> Work:
        with websocket.connected(shape, server) as client:
            client.echo(0.3)
            before = server.cpu_seconds()
            messages = client.echo(seconds)
            return Work(messages, seconds, server.cpu_seconds() - before)

    names = ("tercel",) if http == "3" else WEBSOCKET
    return Scenario(title, http, "message", names, run, quick, warm=True)


def _async(function: Callable[..., object], **arguments: object) -> Callable[..., Work]:
    def run(server: Server, seconds: int, ca: Path) -> Work:
        return asyncio.run(function(server, seconds, **arguments))  # type: ignore[arg-type,return-value]

    return run


def _handshakes(kind: str) -> Scenario:
    def run(server: Server, seconds: int, ca: Path) -> Work:
        if kind == "resumed" and not asyncio.run(quic_client.takes_up_sessions(server)):
            raise NotSupported(f"{server.name} does not resume sessions")
        return loads.handshakes(server, 300, kind)

    return Scenario(f"{kind} handshake", "3", "connection", HANDSHAKES, run, True, warm=True)


_PAGES, _POSTS, _CALLS = traffic.pages, traffic.json_posts, traffic.calls

SCENARIOS = [
    _h3(
        "pages, 4 connections, 32 in flight", True, True,
        requests=_PAGES, connections=4, in_flight=32,
    ),
    _h3("pages, 100 connections", True, True, requests=_PAGES, connections=100, in_flight=1),
    _single_pages(),
    _h3("JSON POST, 4 connections, 8 in flight", True, requests=_POSTS, connections=4, in_flight=8),
    _h3(
        "small calls, 4 connections, 25 in flight", True,
        requests=_CALLS, connections=4, in_flight=25,
    ),
    _h3("pages, 1 connection", False, True, requests=_PAGES, connections=1, in_flight=1),
    _h3("pages, 1 connection, 32 in flight", requests=_PAGES, connections=1, in_flight=32),
    _h3("pages, 1 connection, 100 in flight", requests=_PAGES, connections=1, in_flight=100),
    _h3("pages, 1,000 connections", requests=_PAGES, connections=1000, in_flight=1),
    _h3("the same request again, 4 connections, 32 in flight", connections=4, in_flight=32),
    _h3(
        "16 KiB JSON, 4 connections, 8 in flight",
        requests=traffic.large_documents, connections=4, in_flight=8,
    ),
    _h3(
        "POST 64 KiB, 4 connections, 8 in flight",
        requests=traffic.uploads, connections=4, in_flight=8,
    ),
    *_bulk("5 MB", "3", H3, 5_000_000, True),
    *_bulk("100 MB", "3", H3, 100_000_000, False),
    _handshakes("full"),
    _handshakes("resumed"),
    Scenario(
        "GET beside none", "3", "request", H3,
        _async(quic_client.beside_idle_streams, connections=10, streams=0),
    ),
    Scenario(
        "GET beside 1,000 open idle streams", "3", "request", H3,
        _async(quic_client.beside_idle_streams, connections=10, streams=100),
    ),
    _websocket("WebSocket echo, messages of changing sizes, 32 on a connection", "3", 32),
    *(
        scenario
        for http in ("1-plain", "1")
        for scenario in (
            _h1("pages, 32 connections", http, True, True, requests=_PAGES, connections=32),
            _h1(
                "JSON POST, 32 connections", http, http == "1-plain",
                requests=_POSTS, connections=32,
            ),
            _websocket("WebSocket echo, messages of changing sizes, 32 connections", http, 1, True),
            _h1("the same request again, 32 connections", http, connections=32),
            _h1(
                "16 KiB JSON, 32 connections", http,
                requests=traffic.large_documents, connections=32,
            ),
            _h1("POST 64 KiB, 32 connections", http, requests=traffic.uploads, connections=32),
            *_bulk("100 MB", http, H1, 100_000_000, False),
        )
    ),
    _h1("pages, 1 connection", "1-plain", requests=_PAGES, connections=1),
    _h1("pages, 1,000 connections", "1-plain", requests=_PAGES, connections=1000),
]  # fmt: skip


def _idle(http: str, servers: tuple[str, ...], count: int = 1000) -> Memory:
    function = quic_client.idle_connections if http == "3" else quic_client.idle_h1_connections
    measure = partial(_measured, function, count)
    return Memory(f"{count:,} idle connections", http, "connection", servers, measure)


def _measured(function: Callable[..., object], count: int, server: Server) -> float:
    return asyncio.run(function(server, count))  # type: ignore[arg-type,return-value]


def _slow(title: str, http: str, *, upload: bool) -> Memory:
    measure = partial(flow_control.memory_added, upload=upload)
    return Memory(f"1 GiB to {title} that reads slowly", http, "transfer", ("tercel",), measure)


MEMORY = [
    _idle("3", H3),
    _idle("1-plain", H1),
    _idle("1", H1),
    *(
        _slow(title, http, upload=upload)
        for http in ("3", "1")
        for title, upload in (("an application", True), ("a client", False))
    ),
]
