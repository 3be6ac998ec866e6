"""One test case between one server and one client: set up, run, check, tidy."""

import os
import random
import shutil
import string
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from interop.cases import Case
from interop.certificates import write_certificates
from interop.checks import CheckFailed, Evidence, NotCheckable
from interop.endpoint.contract import UNSUPPORTED
from interop.lab import REPOSITORY, SERVER_ADDRESS, Host, Lab, Process
from interop.peers import Client, Command, Server
from interop.result import Outcome, Result
from interop.tools import find_tool
from interop.trace import Trace

_READY_SECONDS = 30.0
_POLL_SECONDS = 0.05
_PORT = 443


class _Ended(Exception):
    """The run is over, with this outcome and reason."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Workshop:
    """What runs share: where results go, and certificates by the length of their chain."""

    results: Path
    seed: int = 0
    keep: bool = False
    """Whether to keep captures and files of what has passed, too."""
    patience: float = 1.0
    """What the runner's time limits are multiplied by."""
    attempts: int = 1
    """How often a test case that fails is run."""
    repetitions: int = 1
    """How often a test case that measures is run."""

    def certificates(self, chain: int) -> Path:
        """A directory with a chain of that length; made once."""
        directory = self.results / "certificates" / str(chain)
        if not (directory / "priv.key").exists():
            directory.mkdir(parents=True, exist_ok=True)
            write_certificates(directory, chain)
        return directory


def run_case(workshop: Workshop, server: Server, client: Client, case: Case) -> Result:
    """Run `case`, as often as `workshop` wants it, and tidy up behind it."""
    if not case.measured:
        return _until_passed(workshop, server, client, case)
    rates: list[float] = []
    for _ in range(workshop.repetitions):
        result = _until_passed(workshop, server, client, case)
        if result.outcome is not Outcome.PASSED:
            return result
        rates.append(result.kilobits)
    return replace(result, kilobits=median(rates), spread=(min(rates), max(rates)))


def _until_passed(workshop: Workshop, server: Server, client: Client, case: Case) -> Result:
    result = _attempt(workshop, server, client, case)
    while result.outcome is Outcome.FAILED and result.attempts < workshop.attempts:
        again = _attempt(workshop, server, client, case)
        reason = again.reason or f"at first: {result.reason}"
        result = replace(again, attempts=result.attempts + 1, reason=reason)
    return result


def _attempt(workshop: Workshop, server: Server, client: Client, case: Case) -> Result:
    place = Path("logs") / f"{server.name}_{client.name}" / case.name
    directory = workshop.results / place
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    seconds = kilobits = 0.0
    outcome, reason = Outcome.PASSED, ""
    try:
        for peer in (server, client):
            missing = peer.missing()
            if missing is not None:
                raise _Ended(Outcome.MISSING, missing)
        if find_tool("tshark") is None:
            raise _Ended(Outcome.MISSING, "tshark is not installed")
        if case.name in client.lacks:
            raise _Ended(Outcome.UNSUPPORTED, client.lacks[case.name])
        seconds = _run(workshop, server, client, case, directory)
        kilobits = _check(case, directory)
    except _Ended as end:
        outcome, reason = end.outcome, end.reason
    except CheckFailed as failure:
        outcome, reason = Outcome.FAILED, str(failure)
    except NotCheckable as limit:
        outcome, reason = Outcome.UNSUPPORTED, str(limit)
    except Exception as error:
        # One cell's trouble must not cost the report of the others.
        outcome, reason = Outcome.FAILED, f"{type(error).__name__}: {error}"
        (directory / "trouble.txt").write_text(traceback.format_exc())
    _tidy(directory, keep=workshop.keep or outcome is Outcome.FAILED)
    return Result(
        server=server.name,
        client=client.name,
        case=case.name,
        outcome=outcome,
        reason=reason,
        seconds=round(seconds, 3),
        kilobits=round(kilobits),
        logs=str(place) if directory.exists() else "",
    )


def _run(workshop: Workshop, server: Server, client: Client, case: Case, directory: Path) -> float:
    with Lab(directory, case.scenario, seed=workshop.seed) as lab:
        for host in (lab.server, lab.client):
            shutil.copytree(
                workshop.certificates(case.chain), host.directory / "certs", dirs_exist_ok=True
            )
            (host.directory / "logs" / "qlog").mkdir()
        urls = _write_files(case, lab.server.directory / "www", workshop.seed)
        commands = client.commands(case, urls)
        command = server.command(case, lab.server.directory / "logs")
        if command is None:
            raise _Ended(Outcome.UNSUPPORTED, f"{server.title} does not have it")
        serving = lab.start(lab.server, command, _environment("server", case.server), "output.txt")
        _await_ready(lab.server, serving, server)
        began = time.monotonic()
        with _cross_traffic(lab) if case.cross_traffic else nullcontext():
            limit = case.timeout * workshop.patience
            _run_client(lab, client, case, commands, urls, limit=limit)
        seconds = time.monotonic() - began
        status = serving.stop()
        if status not in (0, -15, 143):
            raise _Ended(Outcome.FAILED, f"the server ended with status {status}")
        return seconds


