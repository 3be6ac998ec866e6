"""The log's sink: whatever a client sends and wherever, a record is one line that can be shown."""

import asyncio
import contextlib
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tercel.shared.apps.asgi import AsgiApplication
from tercel.shared.logs import FORMAT, LineFormatter
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet
from tests.contract.apps import Receive, Scope, Send
from tests.h1.serving import serving as serving_h1
from tests.quic.served import hello
from tests.quic.served import serving as serving_h3
from tests.support.asynchronous import asynctest
from tests.support.h3_client import HEADERS, H3Client, frame, headers, section

FORGED = "2026-01-31T12:00:00+01:00 INFO    tercel.access: forged"
HEADING = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) +"
    r"(?P<logger>tercel\.[a-z0-9.]+): "
)

# What forges lines, orders terminals about or turns text round, among bytes of any kind.
HOSTILE = st.sampled_from(
    [
        b"\n" + FORGED.encode(),
        b"\r",
        b"\x1b[2J",
        b"\x9b31m",
        b'" 200 0 1.0ms\n',
        "\x85\u2028\u2029\u202e\u2066\u200b\ufeff".encode(),
        b"\x7f\x00\x08",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"%s%n",
        b"\\",
    ]
)
ANYTHING = st.lists(st.one_of(HOSTILE, st.binary(max_size=8)), min_size=1, max_size=4).map(b"".join)


class Messages(logging.Handler):
    """What a handler of the program's own would get, whatever it makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class Raw(str):
    """Text that is sent as the bytes that it stands for, one each."""

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        return str.encode(self, "latin-1")


@contextlib.contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """What the command line would write at the level debug; checked at the end."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(LineFormatter(FORMAT))
    plain = Messages()
    root = logging.getLogger("tercel")
    before, root.propagate = root.level, False
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    root.addHandler(plain)
    try:
        yield output
    finally:
        root.removeHandler(handler)
        root.removeHandler(plain)
        root.propagate = True
        root.setLevel(before)
    check(output.getvalue())
    assert [message for message in plain.messages if not message.isprintable()] == []


def check(text: str) -> None:
    for line in text.removesuffix("\n").split("\n"):
        assert line.isprintable(), line
        assert HEADING.match(line) or line.startswith("    "), line
        assert not line.startswith(FORGED), line


def access_lines(output: io.StringIO) -> list[str]:
    headings = ((line, HEADING.match(line)) for line in output.getvalue().split("\n"))
    return [line for line, found in headings if found and found["logger"] == "tercel.access"]


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says what it was sent when it fails."""
    raise ValueError(
        scope["path"], scope["query_string"].decode("latin-1"), str(scope["headers"])
    ) from ValueError(scope["query_string"].decode("latin-1") + scope["path"])


async def run_failing(exchange: Any) -> None:
    loop = asyncio.get_running_loop()
    application = AsgiApplication(fails, settings=Settings(lifespan="off"), tasks=TaskSet(loop))
    application.open(exchange.stream)


@given(
    method=ANYTHING, target=ANYTHING, field=ANYTHING, where=st.sampled_from(["method", "target"])
)
@asynctest
async def test_requests_of_any_bytes_on_http_1_are_one_line_each(
    method: bytes, target: bytes, field: bytes, where: str
) -> None:
    method = method if where == "method" else b"GET"
    with everything_logged() as output:
        async with serving_h1(run_failing, access_log=True) as server:
            client = await server.connect()
            client.send(
                b"%b /%b HTTP/1.1\r\nHost: a\r\nUser-Agent: %b\r\n\r\n" % (method, target, field)
            )
            client.writer.write_eof()
            await client.rest()
            client.close()
            await server.until(lambda: not server.connections)
        assert len(access_lines(output)) <= 1 + target.count(b"\n") + field.count(b"\n")


@given(
    method=ANYTHING,
    path=ANYTHING,
    authority=ANYTHING,
    name=ANYTHING.filter(bool),  # the client's QPACK encoder refuses an empty one
    value=ANYTHING,
)
@asynctest
async def test_requests_of_any_bytes_on_http_3_are_one_line_each(
    method: bytes, path: bytes, authority: bytes, name: bytes, value: bytes
) -> None:
    variants = [
        {b":method": method},
        {b":path": b"/" + path},
        {b":authority": authority},
        {name: value},
        {b"user-agent": value},
        {},
    ]
    usual = {b":method": b"GET", b":scheme": b"https", b":authority": b"a", b":path": b"/"}
    with everything_logged() as output:
        async with serving_h3(run_failing) as server, H3Client(server.port) as client:
            streams = [
                client.send(
                    client.open(), frame(HEADERS, section((usual | each).items())), end=True
                )
                for each in variants
            ]
            await client.until(
                lambda: all(stream.done for stream in streams) or client.close_code is not None
            )
        assert len(access_lines(output)) <= len(variants)


@given(reason=ANYTHING, code=st.sampled_from([0, 0x100, 0x3FFF_FFFF]))
@asynctest
async def test_a_reason_phrase_of_any_bytes_adds_no_line(reason: bytes, code: int) -> None:
    with everything_logged() as output:
        async with serving_h3(lambda exchange: None) as server, H3Client(server.port) as client:
            client.send(client.open(), headers(), end=True)
            await server.until(lambda: len(server.exchanges) == 1)
            client.quic.close(error_code=code, reason_phrase=reason.decode("utf-8", "replace"))
            client.flush()
            await server.until(lambda: server.exchanges[0].error is not None)
        (line,) = access_lines(output)
        assert '"GET / HTTP/3" - 0 ' in line


@given(name=ANYTHING, protocol=ANYTHING)
@asynctest
async def test_names_of_any_bytes_in_the_handshake_add_no_line(
    name: bytes, protocol: bytes
) -> None:
    with everything_logged():
        async with serving_h3(hello) as server:
            options = {
                "server_name": Raw(name.decode("latin-1")),
                "alpn_protocols": [Raw(protocol.decode("latin-1")), "h3"],
            }
            client = H3Client(server.port, **options)
            async with client:
                assert client.connected or client.close_code is not None
