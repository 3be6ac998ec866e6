"""What is left of a WebSocket that has ended."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from websockets.server import ServerProtocol

from tercel.h1.protocol import HttpProtocol
from tercel.shared.stream import RequestStream
from tercel.shared.upgrade import UpgradedStream
from tercel.shared.websocket.impl import WebsocketImplProtocol
from tests.contract.websocket.apps import echo
from tests.contract.websocket.client import BROKEN_FRAME, Conversation
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest

KINDS = (HttpProtocol, RequestStream, UpgradedStream, WebsocketImplProtocol, ServerProtocol)


def present() -> dict[int, str]:
    """What there is of them, whoever made it."""
    # isinstance() would ask what a weak proxy stands for.
    found = (item for item in gc.get_objects() if issubclass(type(item), KINDS))
    return {id(item): type(item).__name__ for item in found}


async def in_peace(conversation: Conversation) -> None:
    await conversation.close()


async def cut_off(conversation: Conversation) -> None:
    conversation.vanish()


async def in_anger(conversation: Conversation) -> None:
    await conversation.raw(BROKEN_FRAME)
    await conversation.end()


@pytest.mark.parametrize("end", [in_peace, cut_off, in_anger])
@asynctest
async def test_a_websocket_that_ended_does_not_wait_for_the_garbage_collector(
    served: Served, end: Callable[[Conversation], Coroutine[Any, Any, None]]
) -> None:
    """With permessage-deflate it would keep some 36 KiB until then, and its connection as well."""
    gc.collect()
    others = present()

    def held() -> set[str]:
        return {name for number, name in present().items() if number not in others}

    async with served(echo) as client:
        conversation = await client.connect()
        await conversation.send("some text")
        assert await conversation.recv() == "some text"
        assert {"UpgradedStream", "WebsocketImplProtocol", "ServerProtocol"} < held()
        gc.collect()
        gc.disable()
        try:
            await end(conversation)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while held():
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
