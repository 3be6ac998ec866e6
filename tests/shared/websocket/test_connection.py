from typing import Any

import pytest

from tercel.shared.errors import LocalProtocolError
from tercel.shared.websocket.connection import WebSocketConnection
from tests.support.asynchronous import asynctest


class Asgi:
    """The two callables of an ASGI connection."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def receive(self) -> Any:
        return self.messages.pop(0)


def connection(asgi: Asgi, subprotocols: list[str] | None = None) -> WebSocketConnection:
    return WebSocketConnection(asgi.send, asgi.receive, subprotocols)


def received(**data: Any) -> dict[str, Any]:
    return {"type": "websocket.receive", **data}


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["a", "b"], ["c", "b", "a"], "b"),
        (["a"], ["b"], None),
        (["a"], None, None),
        (None, ["a"], None),
    ],
)
@asynctest
async def test_the_first_wanted_subprotocol_that_is_offered_is_accepted(
    offered: list[str] | None, wanted: list[str] | None, chosen: str | None
) -> None:
    asgi = Asgi()
    await connection(asgi, offered).accept(wanted)
    assert asgi.sent == [{"type": "websocket.accept", "subprotocol": chosen}]


@asynctest
async def test_messages_are_sent_as_what_they_are() -> None:
    asgi = Asgi()
    ws = connection(asgi)
    for data in ("text", b"bytes", bytearray(b"array"), memoryview(b"view"), 1):
        await ws.send(data, "ignored", also="ignored")  # type: ignore[arg-type]
    assert asgi.sent == [
        {"type": "websocket.send", "text": "text"},
        {"type": "websocket.send", "bytes": b"bytes"},
        {"type": "websocket.send", "bytes": b"array"},
        {"type": "websocket.send", "bytes": b"view"},
        {"type": "websocket.send", "text": "1"},
    ]


@asynctest
async def test_messages_are_received_until_the_client_disconnects() -> None:
    asgi = Asgi(
        {"type": "websocket.connect"},
        received(text="a"),
        received(bytes=b"b"),
        received(text="", bytes=None),
        received(text=None, bytes=b""),
        {"type": "websocket.disconnect", "code": 1000},
    )
    ws = connection(asgi)
    messages = [await ws.recv(), await ws.receive(), await ws.recv("ignored"), await ws.recv()]
    assert messages == ["a", b"b", "", b""]
    assert await ws.recv() is None
    assert await ws.recv() is None


@pytest.mark.parametrize("data", [{}, {"text": None}, {"text": None, "bytes": None}])
@asynctest
async def test_a_message_with_neither_text_nor_bytes_is_an_error(data: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        await connection(Asgi(received(**data))).recv()


@asynctest
async def test_closing_is_sent_once() -> None:
    asgi = Asgi()
    ws = connection(asgi)
    await ws.close(3000, "why")
    await ws.close()
    assert asgi.sent == [{"type": "websocket.close", "code": 3000, "reason": "why"}]
    assert await ws.recv() is None


@asynctest
async def test_what_the_client_has_closed_is_not_closed_again() -> None:
    asgi = Asgi({"type": "websocket.disconnect", "code": 1001})
    ws = connection(asgi)
    await ws.recv()
    await ws.close()
    assert asgi.sent == []


def test_subprotocols_can_be_replaced() -> None:
    ws = connection(Asgi(), ["a"])
    assert ws.subprotocols == ["a"]
    ws.subprotocols = ["b"]
    assert ws.subprotocols == ["b"]
    ws.subprotocols = None
    assert ws.subprotocols == []
