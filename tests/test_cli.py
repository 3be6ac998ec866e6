"""The command line, run as it is typed: in a process of its own."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest

from tercel.shared.settings import Settings
from tercel.shared.sockets import bind_socket
from tercel.version import __version__
from tests.support.process import begin_stop

# An audit hook tells of every bind, so that a test can say that there was none.
WITH_AUDIT = """
import sys

def hook(event, arguments):
    if event == "socket.bind":
        sys.stderr.write(f"bound {arguments[1]}\\n")

sys.addaudithook(hook)
from tercel.cli import main
sys.exit(main(sys.argv[1:]))
"""

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mine"})

def make():
    return app

async def endless(scope, receive, send):
    import asyncio
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.Event().wait()

async def refuses(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})

async def stops(scope, receive, send):
    # Asks for its end when it serves, and tells when that has come.
    import asyncio, os, pathlib, signal
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
        await receive()
        pathlib.Path("stopped").touch()
        await send({"type": "lifespan.shutdown.complete"})

def synchronous(scope, receive, send):
    send({"type": "http.response.start", "status": 200})

thing = 7
"""

# What stops while it starts: the framework's own frames are not the application's.
STARLETTE = """
import os
from contextlib import asynccontextmanager
from starlette.applications import Starlette

@asynccontextmanager
async def lifespan(app):
    os.environ["TEST_ABSENT"]
    yield

app = Starlette(lifespan=lifespan)
"""

SANIC = """
from sanic import Sanic

app = Sanic("test")
app.add_route(print, "/")

@app.{listener}
async def connect(app):
    raise KeyError("TEST_ABSENT")
"""


