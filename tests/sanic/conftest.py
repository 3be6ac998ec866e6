"""The servers of the suite, each in a process, and the client for each HTTP version."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tercel.certs.selfsigned import DevelopmentCertificates
from tercel.server import AsyncioServer
from tests.contract.h1 import H1Client
from tests.contract.h3 import H3ContractClient
from tests.contract.websocket.client import WebSocketClient
from tests.contract.websocket.h1 import H1WebSocketClient
from tests.contract.websocket.h3 import H3WebSocketClient
from tests.support.ports import free_port

_ROOT = Path(__file__).parent.parent.parent
_SECONDS = 60


class Server:
    """A server process and what it says of its start and stop."""

    def __init__(self, how: str, pem: Path, directory: Path) -> None:
        self.port = free_port()
        self.said: list[tuple[str, str]] = []
        """The listeners that have run, in order, each with its process."""
        directory.mkdir(parents=True, exist_ok=True)
        fifo, self._output = directory / "events", directory / "output"
        os.mkfifo(fifo)
        # Open for writing, too: it must not end when the last process has written.
        self._events = os.fdopen(os.open(fifo, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
        self._rest = b""
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.sanic.server", how, str(self.port), pem, fifo],
                cwd=_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Sanic's manager kills its whole process group when a worker does not start.
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "ignore"},
            )

    @property
    def events(self) -> list[str]:
        """The listeners that have run, in order, whatever the process."""
        self._listen(0)
        return [name for name, _ in self.said]

    @property
    def events_by_process(self) -> dict[str, list[str]]:
        """The same for each process."""
        self._listen(0)
        found: dict[str, list[str]] = {}
        for name, process in self.said:
            found.setdefault(process, []).append(name)
        return found

    @property
    def output(self) -> str:
        """All it has printed."""
        return self._output.read_text("utf-8", "replace")

    def wait_for(self, event: str, count: int = 1) -> None:
        """Return when `event` was said `count` times."""
        until = time.monotonic() + _SECONDS
        runs = True
        while self.events.count(event) < count:
            assert time.monotonic() < until, f"no {event} in time:\n{self.output}"
            # It may have said so, and ended, since it was listened to.
            assert runs, f"the server ended:\n{self.output}"
            runs = self.process.poll() is None
            self._listen(1 if runs else 0)

    def stop(self) -> None:
        """Send SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server does not end:\n{self.output}") from None

    def close(self) -> None:
        """Let nothing be left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._events.close()

    def _listen(self, seconds: float) -> None:
        while select.select([self._events], [], [], seconds)[0]:
            *lines, self._rest = (self._rest + (self._events.read(65_536) or b"")).split(b"\n")
            for line in lines:
                name, _, process = line.decode().partition(" ")
                self.said.append((name, process))
            seconds = 0


Start = Callable[[str], Server]


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost with its key."""
    path = DevelopmentCertificates(tmp_path_factory.mktemp("sanic")).ensure().certificate_path
    assert path is not None
    return path


@pytest.fixture
def start(pem: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(how)`: a server of the test's own; see `tests.sanic.server`."""
    servers: list[Server] = []

    def begin(how: str) -> Server:
        server = Server(how, pem, tmp_path / str(len(servers)))
        servers.append(server)
        server.wait_for("after_server_start", 2 if how == "installed-workers" else 1)
        return server

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def shared(pem: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`shared(how)`: one server of each kind for all tests that leave it as it was."""
    servers: dict[str, Server] = {}

    def get(how: str) -> Server:
        if how not in servers:
            servers[how] = Server(how, pem, tmp_path_factory.mktemp("shop"))
            servers[how].wait_for("after_server_start")
        return servers[how]

    yield get
    for server in servers.values():
        server.stop()
        server.close()


@asynccontextmanager
async def connected(port: int, version: str) -> AsyncIterator[WebSocketClient]:
    """A client of the server at `port`; plain requests go through its `http`."""
    server = cast(AsyncioServer, SimpleNamespace(addresses=[f"127.0.0.1:{port}"]))
    client: WebSocketClient = (
        H1WebSocketClient(H1Client(server))
        if version == "h1"
        else H3WebSocketClient(H3ContractClient(server))
    )
    try:
        yield client
    finally:
        await client.close()


Connect = Callable[[], AbstractAsyncContextManager[WebSocketClient]]


@pytest.fixture(params=["sanic-h1", "tercel-h1", "tercel-h3"])
def shop(request: pytest.FixtureRequest, shared: Start) -> Connect:
    """`async with shop() as client`: a new client of the shop, on each server and version."""
    how, _, version = request.param.partition("-")
    server = shared(how)
    return lambda: connected(server.port, version)
