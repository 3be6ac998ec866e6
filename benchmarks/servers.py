"""Starts tercel and its peers as subprocesses, and reads what they cost from /proc.

What each of them is called with is in `commands.py`.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import commands
from commands import UVICORNS, Certificate

from tercel.certs.selfsigned import DevelopmentCertificates, default_directory

__all__ = ["HERE", "UVICORNS", "Certificate", "Server", "development_certificate", "running"]

HERE = commands.HERE
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class Server:
    """A running server: where it listens and what it has cost so far.

    `roots` are the process ids that, with all their children, are the server.
    """

    def __init__(self, name: str, roots: list[int], port: int, http: str) -> None:
        self.name = name
        self.roots = roots
        self.port = port
        self.http = http

    @property
    def url(self) -> str:
        """Where it is, as clients that check no certificate may write it."""
        scheme = "http" if self.http == "1-plain" else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far."""
        return sum(_cpu_seconds(pid) for pid in self.processes())

    def resident_bytes(self) -> int:
        """Resident memory of its processes."""
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
            for pid in self.processes()
        )

    def processes(self) -> list[int]:
        """Its process ids."""
        pids = list(self.roots)
        for pid in pids:  # grows while it is walked: children of children too
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                pids.extend(int(child) for child in children)
        return pids


@contextmanager
def running(name: str, certificate: Certificate, *, http: str) -> Iterator[Server]:
    """Run server `name` with the benchmarks' application on a free port.

    `http` is "3", "1" (over TLS) or "1-plain". Raises commands.NotSupported.
    """
    port = _free_port()
    launch = commands.launch(name, certificate, port, http)
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)} | launch.environment
    processes: list[subprocess.Popen[bytes]] = []
    roots: list[int] = []
    with open(commands.state_directory() / f"{name}.log", "ab") as log:
        try:
            for command in launch.commands:
                processes.append(
                    subprocess.Popen(
                        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        cwd=HERE,
                    )
                )  # fmt: skip
            _wait_until_serving(processes, port, http, launch.behind)
            roots = [process.pid for process in processes if process.poll() is None]
            if launch.pid_file is not None:
                roots.append(int(launch.pid_file.read_text()))
            yield Server(name, roots, port, http)
        finally:
            _stop(processes, roots)


def _wait_until_serving(
    processes: list[subprocess.Popen[bytes]], port: int, http: str, behind: Path | None
) -> None:
    answers = _answers_quic if http == "3" else _answers_tcp
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll():  # a command that puts itself into the background ends with 0
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        if (behind is None or behind.exists()) and answers(port):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{processes[-1].args!r} does not listen on port {port}")


def _answers_tcp(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers_quic(port: int) -> bool:
    """Whether a packet of a version that nobody has brings version negotiation (RFC 9000 6)."""
    packet = b"\xc0\x1a\x2a\x3a\x4a\x08probing.\x08probing."
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(packet.ljust(1200, b"\0"))
            return bool(sock.recv(1500))
        except OSError:
            return False


def _stop(processes: list[subprocess.Popen[bytes]], roots: list[int]) -> None:
    """Stop what was started, the last first; `roots` may name processes in the background."""
    own = {process.pid for process in processes}
    for pid in roots:
        if pid not in own:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def development_certificate() -> Certificate:
    """The certificate that tercel makes for loopback, for every server."""
    development = DevelopmentCertificates(default_directory())
    credential = development.ensure()
    leaf = credential.certificate_path
    if leaf is None:
        raise RuntimeError("the development certificate has no file")
    return Certificate(leaf, credential.key_path or leaf, development.ca_path)


def _free_port() -> int:
    """A port that is free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _cpu_seconds(pid: int) -> float:
    # In nanoseconds; what /proc/PID/stat has comes in ticks of 10 ms, and 300 handshakes take 400.
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
