"""The line of the access log for a WebSocket: the same on every version but for its first words."""

import asyncio
import logging
import re
from collections.abc import Callable

import pytest

from tests.contract.apps import Receive, Send
from tests.contract.websocket.apps import Record, accepted, bye, echo, hear, say
from tests.contract.websocket.client import BROKEN_FRAME, End, WebSocketClient
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

Line = Callable[[WebSocketClient], str]

OPENED = {"1.1": '"GET /chat HTTP/1.1" 101', "3": '"CONNECT /chat HTTP/3" 200'}


@pytest.fixture
def rest_of_line(caplog: pytest.LogCaptureFixture) -> Line:
    """The only line of the access log: its size and its note, what differs taken out."""
    caplog.set_level(logging.INFO, "tercel.access")

    def rest(client: WebSocketClient) -> str:
        (line,) = [r.getMessage() for r in caplog.records if r.name == "tercel.access"]
        matched = re.fullmatch(r'127\.0\.0\.1:\d+ (".*" \d+) (.*)', line)
        assert matched, line
        assert matched[1] == OPENED[client.http_version]
        return re.sub(r" \d+\.\dms", "", matched[2])

    return rest


async def says_4_bytes(receive: Receive, send: Send) -> None:
    await say(send, "ab")


async def fails(receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


@asynctest
async def test_a_regular_close_by_the_client_has_no_note(
    served: Served, rest_of_line: Line
) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/chat")
        assert await conversation.echo("four") == "four"
        assert await conversation.close() == End(1000)
    # A frame's head and the message, then the close frame with its code.
    assert rest_of_line(client) == "10"


@asynctest
async def test_a_regular_close_by_the_application_has_no_note(
    served: Served, rest_of_line: Line
) -> None:
    async with served(accepted(says_4_bytes)) as client:
        conversation = await client.connect("/chat")
        assert await conversation.recv() == "ab"
        assert await conversation.end() == End(1000)
    assert rest_of_line(client) == "8"


@asynctest
async def test_a_close_frame_without_a_code_is_regular(served: Served, rest_of_line: Line) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/chat")
        await conversation.raw(b"\x88\x80\x00\x00\x00\x00")
        await conversation.end()
    assert rest_of_line(client) == "2"


@asynctest
async def test_the_stop_of_the_server_is_regular(served: Served, rest_of_line: Line) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/chat")
        client.server.close()
        assert (await conversation.end()).code == 1001
    assert rest_of_line(client) == "4"


@asynctest
async def test_the_clients_code_and_reason_are_told(served: Served, rest_of_line: Line) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/chat")
        await conversation.close(3456, 'no "more"')
    assert rest_of_line(client) == r"13 (closed with 3456: no \x22more\x22)"


@asynctest
async def test_the_applications_code_and_reason_are_told(
    served: Served, rest_of_line: Line
) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await bye(send, 4000, "enough")

    async with served(accepted(talk)) as client:
        conversation = await client.connect("/chat")
        assert await conversation.end() == End(4000, "enough")
    assert rest_of_line(client) == "10 (closed with 4000: enough)"


@asynctest
async def test_an_application_that_fails_is_1011(served: Served, rest_of_line: Line) -> None:
    async with served(accepted(fails)) as client:
        conversation = await client.connect("/chat")
        assert (await conversation.end()).code == 1011
    assert rest_of_line(client).startswith("4 (closed with 1011")


@asynctest
async def test_a_broken_frame_is_1002(served: Served, rest_of_line: Line) -> None:
    async with served(echo) as client:
        conversation = await client.connect("/chat")
        await conversation.raw(BROKEN_FRAME)
        assert (await conversation.end()).code == 1002
    assert " (closed with 1002: invalid opcode" in rest_of_line(client)


@asynctest
async def test_a_client_that_vanishes_is_1006(served: Served, rest_of_line: Line) -> None:
    record = Record()
    async with served(record.app) as client:
        conversation = await client.connect("/chat")
        await conversation.ping(b"open")
        conversation.vanish()
        await record.disconnected
    assert rest_of_line(client).startswith("6 (closed with 1006: ")


@asynctest
async def test_a_client_that_does_not_answer_the_close_frame_is_1006(
    served: Served, rest_of_line: Line
) -> None:
    deaf, returned = asyncio.Event(), asyncio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await deaf.wait()
        await bye(send)
        await hear(receive)
        returned.set()

    async with served(accepted(talk), ws_close_timeout=0.05) as client:
        conversation = await client.connect("/chat")
        conversation.deaf()
        deaf.set()
        await conversation.end()
        await returned.wait()
    assert rest_of_line(client) == "4 (closed with 1006: no close frame)"
