"""Two hosts and the network between them, on one machine: namespaces, a simulated link, mounts.

Linux only, and only for root. Everything that is made here is gone when the lab is closed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from interop.simulator.scenario import Scenario
from interop.simulator.tun import TunDevice

REPOSITORY = Path(__file__).resolve().parent.parent

# The names that the runner's network has for the server.
SERVER4, SERVER6, SERVER46 = "server4", "server6", "server46"
SERVER_ADDRESS, _SERVER_V6 = "193.167.100.100", "fd00:cafe:cafe:100::100"
_HOSTS = f"""\
127.0.0.1 localhost
::1 localhost
{SERVER_ADDRESS} {SERVER4} {SERVER46} server
{_SERVER_V6} {SERVER6} {SERVER46}
193.167.0.100 client client4
fd00:cafe:cafe:0::100 client6
"""

_STOP_SECONDS = 30.0
_MOUNTS = ("www", "downloads", "certs", "logs")

# Where administrators' programs are; the PATH of a job may lack it.
os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class LabError(Exception):
    """The network could not be made, or what runs in it did not start."""


class Process:
    """A program in a host."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process = process
        self._log = log

    def wait(self, timeout: float) -> int | None:
        """The exit status; None if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> int:
        """Ask it to stop, and kill it if it does not; the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(_STOP_SECONDS) is None:
                self._process.kill()
        self._log.close()
        return self._process.wait()


class Host:
    """A network namespace, and the directory with what its programs see of the runner's mounts."""

    def __init__(self, namespace: str, directory: Path, hosts: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self._hosts = hosts
        for name in _MOUNTS:
            (directory / name).mkdir(parents=True, exist_ok=True)

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: str) -> Process:
        """Run `command` in the repository's directory; what it prints goes to `logs/<log>`."""
        output = (self.directory / "logs" / log).open("ab")
        process = subprocess.Popen(
            (
                *self.inside("unshare", "--mount", "--propagation", "private"),
                *("sh", "-eu", str(REPOSITORY / "interop" / "enclosure.sh")),
                *(str(self.directory), str(self._hosts), *command),
            ),
            env=os.environ | environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        return Process(process, output)

    def inside(self, *command: str) -> tuple[str, ...]:
        """`command` for this host's network, and the files of the machine itself."""
        return ("ip", "netns", "exec", self.namespace, *command)


class Lab:
    """A client, a server and a link with a scenario's properties between them.

    `directory` gets `client` and `server` with their mounts, and `captures` with one pcap each.
    """

    def __init__(self, directory: Path, scenario: Scenario, *, seed: int = 0) -> None:
        self._directory = directory
        self._scenario = scenario
        self._seed = seed
        self.captures = directory / "captures"
        self.captures.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix="tercel-interop-"))
        hosts = self._scratch / "hosts"
        hosts.write_text(_HOSTS)
        mark = self._scratch.name.rpartition("-")[2]
        self.client = Host(f"tercel-c-{mark}", directory / "client", hosts)
        self.server = Host(f"tercel-s-{mark}", directory / "server", hosts)
        self._simulator: subprocess.Popen[bytes] | None = None
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        try:
            for host in (self.client, self.server):
                _run("ip", "netns", "add", host.namespace)
            self._start_simulator()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(
        self, host: Host, command: Sequence[str], environment: Mapping[str, str], log: str
    ) -> Process:
        """Run `command` on `host` until it ends, or the lab is closed."""
        process = host.start(command, environment, log)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Stop everything, and write the captures to their end."""
        for process in self._processes:
            process.stop()
        self._processes.clear()
        if self._simulator is not None:
            self._simulator.terminate()
            self._simulator.wait(_STOP_SECONDS)
            self._simulator = None
        for host in (self.client, self.server):
            subprocess.run(("ip", "netns", "del", host.namespace), check=False, capture_output=True)
            # Its mount was in a namespace that is gone; the directory itself is empty.
            shutil.rmtree(host.directory / "root", ignore_errors=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start_simulator(self) -> None:
        self._simulator = subprocess.Popen(
            (
                *(sys.executable, "-m", "interop.simulator", "--captures", str(self.captures)),
                *("--client", self.client.namespace, "--server", self.server.namespace),
                *("--scenario", self._scenario.to_json(), "--seed", str(self._seed)),
            ),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        assert self._simulator.stdout is not None
        if self._simulator.stdout.readline() != b"ready\n":
            raise LabError("the simulator did not start")
        self._simulator.stdout.close()


def why_not() -> str | None:
    """Why no lab can be made here; None if one can."""
    return refusal() or programs_missing()


def programs_missing() -> str | None:
    """What would have to be installed; None if everything is here."""
    missing = [name for name in ("ip", "unshare", "mount", "chroot") if shutil.which(name) is None]
    if missing:
        return f"missing: {', '.join(missing)} (Debian: iproute2, util-linux, coreutils)"
    return None


@lru_cache
def refusal() -> str | None:
    """What the system does not let us do; None if it lets us."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces and TUN devices need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    if programs_missing() is None:
        # Containers have the name of root, but not all of its rights: only a trial tells.
        try:
            _try_everything()
        except (LabError, OSError, subprocess.CalledProcessError) as error:
            return f"this system does not let us: {getattr(error, 'stderr', '') or error}".strip()
    return None


def _try_everything() -> None:
    """Make a network namespace with a device, and a mount. Raises LabError, OSError, ..."""
    name = f"tercel-t-{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        mount = ("mount", "-t", "tmpfs", "tmpfs", "/mnt")
        unshare = ("unshare", "--mount", "--propagation", "private")
        _run("ip", "netns", "exec", name, *unshare, *mount)
        TunDevice(f"t{os.getpid()}", name, ("192.0.2.1/32", "2001:db8::1/128")).close()
    finally:
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip()}")
