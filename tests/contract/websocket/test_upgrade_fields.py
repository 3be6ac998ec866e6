"""Applications that know a WebSocket by the Upgrade field of HTTP/1.1, as python-socketio does."""

import re
from pathlib import Path
from typing import Any

from tests.contract.apps import Receive, Scope, Send
from tests.contract.websocket.apps import echo
from tests.contract.websocket.conftest import Served
from tests.support.asynchronous import asynctest

ROOT = Path(__file__).parents[3]


def documented() -> str:
    """The class UpgradeFields as docs/frameworks.md has it."""
    page = (ROOT / "docs" / "frameworks.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(class UpgradeFields:.*?\n)\n\napp = ", page, re.DOTALL)
    return str(code)


async def picky(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo where there is one Upgrade and one Connection; refuse all else."""
    if scope["type"] != "websocket":
        raise NotImplementedError
    names = [name for name, _ in scope["headers"] if name in (b"upgrade", b"connection")]
    if sorted(names) == [b"connection", b"upgrade"]:
        await echo(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


@asynctest
async def test_no_upgrade_field_is_made_up_over_http3(served_h3: Served) -> None:
    async with served_h3(picky) as client:
        assert (await client.refusal("/")).status == 403


@asynctest
async def test_the_documented_wrapper_adds_the_fields(served: Served) -> None:
    names: dict[str, Any] = {}
    exec(documented(), names)
    async with served(names["UpgradeFields"](picky)) as client:
        assert await (await client.connect("/")).echo("hello") == "hello"


def test_the_documented_wrapper_is_the_one_that_is_tried_with_python_socketio() -> None:
    tried = ROOT / "tools" / "frameworks" / "apps" / "upgrade_fields.py"
    assert documented() in tried.read_text("utf-8")
