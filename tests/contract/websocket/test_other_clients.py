"""A client that shares no code with the server: urllib3-future on wsproto and, for HTTP/3, qh3."""

import asyncio
import os
from pathlib import Path
from typing import Any

import niquests
import pytest

from tests.contract.websocket.apps import Record, echo
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

MESSAGES = ["hello", "", "\u20ac" * 1000, b"bytes", b"\x00" * 65_536, os.urandom(200_000)]


def talk(port: int, authority: Path, *, h3: bool, messages: list[Any]) -> tuple[int, list[Any]]:
    """Echo `messages`, and close: the HTTP version in use and the answers."""
    with niquests.Session(disable_http1=h3, disable_http2=True, disable_http3=not h3) as session:
        # The implementation that does RFC 8441 and 9220; the default one knows HTTP/1.1 alone.
        scheme = "wss+rfc8441" if h3 else "wss"
        if h3:
            session.quic_cache_layer.add_domain("localhost", port)
        response = session.get(f"{scheme}://localhost:{port}/", verify=str(authority), timeout=60)
        assert response.status_code == (200 if h3 else 101)
        extension: Any = response.extension
        answers = []
        for message in messages:
            extension.send_payload(message)
            answers.append(extension.next_payload())
        extension.close()
        assert response.http_version is not None
        return response.http_version, answers


@pytest.mark.parametrize(("h3", "version"), [(False, 11), (True, 30)], ids=["h1", "h3"])
@asynctest
async def test_messages_are_echoed(
    served_h3: Served, authority_path: Path, h3: bool, version: int
) -> None:
    async with served_h3(echo) as client:
        port = client.http.port
        answered = asyncio.to_thread(talk, port, authority_path, h3=h3, messages=MESSAGES)
        assert await answered == (version, MESSAGES)


@pytest.mark.parametrize("h3", [False, True], ids=["h1", "h3"])
@asynctest
async def test_its_close_is_heard(served_h3: Served, authority_path: Path, h3: bool) -> None:
    record = Record()
    async with served_h3(record.app) as client:
        await asyncio.to_thread(talk, client.http.port, authority_path, h3=h3, messages=[])
        assert (await record.disconnected)["type"] == "websocket.disconnect"