def _run_client(
    lab: Lab,
    client: Client,
    case: Case,
    commands: Sequence[Command],
    urls: Sequence[str],
    *,
    limit: float,
) -> None:
    environment = _environment("client", case.client_testcase) | {"REQUESTS": " ".join(urls)}
    deadline = time.monotonic() + limit
    for command in commands:
        process = lab.start(lab.client, command, environment, "output.txt")
        status = process.wait(max(0.0, deadline - time.monotonic()))
        if status == UNSUPPORTED:
            raise _Ended(Outcome.UNSUPPORTED, f"{client.title} does not have it")
        if status is None:
            raise _Ended(Outcome.FAILED, f"not done after {limit:g} s")
        if status and case.downloads:
            raise _Ended(Outcome.FAILED, f"the client ended with status {status}")


def _environment(role: str, testcase: str) -> dict[str, str]:
    return {
        "ROLE": role,
        "TESTCASE": testcase,
        "SSLKEYLOGFILE": "/logs/keys.log",
        "QLOGDIR": "/logs/qlog/",
        "TERCEL_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", ""))),
        "HOME": "/logs",
        "REQUESTS": "",
    }


def _await_ready(host: Host, process: Process, server: Server) -> None:
    probe = subprocess.Popen(
        (
            *host.inside(sys.executable, "-m", "interop.probe"),
            *(SERVER_ADDRESS, str(_PORT), str(_READY_SECONDS)),
        ),
        cwd=REPOSITORY,
    )
    while probe.poll() is None:
        if process.wait(_POLL_SECONDS) is not None:
            probe.terminate()  # nobody will answer any more
            probe.wait()
    if probe.returncode:
        status = process.wait(0)
        if status == UNSUPPORTED:
            raise _Ended(Outcome.UNSUPPORTED, f"{server.title} does not have it")
        if status is not None:
            raise _Ended(Outcome.FAILED, f"the server ended with status {status}")
        raise _Ended(Outcome.FAILED, f"the server did not answer within {_READY_SECONDS:g} s")


@contextmanager
def _cross_traffic(lab: Lab) -> Iterator[None]:
    """One TCP connection from the server to the client that takes all that it can get."""
    processes = [
        subprocess.Popen(
            host.inside(sys.executable, "-m", "interop.crosstraffic", role, SERVER_ADDRESS),
            cwd=REPOSITORY,
        )
        for host, role in ((lab.server, "send"), (lab.client, "receive"))
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _write_files(case: Case, www: Path, seed: int) -> list[str]:
    chance = random.Random(f"{seed} {case.name}")
    urls = []
    for size in case.files:
        name = "".join(chance.choices(string.ascii_letters, k=case.name_length))
        (www / name).write_bytes(chance.randbytes(size))
        urls.append(f"https://{case.host}:{_PORT}/{name}")
    return urls


def _check(case: Case, directory: Path) -> float:
    """Raise CheckFailed, or tell the kilobits per second of a measured case."""
    keylog = directory / "keys.log"
    with keylog.open("wb") as file:
        for role in ("client", "server"):
            part = directory / role / "logs" / "keys.log"
            if part.exists():
                file.write(part.read_bytes())
    captures = directory / "captures"
    evidence = Evidence(
        served=directory / "server" / "www",
        downloaded=directory / "client" / "downloads",
        client=Trace(captures / "client.pcap", keylog),
        server=Trace(captures / "server.pcap", keylog),
    )
    for check in case.all_checks:
        check(evidence)
    if not case.measured:
        return 0.0
    datagrams = evidence.client.datagrams
    return sum(case.files) * 8 / 1000 / (datagrams[-1].time - datagrams[0].time)


def _tidy(directory: Path, *, keep: bool) -> None:
    for role in ("client", "server"):
        for name in ("certs", "www", "downloads"):
            shutil.rmtree(directory / role / name, ignore_errors=True)
    if not keep:
        shutil.rmtree(directory / "captures", ignore_errors=True)
