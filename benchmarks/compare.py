"""tercel and its peers at the same work, in turn, in one run: CPU per unit of work, and more.

    python benchmarks/compare.py [--quick] [--only TEXT] [--servers A,B] [--rounds N] [--check]

The primary figure is CPU time of all processes of a server per unit of work, the median over
rounds that take the servers in turn. On a shared machine absolute figures drift within the hour;
the ratio between servers in one run does not. JSON, Markdown and charts go to `--output`.
"""

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import check
import commands
import report
import scenarios
import servers
import syscalls
from commands import NotSupported
from scenarios import Memory, Scenario
from servers import Certificate, Server

_RESULTS = servers.HERE / "results"
_WARM_SECONDS = 1


@dataclass
class Figures:
    """What one server needed for one scenario; a value per round."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    syscalls: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How thoroughly, and what of it all."""

    rounds: int
    seconds: int
    quick: bool
    only: str
    servers: tuple[str, ...]

    def scenarios(self) -> list[Scenario]:
        """The scenarios to run."""
        return [s for s in scenarios.SCENARIOS if self._chosen(s) and (s.quick or not self.quick)]

    def memory(self) -> list[Memory]:
        """What to find out about memory."""
        return [m for m in scenarios.MEMORY if self._chosen(m) and not self.quick]

    def taking_part(self, scenario: Scenario | Memory) -> list[str]:
        """The servers that `scenario` is measured on."""
        chosen = self.servers or (scenarios.QUICK[scenario.http] if self.quick else ())
        return [name for name in scenario.servers if not chosen or name in chosen]

    def _chosen(self, scenario: Scenario | Memory) -> bool:
        return self.only in report.full_title(scenario.title, scenario.http)


class Run:
    """One comparison. The servers of one HTTP version run side by side, and idle but for one."""

    def __init__(self, plan: Plan, certificate: Certificate) -> None:
        self._plan = plan
        self._certificate = certificate
        self._running: dict[str, Server] = {}

    def results(self) -> dict[str, Any]:
        """Measure everything."""
        rows = []
        for http in ("3", "1-plain", "1"):
            with ExitStack() as stack:
                self._running = {}
                for scenario in self._plan.scenarios():
                    if scenario.http == http:
                        self._start(stack, self._plan.taking_part(scenario), http)
                        rows.append(self._row(scenario))
        return {
            "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": commands.versions(
                sorted({name for row in rows for name in row["servers"] if name != "tercel"})
            ),
            "rounds": self._plan.rounds,
            "seconds": self._plan.seconds,
            "scenarios": rows,
            "memory": [self._memory_row(memory) for memory in self._plan.memory()],
        }  # fmt: skip

    def _start(self, stack: ExitStack, names: list[str], http: str) -> None:
        for name in names:
            if name not in self._running:
                running = servers.running(name, self._certificate, http=http)
                try:
                    self._running[name] = stack.enter_context(running)
                except NotSupported as reason:
                    print(f"{name}: {reason}", file=sys.stderr)

    def _row(self, scenario: Scenario) -> dict[str, Any]:
        taking_part = {
            name: self._running[name]
            for name in self._plan.taking_part(scenario)
            if name in self._running
        }
        figures = {name: Figures() for name in taking_part}
        for _ in self._rounds(scenario):
            for name in list(figures):
                if not self._measure(scenario, taking_part[name], figures[name]):
                    del figures[name]
        if scenario.syscalls and not self._plan.quick:
            for name in figures:
                self._count_system_calls(scenario, taking_part[name], figures[name])
        return {
            "title": scenario.title,
            "http": scenario.http,
            "unit": scenario.unit,
            "servers": {
                name: vars(figures[name]) if name in figures else None
                for name in self._plan.taking_part(scenario)
            },
        }

    def _rounds(self, scenario: Scenario) -> Iterator[int]:
        title = report.full_title(scenario.title, scenario.http)
        for number in range(self._plan.rounds):
            print(f"\r\033[K{title}: round {number + 1}", end="", file=sys.stderr, flush=True)
            yield number
        print("\r\033[K", end="", file=sys.stderr)

    def _measure(self, scenario: Scenario, server: Server, figures: Figures) -> bool:
        """Take one round; False when the server does not do what the scenario asks."""
        try:
            if not figures.cpu_us and not scenario.warm:
                # Imports, caches, the memory that the first requests take.
                scenario.load(server, min(_WARM_SECONDS, self._plan.seconds), self._certificate.ca)
            work = scenario.load(server, self._plan.seconds, self._certificate.ca)
        except NotSupported:
            return False
        except (RuntimeError, OSError, TimeoutError) as error:
            print(f"\n{server.name}, {scenario.title}: {error!r}", file=sys.stderr)
            return False
        figures.cpu_us.append(work.cpu / work.units * 1e6)
        if work.seconds:
            figures.per_second.append(work.units / work.seconds)
        if work.p50 is not None and work.p99 is not None:
            figures.p50_ms.append(work.p50)
            figures.p99_ms.append(work.p99)
        figures.resident_mib.append(server.resident_bytes() / (1 << 20))
        return True

    def _count_system_calls(self, scenario: Scenario, server: Server, figures: Figures) -> None:
        seconds = min(1, self._plan.seconds)
        calls = syscalls.per_unit(
            server, lambda: scenario.load(server, seconds, self._certificate.ca)
        )
        if calls is not None:
            figures.syscalls.append(calls)

    def _memory_row(self, memory: Memory) -> dict[str, Any]:
        kib: dict[str, list[float] | None] = {}
        for name in self._plan.taking_part(memory):
            try:
                with servers.running(name, self._certificate, http=memory.http) as server:
                    kib[name] = [memory.measure(server)]
            except (NotSupported, RuntimeError, OSError, TimeoutError) as error:
                print(f"{name}, {memory.title}: {error!r}", file=sys.stderr)
                kib[name] = None
        return {"title": memory.title, "http": memory.http, "unit": memory.unit, "kib": kib}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def main() -> None:
    """Measure, write the results, and compare them with the last ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="the chief scenarios, two short rounds"
    )
    parser.add_argument("--rounds", type=int, help="default 5, quick 2")
    parser.add_argument("--seconds", type=int, help="length of each timed load; default 4, quick 2")
    parser.add_argument("--servers", default="", help="only these, separated by commas")
    parser.add_argument("--only", default="", help="scenarios whose title contains this")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="directory of the results")
    parser.add_argument("--check", action="store_true", help="fail if tercel lost against the last")
    options = parser.parse_args()
    plan = Plan(
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (2 if options.quick else 4),
        quick=options.quick,
        only=options.only,
        servers=tuple(filter(None, options.servers.split(","))),
    )
    results = Run(plan, servers.development_certificate()).results()
    name = "quick" if options.quick else "full"
    last = check.read(options.output / f"{name}.json")
    report.write(results, options.output, name)
    print((options.output / f"{name}.md").read_text())
    if last is not None:
        lost = check.lost(results, last)
        print("\n".join(lost) or "Nothing lost against the last results.")
        if lost and options.check:
            sys.exit(1)


if __name__ == "__main__":
    main()
