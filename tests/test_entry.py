"""run() and Server, the ways in for programs: as the README shows them, on real sockets."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.shared.errors import ApplicationFailed, ConfigurationError, ServerError
from tercel.shared.settings import Settings
from tests.support.asynchronous import asynctest
from tests.support.descriptors import no_socket_left_open
from tests.support.h3_client import H3Client
from tests.support.process import begin_stop

ROOT = Path(__file__).parent.parent

APPLICATION = """
import asyncio
import signal

import tercel


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
    if scope["path"] == "/long":
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ended.set)
        await ended.wait()
    await send({"type": "http.response.body", "body": b"ended"})


"""

RUN = """
if __name__ == "__main__":
    tercel.run(app, bind=(), plain_bind="127.0.0.1:0")
"""

RUN_BY_NAME = """
if __name__ == "__main__":
    tercel.run("program:app", bind=(), plain_bind="127.0.0.1:0")
"""

EMBED = """
async def main():
    async with tercel.Server(app, bind=(), plain_bind="127.0.0.1:0") as server:
        print("http://" + server.addresses[0], "cleartext", flush=True)
        await server.serve_forever()
    print("stopped in order", flush=True)


if __name__ == "__main__":
    import logging
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
"""


class Program:
    """A Python program that serves, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.printed += line
            if "cleartext" in line:
                return
        pytest.fail(process.communicate()[1])

    def connect(self) -> HTTPConnection:
        place = re.search(r"http://127\.0\.0\.1:(\d+)", self.printed)
        assert place, self.printed
        return HTTPConnection("127.0.0.1", int(place[1]), timeout=60)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # What the run of the tests is told is nothing for a server.
    for name in [name for name in os.environ if name.startswith("TERCEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERCEL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


@contextmanager
def program(home: Path, source: str) -> Iterator[Program]:
    (home / "program.py").write_text(APPLICATION + source)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "program.py"],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


# -- run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [RUN, RUN_BY_NAME, EMBED], ids=["run", "by name", "Server"])
def test_a_signal_lets_a_running_request_finish_and_the_program_end(
    home: Path, source: str
) -> None:
    with program(home, source) as running, closing(running.connect()) as connection:
        connection.request("GET", "/long")
        answer = connection.getresponse()
        assert answer.read(7) == b"begun, "
        begin_stop(running.process, signal.SIGTERM)
        running.process.send_signal(signal.SIGUSR1)
        assert answer.read() == b"ended"
        printed, errors = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    assert "Traceback" not in errors
    if source is EMBED:
        assert printed == "stopped in order\n"


def test_run_prints_and_logs_what_the_command_line_does(home: Path) -> None:
    (home / "program.py").write_text(APPLICATION + RUN_BY_NAME)
    outputs = []
    for command in (
        ["program.py"],
        ["-m", "tercel", "--bind", "", "--plain-bind", "127.0.0.1:0", "program:app"],
    ):
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = Program(process)
        with closing(running.connect()) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"begun, ended"
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors.splitlines()[-1].endswith(" INFO    tercel.server: stopped")
        # What differs: the port and the time.
        told = re.sub(r"127\.0\.0\.1:\d+|\d\d:\d\d:\d\d|\d+\.\d+ms", "", errors)
        outputs.append((re.sub(r":\d+", ":", running.printed), told))
    assert outputs[0] == outputs[1]
    assert '"GET / HTTP/1.1" 200' in outputs[0][1]


def test_a_terminal_gets_a_farewell_after_the_last_line_of_the_log(home: Path) -> None:
    (home / "program.py").write_text(APPLICATION + RUN)
    terminal, errors = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "program.py"], cwd=home, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    os.close(errors)
    Program(process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    lines = os.read(terminal, 4096).decode().splitlines()[-2:]
    os.close(terminal)
    assert lines[0].endswith(" INFO    tercel.server: stopped")
    # In a language of its own, but a sentence and nothing else.
    assert len(lines[1].split()) <= 2
    assert lines[1][-1] in ".。"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_feilds": 3}, "unknown setting 'max_feilds': did you mean max_fields?"),
        ({"xyzzy": 3}, "unknown setting 'xyzzy'"),
        ({"max_fields": 0}, "max_fields is 1 or more, not 0"),
        ({"max_fields": "many"}, "max_fields is a whole number, not 'many'"),
        ({"root_path": "api"}, "root_path starts with a slash: /api"),
        ({"bind": "127.0.0.1"}, "is not an address"),
        ({"bind": ()}, "nothing to serve on: give bind, plain_bind or unix"),
        ({"bind": "0.0.0.0:0"}, "needs a certificate: give cert and key"),
        ({"key": "key.pem"}, "key without cert"),
        ({"settings": {"max_fields": 3}}, "settings is a tercel.Settings, not a builtins.dict"),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["run", "Server"])
