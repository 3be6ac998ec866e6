"""The network of namespaces: made, used and gone again. For root, on Linux."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interop.cases import CASES
from interop.lab import Lab, programs_missing, refusal
from interop.matrix import main
from interop.peers import CLIENTS, SERVERS
from interop.result import Outcome
from interop.run import Workshop, run_case
from interop.simulator.scenario import Scenario
from tests.support.programs import missing, program

# For what takes a moment on a machine that has nothing else to do.
_PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def possible():
    reason = refusal()
    if reason is not None:
        # Not `missing`: what a kernel or a container refuses is nothing that could be installed.
        pytest.skip(reason)
    reason = programs_missing()
    if reason is not None:
        missing(f"a network of namespaces ({reason})")


def namespaces():
    output = subprocess.run(("ip", "netns"), capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in output.splitlines() if line.startswith("tercel-")}


def test_two_hosts_reach_each_other_with_the_delay_of_the_link(tmp_path):
    script = (
        "import socket, time\n"
        "began = time.monotonic()\n"
        "try: socket.create_connection(('server4', 1), timeout=30)\n"
        "except ConnectionRefusedError: print(time.monotonic() - began)\n"
    )
    with Lab(tmp_path, Scenario(delay=0.1)) as lab:
        own = {lab.client.namespace, lab.server.namespace}
        assert own <= namespaces()
        process = lab.start(lab.client, (sys.executable, "-c", script), {}, "output.txt")
        assert process.wait(_PATIENCE_SECONDS) == 0
    seconds = float((tmp_path / "client" / "logs" / "output.txt").read_text())
    assert seconds >= 0.2
    assert not own & namespaces()
    for side in ("client", "server"):
        assert (tmp_path / "captures" / f"{side}.pcap").stat().st_size > 100
        assert not (tmp_path / side / "root").exists()


def machine_s_own():
    """What the machine itself has at the paths of two mounts: nothing, as a rule."""
    paths = [Path("/www"), Path("/downloads")]
    return {path: sorted(path.iterdir()) for path in paths if path.exists()}


def test_programs_see_the_mounts_of_a_container(tmp_path):
    before = machine_s_own()
    with Lab(tmp_path, Scenario()) as lab:
        (lab.client.directory / "certs" / "ca.pem").write_text("authority")
        command = ("sh", "-c", "cat /certs/ca.pem; echo saved > /downloads/file; /setup.sh")
        assert lab.start(lab.client, command, {}, "output.txt").wait(_PATIENCE_SECONDS) == 0
    assert (tmp_path / "client" / "logs" / "output.txt").read_text() == "authority"
    assert (tmp_path / "client" / "downloads" / "file").read_text() == "saved\n"
    assert machine_s_own() == before


def test_the_machine_may_have_directories_where_the_mounts_are(tmp_path):
    files = tmp_path / "files"
    for name in ("www", "downloads", "certs", "logs"):
        (files / name).mkdir(parents=True)
    (files / "www" / "page").write_text("of the mount")
    # In a host there are such directories, so a host in a host is on a machine that has them.
    command = (
        *("unshare", "--mount", "--propagation", "private", "sh", "interop/enclosure.sh"),
        *(str(files), "/etc/hosts", "sh", "-c", "cat /www/page; echo saved > /www/file"),
    )
    with Lab(tmp_path / "lab", Scenario()) as lab:
        machine = lab.client.directory / "www"
        (machine / "page").write_text("of the machine")
        assert lab.start(lab.client, command, {}, "output.txt").wait(_PATIENCE_SECONDS) == 0
        assert [path.name for path in machine.iterdir()] == ["page"]
    assert (tmp_path / "lab" / "client" / "logs" / "output.txt").read_text() == "of the mount"
    assert (files / "www" / "file").read_text() == "saved\n"


def chosen(case, client="tercel"):
    return (
        next(server for server in SERVERS if server.name == "tercel"),
        next(item for item in CLIENTS if item.name == client),
        next(item for item in CASES if item.name == case),
    )


@pytest.mark.parametrize("case", ["handshake", "retry", "resumption", "ecn", "v2"])
def test_tercel_passes_with_itself(tmp_path, case):
    program("tshark")
    result = run_case(Workshop(tmp_path, patience=2), *chosen(case))
    assert (result.outcome, result.reason) == (Outcome.PASSED, "")
    assert not (tmp_path / result.logs / "captures").exists()


def test_a_client_without_its_program_is_missing_and_not_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("TERCEL_INTEROP_TOOLS", raising=False)
    server, client, case = chosen("handshake", "ngtcp2")
    found = shutil.which("osslhqclient")
    assert found is None
    result = run_case(Workshop(tmp_path), server, client, case)
    assert result.outcome is Outcome.MISSING
    assert "osslhqclient" in result.reason


def test_the_matrix_writes_its_report(tmp_path, capsys):
    program("tshark")
    arguments = ["--results", str(tmp_path), "--server", "tercel", "--client", "tercel"]
    assert main([*arguments, "--case", "handshake"]) == 0
    assert "passed" in capsys.readouterr().out
    (cell,) = json.loads((tmp_path / "results.json").read_text())["results"]
    assert cell["outcome"] == "passed"
    assert (tmp_path / "index.html").exists()
