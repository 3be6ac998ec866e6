"""What only HTTP/3 has: extended CONNECT (RFC 9220), its stream, and the connection it shares."""

import asyncio
import logging
from typing import Any

import pytest

from tests.contract.apps import Receive, Send
from tests.contract.websocket.apps import Record, accepted, bye, echo
from tests.contract.websocket.client import BROKEN_FRAME, End
from tests.contract.websocket.conftest import Served
from tests.contract.websocket.h3 import H3Conversation, H3WebSocketClient, extended_connect
from tests.support.asynchronous import asynctest
from tests.support.budgets import logged_peaks
from tests.support.h3_client import CONTROL, DATA, SETTINGS, frame, read_varint

ENABLE_CONNECT_PROTOCOL = 0x08
NO_ERROR, REQUEST_CANCELLED, MESSAGE_ERROR = 0x100, 0x10C, 0x10E
VERSION = (b"sec-websocket-version", b"13")


async def opened(client: Any) -> H3Conversation:
    conversation = await client.connect()
    assert isinstance(conversation, H3Conversation)
    return conversation


@asynctest
async def test_the_settings_say_that_extended_connect_is_served(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        assert isinstance(client, H3WebSocketClient)
        connection = await client.connection()
        await client.http.get("/")
        (control,) = [each for each in connection.streams.values() if each.type == CONTROL]
        kind, payload = control.frames[0]
        assert kind == SETTINGS
        settings, position = {}, 0
        while position < len(payload):
            name = read_varint(payload, position)
            assert name is not None
            value = read_varint(payload, name[1])
            assert value is not None
            settings[name[0]], position = value
        assert settings[ENABLE_CONNECT_PROTOCOL] == 1


@pytest.mark.parametrize("protocol", [b"websockets", b"connect-udp", b"WebSocket"])
@asynctest
async def test_an_unknown_protocol_is_answered_with_501(served_h3: Served, protocol: bytes) -> None:
    async with served_h3(echo) as client:
        assert (await client.ask("CONNECT", [VERSION], protocol=protocol)).status == 501
        assert await (await client.connect()).echo("lives") == "lives"


@asynctest
async def test_a_protocol_on_another_method_is_malformed(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        exchange = await client.ask("GET", [VERSION])
        assert exchange.broken
        assert exchange.status is None
        assert await (await client.connect()).echo("lives") == "lives"


@asynctest
async def test_the_answer_has_no_upgrade_and_no_key(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        fields = (await client.connect()).fields
        assert fields[":status"] == "200"
        assert not {"upgrade", "connection", "sec-websocket-accept"} & set(fields)


@asynctest
async def test_the_stream_ends_with_fin_in_both_directions_after_the_handshake(
    served_h3: Served,
) -> None:
    async with served_h3(echo) as client:
        conversation = await opened(client)
        assert await conversation.close() == End(1000)
        stream = conversation.stream
        assert (stream.ended, stream.reset_code, stream.stop_code) == (True, None, None)


@asynctest
async def test_fin_without_a_closing_handshake_is_reset_with_request_cancelled(
    served_h3: Served,
) -> None:
    record = Record()
    async with served_h3(record.app) as client:
        conversation = await opened(client)
        connection = await client.connection()  # type: ignore[attr-defined]
        connection.send(conversation.stream, b"", end=True)
        assert (await record.disconnected)["code"] == 1006
        await conversation.end()
        assert conversation.stream.reset_code == REQUEST_CANCELLED


@asynctest
async def test_a_reset_by_the_client_is_answered_with_request_cancelled(served_h3: Served) -> None:
    record = Record()
    async with served_h3(record.app) as client:
        conversation = await opened(client)
        connection = await client.connection()  # type: ignore[attr-defined]
        connection.reset(conversation.stream, REQUEST_CANCELLED)
        assert (await record.disconnected)["code"] == 1006
        await conversation.end()
        assert conversation.stream.reset_code == REQUEST_CANCELLED


@asynctest
async def test_an_unanswered_close_is_reset_with_request_cancelled(served_h3: Served) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await bye(send)

    async with served_h3(accepted(talk), ws_close_timeout=0.05) as client:
        conversation = await opened(client)
        conversation.deaf()
        await conversation.end()
        stream = conversation.stream
        assert REQUEST_CANCELLED in (stream.reset_code, stream.stop_code)


@asynctest
async def test_a_broken_frame_costs_its_stream_alone(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        broken, other = await opened(client), await opened(client)
        await broken.raw(BROKEN_FRAME)
        assert (await broken.end()).code == 1002
        assert await other.echo("lives") == "lives"
        assert client.http.connections == 1


@asynctest
async def test_a_trailer_section_ends_the_clients_side(served_h3: Served) -> None:
    record = Record()
    async with served_h3(record.app) as client:
        conversation = await opened(client)
        connection = await client.connection()  # type: ignore[attr-defined]
        # RFC 9114 4.4: a CONNECT stream has DATA frames alone, so this is none of ours.
        connection.send(conversation.stream, extended_connect(b"/", []), end=True)
        assert (await record.disconnected)["code"] == 1006
        await conversation.end()


@asynctest
async def test_frames_may_be_cut_anywhere_between_data_frames(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        conversation = await opened(client)
        connection = await client.connection()  # type: ignore[attr-defined]
        message = b"\x81\x85\x00\x00\x00\x00hello"
        for at in range(len(message)):
            connection.send(conversation.stream, frame(DATA, message[at : at + 1]))
            await connection.settled()
        assert await conversation.recv() == "hello"


@asynctest
async def test_a_hundred_websockets_share_a_connection(served_h3: Served) -> None:
    async with served_h3(echo) as client:
        conversations = [await client.connect() for _ in range(100)]
        answers = await asyncio.gather(
            *(each.echo(str(number)) for number, each in enumerate(conversations))
        )
        assert answers == [str(number) for number in range(100)]
        assert client.http.connections == 1
        ends = await asyncio.gather(*(each.close() for each in conversations))
        assert set(ends) == {End(1000)}


@asynctest
async def test_the_windows_of_ended_websockets_are_given_back(served_h3: Served) -> None:
    record_count = 0

    async def talk(receive: Receive, send: Send) -> None:
        nonlocal record_count
        record_count += 1

    # Far less than all of them bring: what is never read must count as consumed in the end.
    settings = {"stream_window_bytes": 65_536, "connection_window_bytes": 131_072}
    async with served_h3(accepted(talk), **settings) as client:
        for _ in range(20):
            conversation = await client.connect()
            await conversation.raw(b"\x82\xfe\x40\x00\x00\x00\x00\x00" + b"x" * 16_384)
            assert (await conversation.end()).code == 1000
        response = await client.http.request("POST", "/upload", content=b"x" * 100_000)
        assert response.status == 200
    assert record_count == 20


@asynctest
async def test_a_hundred_websockets_that_chat_on_one_connection_use_no_budget(
    served_h3: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tercel.quic")
    async with served_h3(echo) as client:
        conversations = [await client.connect() for _ in range(100)]
        for _ in range(50):
            echoes = await asyncio.gather(*(each.echo("x") for each in conversations))
            assert echoes == ["x"] * 100
    (peaks,) = logged_peaks(caplog.text)
    assert max(peaks.values()) <= 0.1
