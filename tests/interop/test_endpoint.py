"""The endpoint: what it refuses, and both of its roles against each other on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration

from interop.certificates import write_certificates
from interop.endpoint.contract import SUPPORTED, UNSUPPORTED, read_contract
from interop.endpoint.driver import ClientConnection
from interop.endpoint.hq import FileSender
from interop.endpoint.server import settings_for
from interop.probe import is_version_negotiation, probe
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "interop" / "run_endpoint.sh"


def environment(**values):
    names = ("ROLE", "TESTCASE", "REQUESTS", "SSLKEYLOGFILE", "QLOGDIR", "SERVER_PARAMS")
    inherited = {name: text for name, text in os.environ.items() if name not in names}
    return inherited | {"PYTHONPATH": str(ROOT), "TERCEL_PYTHON": sys.executable} | values


# -- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("testcase", ["", "no-such-case", "HANDSHAKE"])
def test_an_unknown_test_case_ends_with_127_at_once(role, testcase):
    result = subprocess.run(
        ("sh", str(SCRIPT)),
        env=environment(ROLE=role, TESTCASE=testcase),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == UNSUPPORTED
    assert "not supported" in result.stderr
    assert "setup.sh" not in result.stderr, "it went on"


def test_an_unknown_role_is_not_supported_either():
    with pytest.raises(SystemExit) as end:
        read_contract({"ROLE": "spectator", "TESTCASE": "handshake"})
    assert end.value.code == UNSUPPORTED


def test_every_case_that_the_runner_gives_a_server_is_there():
    assert {
        *("handshake", "transfer", "chacha20", "retry", "resumption", "zerortt", "http3", "ecn"),
        *("multiconnect", "v2", "connectionmigration"),
    } <= SUPPORTED["server"]
    assert "keyupdate" in SUPPORTED["client"]


def test_the_environment_says_what_to_do():
    contract = read_contract(
        {
            "ROLE": "client",
            "TESTCASE": "transfer",
            "REQUESTS": "https://server4:443/a https://server4:443/b",
            "SSLKEYLOGFILE": "/logs/keys.log",
            "QLOGDIR": "",
        }
    )
    assert contract.requests == ("https://server4:443/a", "https://server4:443/b")
    assert (contract.port, contract.www) == (443, Path("/www"))
    assert (contract.keylog_file, contract.qlog_dir) == ("/logs/keys.log", None)


def test_params_are_further_options_of_their_role():
    values = {"TESTCASE": "transfer", "SERVER_PARAMS": "--retry 'always'", "CLIENT_PARAMS": "-x"}
    assert read_contract({"ROLE": "server"} | values).arguments == ("--retry", "always")
    assert read_contract({"ROLE": "client"} | values).arguments == ("-x",)


def test_server_params_are_options_of_tercel_and_stand_above_the_test_case():
    def settings(testcase, params):
        values = {"ROLE": "server", "TESTCASE": testcase, "SERVER_PARAMS": params}
        return settings_for(read_contract(values))

    assert settings("transfer", "").retry == "never"
    assert settings("retry", "").retry == "always"
    given = settings("retry", "--retry never --max-concurrent-streams 7 --no-quic-fast-path")
    assert (given.retry, given.max_concurrent_streams) == ("never", 7)
    assert not given.quic_fast_path
    assert settings("zerortt", "--idle-timeout 5").early_data


@pytest.mark.parametrize("role", ["server", "client"])
def test_params_that_are_not_known_end_the_endpoint(role, mounts):
    values = {f"{role.upper()}_PARAMS": "--no-such-option"}
    result = subprocess.run(
        (sys.executable, "-m", f"interop.endpoint.{role}"),
        env=environment(ROLE=role, TESTCASE="transfer", INTEROP_ROOT=str(mounts), **values),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode in (1, 2)
    assert "no-such-option" in result.stderr


# -- the image ----------------------------------------------------------------------------------


def test_the_image_is_made_of_what_is_here():
    lines = (ROOT / "interop" / "Dockerfile").read_text().splitlines()
    sources = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert "interop/run_endpoint.sh" in sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {*sources} & {*ignored}
    assert os.access(SCRIPT, os.X_OK)


def test_the_manifest_has_what_the_runner_asks_for():
    manifest = json.loads((ROOT / "interop" / "manifest.json").read_text())
    assert manifest["tercel"].keys() == {"image", "url", "role"}
    assert manifest["tercel"]["role"] == "both"


# -- hq-interop ---------------------------------------------------------------------------------


class FakeQuic:
    """Takes what a FileSender does with a connection."""

    def __init__(self):
        self.sent = {}
        self.ended = set()
        self.resets = []
        self.granted = 0
        self.full = False

    def grant(self, stream_id, size):
        self.granted += size

    def can_send(self, stream_id):
        return stream_id not in self.ended and stream_id not in self.resets

    def backlog(self, stream_id):
        return 10**9 if self.full else 0

    def send_stream_data(self, stream_id, data, end_stream):
        self.sent[stream_id] = self.sent.get(stream_id, b"") + data
        if end_stream:
            self.ended.add(stream_id)

    def reset_stream(self, stream_id, code):
        self.resets.append(stream_id)


@pytest.fixture
def files(tmp_path):
    www = tmp_path / "www"
    www.mkdir()
    (www / "small").write_bytes(b"content")
    (www / "large").write_bytes(b"x" * 65_536 * 3)
    (tmp_path / "secret").write_bytes(b"secret")
    quic = FakeQuic()
    return quic, FileSender(quic, www)


def ask(sender, data, *, ended=True, stream_id=0):
    sender._receive_data(stream_id, data, ended)
    sender.send()


@pytest.mark.parametrize("request_line", [b"GET /small\r\n", b"GET /small\n", b"GET /small"])
def test_a_file_is_answered_by_its_content_alone(files, request_line):
    quic, sender = files
    ask(sender, request_line)
    assert quic.sent[0] == b"content"
    assert quic.ended == {0}
    assert quic.granted == len(request_line)


def test_a_request_may_come_in_pieces(files):
    quic, sender = files
    ask(sender, b"GET /sm", ended=False)
    assert quic.sent == {}
    ask(sender, b"all\r\n", ended=False)
    assert quic.sent[0] == b"content"


def test_a_large_file_waits_for_room(files):
    quic, sender = files
    quic.full = True
    ask(sender, b"GET /large\r\n")
    assert quic.sent == {}
    quic.full = False
    sender.send()
    assert quic.sent[0] == b"x" * 65_536 * 3
    assert quic.ended == {0}


@pytest.mark.parametrize(
    "request_line",
    [b"GET /none\r\n", b"POST /small\r\n", b"GET /../secret\r\n", b"GET /\r\n", b"\r\n", b""],
)
def test_what_is_no_file_here_is_reset(files, request_line):
    quic, sender = files
    ask(sender, request_line)
    assert quic.resets == [0]
    assert quic.sent == {}


def test_a_request_without_end_is_reset_when_it_gets_long(files):
    quic, sender = files
    for _ in range(5):
        ask(sender, b"x" * 1000, ended=False)
    assert quic.resets == [0]


# -- both roles, on loopback --------------------------------------------------------------------


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    """What the runner would mount, with two files."""
    root = tmp_path_factory.mktemp("mounts")
    for name in ("www", "downloads", "certs", "logs"):
        (root / name).mkdir()
    write_certificates(root / "certs", 1, names=("localhost",))
    (root / "www" / "first").write_bytes(os.urandom(30_000))
    (root / "www" / "second").write_bytes(os.urandom(100_000))
    return root


@contextmanager
def serving(mounts, testcase):
    """A server for a test case; yields its port. It has to end well when it is told to."""
    port = free_port()
    process = subprocess.Popen(
        (sys.executable, "-m", "interop.endpoint.server"),
        env=environment(
            ROLE="server",
            TESTCASE=testcase,
            INTEROP_ROOT=str(mounts),
            INTEROP_PORT=str(port),
            SSLKEYLOGFILE=str(mounts / "logs" / "server.log"),
            QLOGDIR=str(mounts / "logs" / "qlog"),
        ),
        cwd=ROOT,
    )
    try:
        assert probe("127.0.0.1", port, 60)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def client_environment(mounts, testcase, port, *names):
    return environment(
        ROLE="client",
        TESTCASE=testcase,
        INTEROP_ROOT=str(mounts),
        REQUESTS=" ".join(f"https://localhost:{port}/{name}" for name in names),
        SSLKEYLOGFILE=str(mounts / "logs" / "client.log"),
        QLOGDIR=str(mounts / "logs" / "client"),
        CLIENT_PARAMS="--in-flight 5",
    )


def download(mounts, testcase, port, *names):
    return subprocess.run(
        (sys.executable, "-m", "interop.endpoint.client"),
        env=client_environment(mounts, testcase, port, *names),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("server", "client"),
    [
        ("handshake", "handshake"),
        ("chacha20", "chacha20"),
        ("retry", "retry"),
        ("resumption", "resumption"),
        ("zerortt", "zerortt"),
        ("http3", "http3"),
        ("ecn", "ecn"),
        ("multiconnect", "multiconnect"),
        ("v2", "v2"),
        ("transfer", "keyupdate"),
    ],
)
def test_files_come_identical(mounts, server, client):
    for file in (mounts / "downloads").iterdir():
        file.unlink()
    with serving(mounts, server) as port:
        result = download(mounts, client, port, "first", "second")
    assert result.returncode == 0, result.stderr
    for name in ("first", "second"):
        expected = (mounts / "www" / name).read_bytes()
        assert (mounts / "downloads" / name).read_bytes() == expected


def test_a_file_that_is_not_there_fails_the_client(mounts):
    with serving(mounts, "handshake") as port:
        result = download(mounts, "handshake", port, "none")
    assert result.returncode == 1
    assert "failed: reset" in result.stderr


def test_sigterm_leaves_the_key_log_and_the_qlog_behind(mounts):
    (mounts / "logs" / "server.log").unlink(missing_ok=True)
    with serving(mounts, "transfer") as port:
        assert download(mounts, "transfer", port, "first").returncode == 0
    assert "SERVER_TRAFFIC_SECRET_0" in (mounts / "logs" / "server.log").read_text()
    assert list((mounts / "logs" / "qlog").iterdir())


def test_a_client_that_is_told_to_stop_leaves_its_logs_behind(mounts):
    for file in (mounts / "logs").glob("client/*"):
        file.unlink()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(60)
        process = subprocess.Popen(
            (sys.executable, "-m", "interop.endpoint.client"),
            env=client_environment(mounts, "transfer", silent.getsockname()[1], "first"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.recv(2048)  # its first flight
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "stopped\n")
    assert len(list((mounts / "logs" / "client").iterdir())) == 1


# -- the probe ----------------------------------------------------------------------------------


def test_nobody_listening_is_not_ready():
    assert not probe("127.0.0.1", free_port(), 0.2)


def test_only_version_negotiation_is_an_answer():
    assert is_version_negotiation(b"\x80\0\0\0\0\0\0")
    assert not is_version_negotiation(b"\x80\0\0\0\x01\0\0")
    assert not is_version_negotiation(b"\x40\0\0\0\0\0\0")
    assert not is_version_negotiation(b"")


# -- the client's probes ------------------------------------------------------------------------


def test_a_handshake_is_probed_twice_when_its_time_is_over():
    quic = ClientConnection(configuration=QuicConfiguration(server_name="localhost"))
    quic.connect(("127.0.0.1", 443), 0.0)
    assert len(quic.datagrams_to_send(0.0)) == 1
    assert not quic.probe_again(0.0)
    due = quic.get_timer()
    quic.handle_timer(due)
    for again in (True, False):
        ((data, _),) = quic.datagrams_to_send(due)
        assert len(data) == 1200
        assert quic.probe_again(due) is again
    assert quic.datagrams_to_send(due) == []
    assert quic.get_timer() > due
