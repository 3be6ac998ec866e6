"""No way in which applications set up logging silences the server's own log.

The set-ups are those of common libraries, written with the standard library: what they call, not
the libraries themselves.
"""

import os
import ssl
import subprocess
import sys
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.support.asynchronous import PATIENCE_SECONDS
from tests.support.process import ServerProcess

SETUPS = '''
import logging
import logging.config
import sys

CONSOLE = {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}


def named(loggers, **more):
    logging.config.dictConfig(
        {"version": 1, "handlers": CONSOLE, "loggers": loggers, **more}
    )


def django():
    # Its defaults first, then LOGGING of the project; most set disable_existing_loggers.
    named({"django": {"handlers": ["console"], "level": "INFO"}}, disable_existing_loggers=False)
    named({}, root={"handlers": ["console"], "level": "WARNING"}, disable_existing_loggers=False)


def disabling():
    # The default of dictConfig.
    named({"django": {"handlers": ["console"]}}, root={"handlers": ["console"]})


def file_config():
    parser = __import__("configparser").ConfigParser(interpolation=None)
    parser.read_string("""
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=
[logger_root]
handlers=console
[handler_console]
class=StreamHandler
args=(sys.stdout,)
""")
    logging.config.fileConfig(parser)


def structlog():
    named({"": {"handlers": ["console"], "level": "DEBUG", "propagate": True}})


def celery():
    # It takes over the root logger, and what is written to the standard streams.
    logging.getLogger().handlers = []
    logging.getLogger().addHandler(logging.StreamHandler(sys.__stdout__))
    sys.stdout = sys.stderr = open(__import__("os").devnull, "w")


def loguru():
    class InterceptHandler(logging.Handler):
        def emit(self, record):
            sys.__stdout__.write(self.format(record) + "\\n")

    logging.basicConfig(handlers=[InterceptHandler()], level=0, force=True)


def loguru_of_all():
    loguru()
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def shutdown():
    logging.shutdown()


def every_logger_by_hand():
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).disabled = True
'''

NAMES = [line[4:-3] for line in SETUPS.splitlines() if line.endswith("():") and line[0] == "d"]

LOGS = """
import logging
import sys

import tercel
from setups import *
from tercel.shared.logs import log_to

log_to(sys.stderr, "info")
{setup}
logging.getLogger("tercel.server").error("an error")
logging.getLogger("tercel.access").info("an access")
"""

FAILS = """
from setups import *

{importing}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        {starting}
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    {serving}
    raise ValueError("no such table")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "setups.py").write_text(SETUPS)
    root = str(Path(__file__).parent.parent)
    paths = [str(tmp_path), root, os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return tmp_path


def run(source: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )


def messages(output: str) -> list[str]:
    """What stands behind the last colon of each line."""
    return [line.rpartition(":")[2].strip() for line in output.splitlines()]


@pytest.mark.parametrize("setup", NAMES)
def test_no_setup_of_logging_silences_the_command_lines_log(home: Path, setup: str) -> None:
    done = run(LOGS.format(setup=f"{setup}()"), home)
    # The interceptor of all loggers takes the lines over to its own stream.
    output = done.stdout if setup == "loguru_of_all" else done.stderr
    assert messages(output) == ["an error", "an access"]


@pytest.mark.parametrize("setup", [name for name in NAMES if name != "celery"])
def test_logging_that_a_program_sets_up_shows_errors_before_and_after_the_import(
    home: Path, setup: str
) -> None:
    for source in ("import tercel\n{}()", "{}()\nimport tercel"):
        program = f"from setups import *\n{source.format(setup)}\n"
        program += "logging.getLogger('tercel.server').error('an error')"
        done = run(program, home)
        assert messages(done.stdout + done.stderr) == ["an error"]


@pytest.mark.parametrize(
    ("loggers", "printed", "errors"),
    [
        ({"tercel": {"handlers": ["console"]}}, ["an error", "an access"], []),
        ({"tercel": {"handlers": ["console"], "level": "ERROR"}}, ["an error"], []),
        # Without a handler of its own the last resort of logging has the warnings and errors.
        ({"tercel": {"level": "INFO"}}, [], ["an error"]),
        ({"tercel.access": {"level": "ERROR"}}, [], ["an error"]),
        (
            {"tercel.access": {"handlers": ["console"], "propagate": False}},
            ["an access"],
            ["an error"],
        ),
    ],
    ids=str,
)
def test_what_an_application_says_of_the_servers_loggers_by_name_holds(
    home: Path, loggers: dict[str, object], printed: list[str], errors: list[str]
) -> None:
    done = run(LOGS.format(setup=f"named({loggers})"), home)
    assert messages(done.stdout) == printed
    assert messages(done.stderr) == errors


@pytest.mark.parametrize("when", ["importing", "starting", "serving"])
def test_an_error_in_a_handler_is_logged_whenever_the_application_sets_up_logging(
    home: Path, when: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps = dict.fromkeys(("importing", "starting", "serving"), "pass") | {when: "disabling()"}
    (home / "failing.py").write_text(FAILS.format(**steps))
    with ServerProcess(
        *("--app-dir", str(home), "failing:app"),
        data_directory=tmp_path_factory.mktemp("data"),
        may_log_tracebacks=True,
    ) as server:
        trust = ssl.create_default_context(cafile=server.ca_path)
        connection = HTTPSConnection(
            "localhost", server.port, context=trust, timeout=PATIENCE_SECONDS
        )
        connection.request("GET", "/items")
        assert connection.getresponse().status == 500
        connection.close()
        server.terminate()
        assert server.wait(PATIENCE_SECONDS) == 0
        log = server.log
    assert "    ValueError: no such table" in log
    assert '"GET /items HTTP/1.1" 500' in log
    assert log.splitlines()[-1].endswith(" tercel.server: stopped")
