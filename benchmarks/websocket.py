"""WebSockets: CPU per echoed message and memory per idle connection, tercel's and uvicorn's.

    python benchmarks/websocket.py [--rounds 5] [--seconds 3] [--only TEXT] [--no-memory]

The servers are measured in turn in one run; the figures are CPU time of the server's processes
alone, from /proc, and medians over the rounds. uvicorn has no HTTP/3: the ratio to what it costs
over HTTP/1.1 is there all the same.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import servers
from servers import Certificate, Server, development_certificate

_IDLE = 1000
_LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Scenario:
    """How the client is connected, and how many messages it has under way on each WebSocket.

    Their sizes change, unless all have `size` bytes.
    """

    http: str
    connections: int
    streams: int = 1
    in_flight: int = 1
    size: int | None = None
    servers: tuple[str, ...] = ("tercel",)


_ALL = ("tercel", *servers.UVICORNS)
SCENARIOS = {
    "h1, 32 connections": Scenario("1-plain", 32, servers=_ALL),
    "h1, 32 connections, 16 in flight": Scenario("1-plain", 32, in_flight=16, servers=_ALL),
    "h1 TLS, 32 connections": Scenario("1", 32, servers=("tercel", "uvicorn")),
    "h3, 32 connections": Scenario("3", 32),
    "h3, 32 connections, 16 in flight": Scenario("3", 32, in_flight=16),
    "h3, 32 WebSockets on one connection": Scenario("3", 1, streams=32),
}
IDLE_SCENARIOS = {
    "h1": Scenario("1-plain", _IDLE, size=100, servers=_ALL),
    "h1 TLS": Scenario("1", _IDLE, size=100, servers=("tercel", "uvicorn")),
    "h3, a connection each": Scenario("3", _IDLE, size=100),
    "h3, 100 on each connection": Scenario("3", _IDLE // 100, streams=100, size=100),
}


class Client:
    """`websocket_load.py`, with its WebSockets open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def echo(self, seconds: float) -> int:
        """Echo for so long; how many messages came back."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"echo {seconds}\n")
        self._process.stdin.flush()
        return int(self.line())

    def line(self) -> str:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the client has ended")
        return line.strip()


@contextmanager
def connected(scenario: Scenario, server: Server) -> Iterator[Client]:
    """The client of `scenario`, once all is open."""
    command = [sys.executable, str(servers.HERE / "websocket_load.py")]
    command += ["--http", scenario.http, "--port", str(server.port)]
    command += ["--connections", str(scenario.connections), "--streams", str(scenario.streams)]
    command += ["--in-flight", str(scenario.in_flight)]
    if scenario.size is not None:
        command += ["--bytes", str(scenario.size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            client = Client(process)
            if client.line() != "ready":
                raise RuntimeError("the client is not ready")
            yield client
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def cpu_per_message(
    name: str, scenario: Scenario, certificate: Certificate, seconds: float
) -> float:
    """CPU microseconds of server `name` per message."""
    with (
        servers.running(name, certificate, http=scenario.http) as server,
        connected(scenario, server) as client,
    ):
        client.echo(0.5)  # caches, windows
        before = server.cpu_seconds()
        messages = client.echo(seconds)
        return (server.cpu_seconds() - before) / messages * 1e6


def memory_per_socket(name: str, scenario: Scenario, certificate: Certificate) -> float:
    """Resident KiB of server `name` per idle WebSocket that has echoed once."""
    one = Scenario(scenario.http, 1, size=scenario.size)
    with servers.running(name, certificate, http=scenario.http) as server:
        with connected(one, server) as client:
            client.echo(0.2)
            before = server.resident_bytes()
        with connected(scenario, server) as client:
            client.echo(0)
            grown = server.resident_bytes() - before
    return grown / (scenario.connections * scenario.streams) / 1024


def main() -> None:
    """Run what was chosen and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    (servers.HERE / ".venvs").mkdir(exist_ok=True)
    certificate = development_certificate()
    cpu: dict[str, dict[str, list[float]]] = {}
    for title, scenario in SCENARIOS.items():
        if options.only in title:
            figures = cpu[title] = {name: [] for name in scenario.servers}
            for _ in range(options.rounds):
                for name in scenario.servers:
                    cost = cpu_per_message(name, scenario, certificate, options.seconds)
                    figures[name].append(cost)
            print(".", end="", file=sys.stderr, flush=True)
    memory: dict[str, dict[str, float]] = {}
    for title, scenario in IDLE_SCENARIOS.items():
        if not options.no_memory and options.only in title:
            memory[title] = {
                name: memory_per_socket(name, scenario, certificate) for name in scenario.servers
            }
    print(file=sys.stderr)
    print(cpu_table(cpu))
    print()
    print(memory_table(memory))
    if options.json:
        taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        results = {"taken": taken, "cpu_us": cpu, "idle_kib": memory}
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def cpu_table(results: dict[str, dict[str, list[float]]]) -> str:
    """Medians, their spread, and each peer's as a multiple of tercel's."""
    header = ["CPU us per echoed message", *_ALL, *(f"{name} / tercel" for name in _ALL[1:])]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for title, figures in results.items():
        cells, ratios = [title], []
        base = statistics.median(figures["tercel"])
        for name in _ALL:
            values = figures.get(name)
            cells.append(
                f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
                if values
                else ""
            )
            if name != "tercel":
                ratios.append(f"{statistics.median(values) / base:.2f}" if values else "")
        lines.append("| " + " | ".join(cells + ratios) + " |")
    return "\n".join(lines)


def memory_table(results: dict[str, dict[str, float]]) -> str:
    """KiB per idle WebSocket."""
    header = [f"KiB per idle WebSocket, {_IDLE} of them", *_ALL]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for title, figures in results.items():
        cells = [f"{figures[name]:.1f}" if name in figures else "" for name in _ALL]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