def test_a_wrong_setting_is_told_by_its_keyword(
    way: str, options: dict[str, Any], message: str
) -> None:
    async def serve() -> None:
        async with tercel.Server(hello, **options):
            pytest.fail("it serves")

    with pytest.raises(ConfigurationError) as caught, no_socket_left_open():
        if way == "run":
            tercel.run(hello, **options)
        else:
            asyncio.run(serve())
    assert message in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("way", ["run", "Server"])
def test_an_application_that_does_not_start_is_an_error_of_its_own(way: str, home: Path) -> None:
    async def serve() -> None:
        async with tercel.Server(refusing, bind="127.0.0.1:0"):
            pytest.fail("it serves")

    with pytest.raises(ApplicationFailed, match="no database"), no_socket_left_open():
        if way == "run":
            tercel.run(refusing, bind="127.0.0.1:0")
        else:
            asyncio.run(serve())


def test_run_says_where_it_cannot_run() -> None:
    async def inside_a_loop() -> None:
        tercel.run(hello)

    with pytest.raises(ConfigurationError, match=r"use 'async with tercel.Server"):
        asyncio.run(inside_a_loop())
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(ConfigurationError, match="only the main thread"),
    ):
        threads.submit(tercel.run, hello).result()


def test_run_leaves_logging_alone_that_the_program_has_set_up(home: Path) -> None:
    setup = "import logging\nlogging.basicConfig(format='own %(message)s', level=logging.INFO)\n"
    with program(home, setup + RUN) as running:
        running.process.terminate()
        _, errors = running.process.communicate(timeout=60)
    assert "own SIGTERM: stopping" in errors
    assert all(line.startswith("own ") for line in errors.splitlines())


# -- Server ---------------------------------------------------------------------------------------


@asynctest
async def test_server_serves_http_3_and_http_1_inside_its_block(home: Path) -> None:
    server = tercel.Server(hello, bind="127.0.0.1:0")
    assert not server.is_serving()
    async with server as entered:
        assert entered is server
        assert server.is_serving()
        (address,) = server.addresses
        async with H3Client(int(address.rpartition(":")[2])) as client:
            assert bytes((await client.request()).content) == b"3"
    assert not server.is_serving()


@asynctest
async def test_wait_closed_returns_when_the_server_has_been_closed(home: Path) -> None:
    async with tercel.Server(hello, bind="127.0.0.1:0") as server:
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        assert not waiting.done()
        await server.close()
        await waiting


@asynctest
async def test_settings_are_taken_whole_and_keywords_go_before_them(home: Path) -> None:
    settings = Settings(bind=(), plain_bind=("127.0.0.1:0",), server_name="whole", header=("a: b",))
    async with tercel.Server(hello, settings=settings, server_name="keyword") as server:
        reader, writer = await asyncio.open_connection(*server.addresses[0].split(":"))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert b"server: keyword\r\na: b\r\n" in answer


@asynctest
async def test_a_server_is_started_once(home: Path) -> None:
    server = tercel.Server(hello, bind="127.0.0.1:0")
    with pytest.raises(ServerError, match="use it with 'async with'"):
        _ = server.addresses
    async with server:
        pass
    with pytest.raises(ServerError, match="make a new one"):
        async with server:
            pass


@asynctest
async def test_two_servers_run_beside_each_other(home: Path) -> None:
    async with (
        tercel.Server(hello, bind="127.0.0.1:0") as one,
        tercel.Server(hello, bind="127.0.0.1:0") as other,
    ):
        assert one.addresses != other.addresses


def test_an_application_may_be_named_and_be_made_by_a_factory(home: Path) -> None:
    source = "def make():\n    async def app(scope, receive, send): ...\n    return app\n"
    (home / "made_here.py").write_text(source)
    tercel.Server("made_here:make", app_dir=home, factory=True)
    tercel.Server(lambda: hello, factory=True)
    with pytest.raises(ConfigurationError, match="no attribute 'mak'; did you mean make"):
        tercel.Server("made_here:mak", app_dir=home)


def test_serve_forever_needs_the_thread_that_signals_come_to(home: Path) -> None:
    async def serve() -> None:
        async with tercel.Server(hello, bind="127.0.0.1:0") as server:
            await server.serve_forever()

    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(ConfigurationError, match=r"await wait_closed\(\) in this one"),
    ):
        threads.submit(asyncio.run, serve()).result()
