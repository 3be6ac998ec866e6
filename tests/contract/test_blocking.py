"""An application that blocks the event loop: the log says where, whatever serves it."""

import logging
import ssl
import time
from http.client import HTTPSConnection
from inspect import getsourcelines
from pathlib import Path

import pytest

from tests.contract.apps import Receive, Scope, Send, http_only
from tests.contract.conftest import Pair
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest
from tests.support.process import ServerProcess

LIMIT = 0.1


def reads_a_file() -> None:
    time.sleep(4 * LIMIT)


@http_only
async def blocks(scope: Scope, receive: Receive, send: Send) -> None:
    reads_a_file()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"at last"})


LINE = getsourcelines(reads_a_file)[1] + 1
PLACE = f"{__name__} ({__file__}, line {LINE}, in reads_a_file)"


@asynctest
async def test_the_log_says_where_an_application_blocks_the_loop(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(blocks, blocked_loop_timeout=LIMIT) as client:
        assert (await client.get()).content == b"at last"
    told = [record for record in caplog.records if record.name == "tercel.loop"]
    assert told[0].levelno == logging.WARNING
    assert told[0].getMessage().startswith("the event loop has been blocked for 0.")
    assert told[0].getMessage().endswith(f" s, in {PLACE}")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_command_line_says_it_and_when_the_loop_runs_again(tmp_path: Path, loop: str) -> None:
    with ServerProcess(
        *("--loop", loop, "--blocked-loop-timeout", str(LIMIT), f"{__name__}:blocks"),
        data_directory=tmp_path,
    ) as server:
        trust = ssl.create_default_context(cafile=server.ca_path)
        connection = HTTPSConnection(
            "localhost", server.port, context=trust, timeout=PATIENCE_SECONDS
        )
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"at last"
        connection.close()
        server.terminate()
        assert server.wait(PATIENCE_SECONDS) == 0
        log = server.log
    assert f" s, in {PLACE}" in log
    assert "tercel.loop: the event loop runs again, after 0." in log