@pytest.fixture(scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def environment(data_directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERCEL_")}
    paths = [str(Path(__file__).parent.parent), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "error",
        "TERCEL_DATA_DIR": str(data_directory),
        "COLUMNS": "200",
    }


@dataclass
class CommandLine:
    """Runs `tercel` in a directory with an environment."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITH_AUDIT, *arguments],
            cwd=self.home,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def error(self, *arguments: str, **environment: str) -> str:
        """The message of a run that fails before it has bound anything."""
        done = self.run(*arguments, **environment)
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("tercel: error: ")
        assert done.returncode == 2
        return lines[0].removeprefix("tercel: error: ")

    @contextmanager
    def serving(self, *arguments: str, **environment: str) -> Iterator["Running"]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tercel", *arguments],
            cwd=self.home,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Under nohup(1) the tests themselves ignore it, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        running = Running(process, self.environment["TERCEL_DATA_DIR"])
        try:
            running.read_banner()
            yield running
        finally:
            process.kill()
            process.communicate()


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], data_directory: str) -> None:
        self.process = process
        self.banner = ""
        self._data_directory = data_directory

    def read_banner(self) -> None:
        """Read until its last line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.banner += line
            if any(end in line for end in ("Always Trust", "tercel certs", "cleartext", "from /")):
                return
        pytest.fail(self.process.communicate()[1])

    def port(self, scheme: str = "http") -> int:
        match = re.search(rf"{scheme}://[^\s/]+:(\d+)", self.banner)
        assert match, self.banner
        return int(match[1])

    def connect(self, scheme: str = "http") -> HTTPConnection:
        port = self.port(scheme)
        if scheme == "http":
            return HTTPConnection("127.0.0.1", port, timeout=60)
        trusting = ssl.create_default_context(cafile=f"{self._data_directory}/ca.pem")
        return HTTPSConnection("localhost", port, timeout=60, context=trusting)

    def get(self, path: str = "/", scheme: str = "http") -> HTTPResponse:
        with closing(self.connect(scheme)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The exit code and standard error after a signal."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def tercel(home: Path, environment: dict[str, str]) -> CommandLine:
    return CommandLine(home, environment)


# Any free port, and no TLS: the quickest way to a server.
PLAIN = ("--bind", "", "--plain-bind", "127.0.0.1:0")


# -- help -----------------------------------------------------------------------------------------


def test_version_is_printed(tercel: CommandLine) -> None:
    done = tercel.run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tercel {__version__}\n", "")


def test_help_has_every_setting_under_its_group(tercel: CommandLine) -> None:
    done = tercel.run("--help")
    assert done.returncode == 0
    sections = dict(re.findall(r"^(\S[^\n]*):\n((?:[ ]+[^\n]*\n?)+)", done.stdout, re.MULTILINE))
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        assert re.search(rf"^  {option}\b", sections[field.metadata["group"]], re.MULTILINE)
    assert list(sections)[-1] == "Other"
    assert "--config FILE" in sections["Other"]


def test_help_tells_defaults_with_their_units(tercel: CommandLine) -> None:
    text = " ".join(tercel.run("--help").stdout.split())
    assert "[default: 15 seconds]" in text
    assert "[default: 65536 bytes]" in text
    assert "[default: localhost:4433]" in text
    assert "--fallback / --no-fallback" in text
    assert "--access-log / --no-access-log" in text


def test_help_works_as_a_module(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tercel", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("Usage: tercel [OPTIONS] [MODULE:ATTRIBUTE]\n")


# -- serving --------------------------------------------------------------------------------------


def test_without_an_application_the_demo_is_served_on_both_versions(tercel: CommandLine) -> None:
    with tercel.serving("--bind", "127.0.0.1:0") as running:
        assert "demo application" in running.banner
        answer = running.get("/health", "https")
        assert answer.status == 200
        port = re.search(r"https://localhost:(\d+)  HTTP/3 on UDP, HTTP/1.1 on TCP", running.banner)
        assert port
        assert answer.headers["alt-svc"].startswith(f'h3=":{port[1]}"')


def test_the_banner_says_once_how_clients_trust_it_and_certs_says_it_always(
    tercel: CommandLine, tmp_path: Path
) -> None:
    tercel.environment["TERCEL_DATA_DIR"] = str(tmp_path / "fresh")
    with tercel.serving("--bind", "127.0.0.1:0") as running:
        first = running.banner
        port = running.port("https")
    assert f"curl --cacert {tmp_path}/fresh/ca.pem https://localhost:{port}/" in first
    assert "--http3-only" in first
    assert "network.http.http3.disable_when_third_party_roots_found" in first
    assert f"--origin-to-force-quic-on=localhost:{port}" in first
    assert "development, for localhost, 127.0.0.1, ::1, valid until 2" in first
    with tercel.serving("--bind", "127.0.0.1:0", "main:app") as running:
        assert "how clients trust it: tercel certs\n" in running.banner
        assert "curl" not in running.banner
    certs = tercel.run("certs").stdout
    pinned = re.search(r"--ignore-certificate-errors-spki-list=(\S+)", certs)
    assert pinned
    assert pinned[0] in first
    assert f"CA SPKI hash    {pinned[1]}" in certs
    assert "curl --http3-only" in certs
    # Another authority is to be trusted anew.
    for name in ("ca.pem", "ca-key.pem"):
        (tmp_path / "fresh" / name).unlink()
    with tercel.serving("--bind", "127.0.0.1:0") as running:
        assert "curl --http3-only" in running.banner


def test_a_certificate_from_files_is_told_with_its_expiry(
    tercel: CommandLine, data_directory: Path
) -> None:
    tercel.run("certs")
    leaf = data_directory / "leaves" / "localhost" / "leaf.pem"
    with tercel.serving("--bind", "127.0.0.1:0", "--cert", str(leaf)) as running:
        assert f"certificate: from {leaf}, for localhost" in running.banner
        assert "trust" not in running.banner
        assert running.get("/health", "https").status == 200


def test_an_application_is_served_from_the_current_directory(tercel: CommandLine) -> None:
    with tercel.serving(*PLAIN, "main:app") as running:
        assert "main:app" in running.banner
        assert running.get().headers["server"] == "tercel"


def test_a_factory_is_called(tercel: CommandLine) -> None:
    with tercel.serving(*PLAIN, "--factory", "main:make") as running:
        assert running.get().status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_with_exit_code_0(tercel: CommandLine, number: signal.Signals) -> None:
    with tercel.serving(*PLAIN, "main:app") as running:
        code, errors = running.stop(number)
    assert code == 0
    assert "Traceback" not in errors


def test_a_second_signal_does_not_wait_for_a_running_exchange(tercel: CommandLine) -> None:
    with (
        tercel.serving(*PLAIN, "--graceful-timeout", "3600", "main:endless") as running,
        closing(running.connect()) as connection,
    ):
        connection.request("GET", "/")
        assert connection.getresponse().read(5) == b"begun"
        begin_stop(running.process, signal.SIGTERM)
        code, errors = running.stop()
    assert code == 0
    assert "Traceback" not in errors


def test_a_second_hang_up_goes_on_waiting(tercel: CommandLine) -> None:
    """A terminal that closes may send more than one; a second SIGTERM ends the wait."""
    with (
        tercel.serving(*PLAIN, "--graceful-timeout", "3600", "main:endless") as running,
        closing(running.connect()) as connection,
    ):
        connection.request("GET", "/")
        assert connection.getresponse().read(5) == b"begun"
        begin_stop(running.process, signal.SIGHUP)
        running.process.send_signal(signal.SIGHUP)
        code, errors = running.stop()
    assert code == 0
    assert "SIGTERM: not waiting any longer" in errors
    assert "SIGHUP: not waiting" not in errors


# -- a process without the usual surroundings -----------------------------------------------------


def in_a_shell(
    tercel: CommandLine, redirections: str, *arguments: str, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Start `tercel` in sh with `redirections`; it stops itself once it serves."""
    return subprocess.run(
        [
            *("sh", "-c", f'{before} exec "$@" {redirections}', "sh"),
            *(sys.executable, "-m", "tercel", *arguments),
        ],
        cwd=tercel.home,
        env=tercel.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true"]
)
def test_a_server_does_without_its_standard_streams(
    tercel: CommandLine, closed: str, loop: str
) -> None:
    done = in_a_shell(tercel, closed, *PLAIN, "--loop", loop, "main:stops")
    assert done.returncode == 0
    assert (tercel.home / "stopped").exists()
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if closed == ">/dev/full":
        assert "standard output cannot be written (No space left on device)" in done.stderr


@pytest.mark.parametrize(
    "call", ["run(app, bind=(), plain_bind='127.0.0.1:0')", "serve('127.0.0.1', 0, app)"]
)
def test_a_program_serves_with_its_standard_streams_closed(tercel: CommandLine, call: str) -> None:
    code = f"import tercel; from main import stops as app; tercel.{call}"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", code],
        cwd=tercel.home,
        env=tercel.environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert (tercel.home / "stopped").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["certs"]])
def test_output_that_cannot_be_written_is_one_line(
    tercel: CommandLine, arguments: list[str]
) -> None:
    done = in_a_shell(tercel, ">/dev/full", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"tercel: error: cannot write to standard output \(.*\): .*\n", done.stderr)


def test_too_few_descriptors_are_told_before_anything_opens(tercel: CommandLine) -> None:
    done = in_a_shell(tercel, "", *PLAIN, "main:app", before="ulimit -n 12;")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"tercel: error: this process may have 12 files open.*\n", done.stderr)


def missing(tercel: CommandLine, package: str) -> dict[str, str]:
    """An environment in which `package` cannot be imported."""
    module = tercel.home / "without" / f"{package}.py"
    module.parent.mkdir()
    module.write_text(f"raise ModuleNotFoundError('No module', name={package!r})\n")
    paths = [str(module.parent), tercel.environment["PYTHONPATH"]]
    return tercel.environment | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize("package", ["click", "cryptography", "httptools", "websockets"])
def test_a_package_that_is_missing_is_one_line(tercel: CommandLine, package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tercel", "main:app"],
        cwd=tercel.home,
        env=missing(tercel, package),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"tercel: error: cannot start: package {package} is missing: pip install {package}"
    )
    assert done.stderr.count("\n") == 1


def test_a_package_that_is_missing_is_an_import_error_for_a_program(tercel: CommandLine) -> None:
    code = "import tercel\ntry: tercel.run\nexcept ImportError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=missing(tercel, "httptools"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("cannot start: package httptools is missing: pip install")


def test_each_request_is_logged_unless_told_otherwise(tercel: CommandLine) -> None:
    for arguments, logged in (((), True), (("--no-access-log",), False)):
        with tercel.serving(*PLAIN, *arguments, "main:app") as running:
            running.get("/some/path")
            _, errors = running.stop()
        assert ('"GET /some/path HTTP/1.1" 200' in errors) is logged


def test_what_others_log_without_a_handler_is_one_printable_line_too(tercel: CommandLine) -> None:
    text = r"one\ntwo\x1b[2J"
    (tercel.home / "logs.py").write_text(
        f"import logging\nlogging.getLogger('own').warning('{text}')\nfrom main import app\n"
    )
    with tercel.serving(*PLAIN, "logs:app") as running:
        _, errors = running.stop()
    assert text in errors.splitlines()


def test_log_level_decides_what_is_logged(tercel: CommandLine) -> None:
    with tercel.serving(*PLAIN, "--log-level", "error", "main:app") as running:
        running.get()
        assert running.stop() == (0, "")


# -- where settings come from ---------------------------------------------------------------------


def test_options_override_the_environment_and_that_the_file(tercel: CommandLine) -> None:
    config = tercel.home / "tercel.toml"
    config.write_text('server_name = "file"\nlog_level = "error"\nplain_bind = ["127.0.0.1:0"]\n')
    from_file = ("--bind", "", "--config", "tercel.toml")
    for arguments, environment, expected in (
        (from_file, {}, "file"),
        (from_file, {"TERCEL_SERVER_NAME": "environment"}, "environment"),
        (
            (*from_file, "--server-name", "option"),
            {"TERCEL_SERVER_NAME": "environment"},
            "option",
        ),
    ):
        with tercel.serving(*arguments, "main:app", **environment) as running:
            assert running.get().headers["server"] == expected


def test_every_type_of_setting_is_read_from_file_and_environment(tercel: CommandLine) -> None:
    (tercel.home / "c.toml").write_text(
        'bind = []\nplain_bind = ["127.0.0.1:0"]\naccess_log = false\nbacklog = 7\n'
        "graceful_timeout = 1\nhttp = 1\n"
    )
    environment = {
        "TERCEL_CONFIG": "c.toml",
        "TERCEL_FACTORY": "true",
        "TERCEL_HEADER_TIMEOUT": "2.5",
        "TERCEL_PLAIN_BIND": "127.0.0.1:0 127.0.0.1:0",
    }
    with tercel.serving("main:make", **environment) as running:
        assert running.get().status == 200
        assert running.stop()[0] == 0
        assert "https:" not in running.banner
        assert running.process.stdout is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("acess_log = true", "unknown key 'acess_log': did you mean access_log?"),
        ("access-log = true", "unknown key 'access-log': did you mean access_log?"),
        ("xyzzy = 1", "unknown key 'xyzzy': tercel --help"),
        ('backlog = "7"', "backlog is a whole number, not '7'"),
        ("backlog = true", "backlog is a whole number, not True"),
        ("backlog = 7.5", "backlog is a whole number, not 7.5"),
        ("access_log = 1", "access_log is true or false, not 1"),
        ('graceful_timeout = "1"', "graceful_timeout is a number, not '1'"),
        ("server_name = 1", "server_name is a text, not 1"),
        ('bind = "127.0.0.1:1"', "bind is a list of texts, not"),
        ("bind = [1]", "bind is a list of texts, not"),
        ("http = 2", "http is one of 3, 1, not '2'"),
        ("this is not toml", "is not TOML"),
        ("backlog = 0", "--backlog is 1 or more, not 0"),
    ],
)
def test_a_mistake_in_the_file_is_told(tercel: CommandLine, line: str, message: str) -> None:
    (tercel.home / "c.toml").write_text(line + "\n")
    assert message in tercel.error("--config", "c.toml")


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuchmodule:app"], "no module 'nosuchmodule'"),
        (["main:nosuch"], "no attribute 'nosuch'"),
        (["main"], "main:app"),
        (["main:thing"], "no application"),
        (["main:make"], "--factory"),
        (["main:synchronous"], "main.synchronous is a synchronous function"),
        (["--app-dir", "/no/such", "main:app"], "--app-dir /no/such"),
        (["--factory"], "--factory without MODULE:ATTRIBUTE"),
        (["--cert", "/no/such.pem"], "/no/such.pem"),
        (["--cert", "main.py"], "main.py"),
        (["--key", "k.pem"], "--cert"),
        (["--bind", "0.0.0.0:4433"], "needs a certificate"),
        (["--bind", "4433"], "HOST:PORT"),
        (["--bind", "127.0.0.1:65536"], "0 to 65535"),
        (["--bind", "::1:4433"], "brackets"),
        (["--bind", ""], "nothing to serve on"),
        (["--bind", "a:1,b:2"], "'a:1,b:2' is more than one address: give each by itself"),
        (["--bind", "127.0.0.1:9", "--bind", "127.0.0.1:9"], "--bind 127.0.0.1:9 is given twice"),
        (
            ["--bind", "localhost:9", "--plain-bind", "127.0.0.1:9"],
            "--plain-bind 127.0.0.1:9 is served by --bind localhost:9 already",
        ),
        (
            ["--plain-bind", "0.0.0.0:9", "--plain-bind", "127.0.0.1:9"],
            "--plain-bind 127.0.0.1:9 is served by --plain-bind 0.0.0.0:9 already",
        ),
        (["--cert", ""], "--cert is empty: give a file, or leave it out"),
        (["--unix", ""], "--unix is empty: give a path, or leave it out"),
        (["--header", "x"], "--header 'x' has no colon"),
        (["--advertise-port", "65536"], "--advertise-port is 65535 or less"),
        (["--config", "no.toml"], "no.toml"),
        (["--qlog-dir", "/no/such"], "--qlog-dir"),
        (["--keylog-file", "/no/such/file"], "/no/such/file"),
        (["--unix", "s", "--unix-mode", "rw"], "--unix-mode rw is not three octal digits"),
        (["--unix", "s", "--unix-mode", "1777"], "--unix-mode 1777 is not three octal digits"),
        (["--unix", "s", "--unix-owner", "no such"], "--unix-owner no such: there is no"),
        (
            ["--unix", "s", "--unix-group", "no such"],
            "--unix-group no such: there is no",
        ),
        (["--unix-mode", "660"], "give --unix, too"),
        (["--backlog", "many"], "'--backlog': 'many' is not a valid integer"),
        (["--http", "2"], "'--http'"),
        (["--graceful-timeout", "-1"], "--graceful-timeout is 0 or more"),
        (["--graceful-timeout", "nan"], "--graceful-timeout is 0 or more"),
        (["--no-such-option"], "--no-such-option"),
        (["main:app", "main:app"], "unexpected extra argument"),
        (["certs", "--name", "not a name"], "not a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_exit_code_2(
    tercel: CommandLine, arguments: list[str], message: str
) -> None:
    assert message in tercel.error(*arguments)


def test_an_application_that_refuses_to_start_is_told_without_a_traceback(
    tercel: CommandLine,
) -> None:
    done = tercel.run(*PLAIN, "main:refuses")
    assert done.returncode == 2
    # Only a running loop can ask the application; its sockets are bound by then.
    bound, message = done.stderr.splitlines()
    assert bound.startswith("bound ")
    assert re.match(r"tercel: error: .*no database", message)


def assert_told_with_traceback(
    done: subprocess.CompletedProcess[str], message: str, file: Path
) -> None:
    """One line, then the application's own part of the traceback."""
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("bound ")]
    assert lines[0].startswith(f"tercel: error: {message}")
    assert lines[1] == "Traceback (most recent call last):"
    frames = [line for line in lines if line.startswith("  File ")]
    assert frames[0].startswith(f'  File "{file}", line ')
    assert not [frame for frame in frames if "tercel/" in frame or "importlib" in frame]
    assert lines[-1] in lines[0]


def test_an_import_that_fails_is_told_with_the_application_s_traceback_before_any_socket(
    tercel: CommandLine,
) -> None:
    (tercel.home / "shop").mkdir()
    settings = tercel.home / "shop" / "settings.py"
    settings.write_text("import os\nURL = os.environ['TEST_ABSENT']\n")
    importing = tercel.home / "importing.py"
    importing.write_text("import shop.settings\n")
    done = tercel.run("importing:app")
    assert "bound" not in done.stderr
    message = f"importing 'importing' failed in shop.settings ({settings}, line 2): KeyError:"
    assert_told_with_traceback(done, message, importing)


def test_a_lifespan_that_fails_is_told_with_the_application_s_traceback(
    tercel: CommandLine,
) -> None:
    file = tercel.home / "failing.py"
    file.write_text(STARLETTE)
    done = tercel.run(*PLAIN, "failing:app")
    message = f"the application failed to start in failing ({file}, line 8): KeyError:"
    assert_told_with_traceback(done, message, file)


@pytest.mark.parametrize(
    "listener", ["main_process_start", "before_server_start", "after_server_start"]
)
def test_a_listener_of_sanic_s_that_fails_is_told_with_the_application_s_traceback(
    tercel: CommandLine, listener: str
) -> None:
    pytest.importorskip("sanic")
    file = tercel.home / "failing.py"
    file.write_text(SANIC.format(listener=listener))
    done = tercel.run(*PLAIN, "failing:app")
    assert done.returncode == 2
    assert f"{listener} listener failed in failing ({file}, line 9): KeyError:" in done.stderr
    assert_told_with_traceback(done, "a", file)


def test_a_mistake_in_the_environment_names_its_variable(tercel: CommandLine) -> None:
    assert "TERCEL_BACKLOG" in tercel.error("main:app", TERCEL_BACKLOG="many")


def test_an_unknown_variable_that_is_nearly_a_setting_is_told(tercel: CommandLine) -> None:
    message = tercel.error("main:app", TERCEL_IDLE_TIMOUT="3")
    assert message == (
        "unknown environment variable TERCEL_IDLE_TIMOUT: did you mean TERCEL_IDLE_TIMEOUT?"
    )


def test_a_variable_that_is_no_setting_at_all_is_warned_about(tercel: CommandLine) -> None:
    """Kubernetes makes such for a service that is called tercel."""
    others = {
        "TERCEL_PORT": "tcp://10.0.0.1:443",
        "TERCEL_PORT_443_TCP_ADDR": "10.0.0.1",
        "TERCEL_SERVICE_HOST": "10.0.0.1",
    }
    with tercel.serving(*PLAIN, "main:app", **others) as running:
        assert running.get().status == 200
        _, errors = running.stop()
    for name in others:
        assert f"{name} in the environment is no setting; it has no effect" in errors


def test_a_list_in_the_environment_may_have_commas(tercel: CommandLine) -> None:
    environment = {"TERCEL_PLAIN_BIND": "127.0.0.1:0, localhost:0,127.0.0.1:0"}
    with tercel.serving("--bind", "", "main:app", **environment) as running:
        assert running.get().status == 200
        assert running.process.stdout is not None
        running.process.terminate()
        lines = running.banner + running.process.stdout.read()
    assert lines.count("cleartext") == 3


def test_fields_in_the_environment_are_one_a_line(tercel: CommandLine) -> None:
    environment = {"TERCEL_HEADER": "X-A: 1, 2\nX-B: 3\n"}
    with tercel.serving(*PLAIN, "main:app", **environment) as running:
        fields = running.get().headers
    assert (fields["x-a"], fields["x-b"]) == ("1, 2", "3")


def test_a_port_in_use_is_one_line_with_exit_code_2(tercel: CommandLine) -> None:
    with closing(bind_socket("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for option in ("--bind", "--plain-bind"):
            done = subprocess.run(
                [sys.executable, "-m", "tercel", "--bind", "", option, address, "main:app"],
                cwd=tercel.home,
                env=tercel.environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 2
            assert done.stdout == ""
            assert re.fullmatch(
                rf"tercel: error: {address} \(TCP\) is in use by another program: [^\n]*\n",
                done.stderr,
            )


def test_a_live_unix_socket_is_not_taken_over(tercel: CommandLine) -> None:
    path = tercel.home / "s"
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(path))
        other.listen()
        assert "is in use" in tercel.error("--bind", "", "--unix", "s", "main:app")


def test_uvloop_that_is_missing_is_told(tercel: CommandLine) -> None:
    (tercel.home / "sitecustomize.py").write_text("import sys; sys.modules['uvloop'] = None\n")
    paths = os.pathsep.join([str(tercel.home), tercel.environment["PYTHONPATH"]])
    message = tercel.error("--loop", "uvloop", "main:app", PYTHONPATH=paths)
    assert "pip install uvloop" in message


# -- tercel certs ---------------------------------------------------------------------------------


def test_certs_shows_where_they_are_and_how_to_pin_them(
    tercel: CommandLine, data_directory: Path
) -> None:
    done = tercel.run("certs")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.partition("how clients trust it:")[0].splitlines()
    facts = dict(re.split(r" {2,}", line, maxsplit=1) for line in lines)
    assert facts["CA"] == str(data_directory / "ca.pem")
    assert facts["names"] == "localhost, 127.0.0.1, ::1"
    assert facts["fingerprint"].startswith("SHA-256 ")
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", facts["SPKI hash"])


def test_certs_makes_leaves_for_further_names(tercel: CommandLine) -> None:
    done = tercel.run("certs", "--name", "shop.test", "--name", "10.0.0.1")
    assert "shop.test, 10.0.0.1" in done.stdout
    path = re.search(r"^certificate +(\S+)$", done.stdout, re.MULTILINE)
    assert path
    assert Path(path[1]).is_file()
