"""What is left of what clients wrote: on connections that are idle, and after they have gone."""

import ast
import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var

import tercel
from tests.h1.serving import echo
from tests.h1.serving import serving as serving_h1
from tests.quic.http3.test_connection import insert
from tests.quic.served import serving as serving_h3
from tests.support.asynchronous import asynctest
from tests.support.h3_client import HEADERS, SETTINGS, H3Client, frame, headers, section

CONNECTIONS = 20
# What a connection may keep: a head of 2 KiB as bytes, as fields and as a scope.
MOST_KEPT_BYTES = 24_576


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def memory() -> int:
    """Bytes in use by Python, what only the garbage collector can free left out."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def head(target: str = "/", **fields: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


BIG_HEADS = {
    "one long field": [head(Host="a", cookie="c" * 60_000)],
    "many fields": [head(Host="a", **{f"f{number}": "v" * 400 for number in range(100)})],
    "a long target": [head("/" + "t" * 16_000, Host="a")],
    "a long target after short ones": [
        head("/", Host="a"),
        head("/" + "t" * 16_000, Host="a"),
        head("/" + "u" * 16_000, Host="a"),
    ],
    "a long host": [head(Host="h" * 60_000)],
    "many short fields": [head(Host="a", **{f"f{number}": "v" for number in range(120)})],
    "fields that change": [
        head(Host="a", **{f"f{number}": "v" * length for length in (1, 10, 100, 1000)})
        for number in range(60)
    ],
    "one field that changes": [head(Host="a", cookie=f"{number:01000}") for number in range(60)],
}


@pytest.mark.parametrize("kind", BIG_HEADS)
@asynctest
async def test_an_idle_connection_on_http_1_keeps_little_of_its_last_head(kind: str) -> None:
    async with serving_h1(echo) as server:
        clients = [await server.connect() for _ in range(CONNECTIONS)]

        async def ask(requests: list[bytes]) -> int:
            for client in clients:
                for data in requests:
                    client.send(data)
                    assert (await client.response()).status == 200
            server.application.exchanges.clear()
            return memory()

        await ask([head("/", Host="a")])
        before = await ask([head("/", Host="a")])
        after = await ask(BIG_HEADS[kind])
        assert (after - before) / CONNECTIONS < MOST_KEPT_BYTES


@asynctest
async def test_an_idle_connection_on_http_3_keeps_little_of_what_its_client_wrote() -> None:
    async def ask(server: Any, clients: list[H3Client], requests: list[bytes]) -> int:
        for client in clients:
            for data in requests:
                stream = client.send(client.open(), data, end=True)
                await client.until(lambda stream=stream: stream.done)
                assert stream.status == 200
            client.streams.clear()
        server.exchanges.clear()
        return memory()

    # References to one long entry of the dynamic table: a byte each, 3 KB when decoded.
    pseudo = section([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")])[2:]
    authority = section([(b":authority", b"a")])[2:]
    expanding = [
        frame(HEADERS, b"\x02\x00" + pseudo + authority + b"\x80" * count) for count in range(2, 18)
    ]
    async with serving_h3() as server:
        clients = [await H3Client(server.port).__aenter__() for _ in range(CONNECTIONS // 2)]
        try:
            for client in clients:
                client.send(client.encoder, b"\x3f\xe1\x1f" + insert(b"x", b"v" * 3000))
                await client.settled()
            before = await ask(server, clients, [headers()])
            after = await ask(server, clients, expanding)
            assert (after - before) / len(clients) < MOST_KEPT_BYTES
        finally:
            for client in clients:
                client.close()


@asynctest
async def test_settings_that_mean_nothing_here_are_not_kept() -> None:
    many = b"".join(encode_uint_var(0x4000 + number) + b"\0" for number in range(800))
    async with serving_h3() as server, H3Client(server.port, setup=False) as client:
        await client.settled()
        before = memory()
        client.open_uni(0, frame(SETTINGS, many))
        await client.settled()
        (connection,) = server.connections
        assert connection.http is not None
        assert connection.http.peer_settings == {}
        assert memory() - before < MOST_KEPT_BYTES


@asynctest
async def test_a_name_longer_than_any_host_s_is_not_kept() -> None:
    async with serving_h3() as server:
        async with H3Client(server.port, server_name="a" * 2000) as client:
            assert (await client.request()).status == 200
            assert server.exchanges[0].stream.connection.server_name == ""
        async with H3Client(server.port, server_name="b" * 255) as client:
            assert (await client.request()).status == 200
            assert server.exchanges[1].stream.connection.server_name == "b" * 255


@asynctest
async def test_versions_that_a_client_could_have_spoken_are_not_kept() -> None:
    version = 0x00000001
    async with serving_h3() as server:

        async def kept(versions: list[int]) -> float:
            before = memory()
            for _ in range(5):
                client = await H3Client(server.port, supported_versions=versions).__aenter__()
                await client.settled()
                client.vanish()  # the server's side stays
            del client
            return (memory() - before) / 5

        await kept([version])
        few = await kept([version])
        many = await kept([version, *range(0x1A2A3A4A, 0x1A2A3A4A + 800)])
        assert many - few < 8192


@asynctest
async def test_what_clients_wrote_is_not_kept_in_caches_when_they_have_gone() -> None:
    most_bytes = 1_000_000

    def field_names(length: int, number: int) -> list[tuple[bytes, bytes]]:
        return [(b"%b%d" % (b"n" * length, each), b"") for each in range(number)]

    async with serving_h1(echo) as h1, serving_h3() as h3:

        async def attack(rounds: int, size: int) -> None:
            for turn in range(rounds):
                async with H3Client(
                    h3.port, server_name=f"{turn}." + "s" * min(size, 3000)
                ) as client:
                    for length in (size, size // 2):
                        mark = b"%d" % turn * 8
                        for data in (
                            headers(b"GET", b"/", (mark + b"n" * length, b"")),
                            headers(b"POST", b"/", (b"content-length", b"9" * length + mark)),
                            headers(b"M" * length + mark, b"/"),
                            headers(authority=b"h" * length + mark),
                            headers(b"GET", b"/" + mark + b"p" * min(length, 16_000)),
                            headers(b"GET", b"/", (b"te", b"t" * length)),
                            headers(b"GET", b"/", *field_names(min(length, 50), 60)),
                        ):
                            client.send(client.open(), data, end=True)
                        await client.settled()
                client_h1 = await h1.connect()
                client_h1.send(head(f"/{turn}", Host="a", **{f"{turn}" + "N" * size: "v" * size}))
                await client_h1.response()
                client_h1.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b%d\r\n\r\n"
                    % (b"9" * size, turn)
                )
                await client_h1.rest()
                client_h1.close()
            await h3.until(lambda: not h3.connections)
            await h1.until(lambda: not h1.connections)
            h1.application.exchanges.clear()
            h3.exchanges.clear()

        await attack(2, 100)
        before = memory()
        await attack(60, 30_000)
        assert memory() - before < most_bytes


# Module-level caches and what bounds each in bytes; a new one has to say the same of itself.
BOUNDED = {
    "h1/heads.py:_NO_LINES": "nothing: it stays empty",
    "h1/tls.py:_suites": "names of OpenSSL's",
    "quic/http3/errors.py:code_name": "64 numbers",
    "quic/transport/tls_flight.py:_beginning": "nothing of a client's",
    "quic/transport/tls_flight.py:_certificate": "this server's certificates",
    "quic/transport/tls_flight.py:_algorithms": "this server's keys",
    "quic/transport/tls_flight.py:_parameters": "algorithms of this server's keys",
    "quic/http3/frames.py:encode_settings": "this server's settings",
    "quic/transport/keys.py:_label_head": "constants",
    "quic/transport/keys.py:_constants": "cipher suites",
    "quic/transport/keys.py:_suite": "cipher suites and versions",
    "quic/transport/parameters.py:_read_around": "64 times 512 bytes",
    "quic/transport/parameters.py:_versions": "this server's versions",
    "quic/transport/parameters.py:_constant": "this server's settings",
    "quic/transport/initial_state.py:_beginning": "nothing of a client's",
    "quic/transport/resumption.py:_digest": "16 texts of this server's",
    "quic/transport/tokens.py:_packed": "4096 IP addresses",
    "h1/writer.py:_special_names": "fields that this server adds",
    "shared/messages.py:_NAMES": "1024 names of 64 bytes",
    "shared/response_fields.py:_names": "fields that this server adds",
    "install.py:_replaced": "what was replaced in Sanic",
}


def caches(path: Path) -> Iterator[str]:
    """Functions with a cache and module-level collections that are filled later."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any(
            "cache" in ast.unparse(each) for each in node.decorator_list
        ):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            if ast.unparse(node.value) in ("{}", "[]", "set()", "dict()", "deque()") or (
                "lru_cache(" in ast.unparse(node.value)
            ):
                yield name


def test_each_cache_of_the_package_is_known_to_be_bounded_in_bytes() -> None:
    package = Path(tercel.__file__).parent
    found = {
        f"{path.relative_to(package).as_posix()}:{name}"
        for path in sorted(package.rglob("*.py"))
        for name in caches(path)
    }
    assert found == set(BOUNDED)
