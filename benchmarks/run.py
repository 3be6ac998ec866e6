"""One comparison: rounds, servers in turn, results as they come.

What fails is told and costs nothing but itself: the server is started anew for what follows, and
what has been measured is on disk.
"""

import datetime
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import commands
import report
import scenarios
import servers
import syscalls
from budget import Budget
from commands import NotSupported
from limit import within
from scenarios import Memory, Scenario
from servers import Certificate, Server

_WARM_SECONDS = 1
# Beyond anything that a load takes on a machine that is busy with something else, too.
_LIMIT_SECONDS = 150.0
_FAILURES = (RuntimeError, OSError, TimeoutError, ValueError, AssertionError)


@dataclass
class Figures:
    """What one server needed for one scenario; a value per round."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    syscalls: list[float] = field(default_factory=list)
    failed: str = ""
    """Why a round, and those after it, were not measured."""


@dataclass(frozen=True)
class Plan:
    """How thoroughly, and what of it all. `budget` is seconds, None for as long as it takes."""

    rounds: int
    seconds: int
    quick: bool = False
    only: str = ""
    servers: tuple[str, ...] = ()
    budget: float | None = None

    def scenarios(self, http: str) -> list[Scenario]:
        """The scenarios to run over `http`, the chief ones first."""
        chosen = [
            scenario
            for scenario in scenarios.SCENARIOS
            if scenario.http == http
            and self._chosen(scenario)
            and (scenario.quick or not self.quick)
        ]
        return sorted(chosen, key=lambda scenario: not scenario.quick)

    def memory(self) -> list[Memory]:
        """What to find out about memory."""
        return [m for m in scenarios.MEMORY if self._chosen(m) and not self.quick]

    def taking_part(self, scenario: Scenario | Memory) -> list[str]:
        """The servers that `scenario` is measured on."""
        chosen = self.servers or (scenarios.QUICK[scenario.http] if self.quick else ())
        return [name for name in scenario.servers if not chosen or name in chosen]

    def all_servers(self) -> list[str]:
        """Every server that takes part in anything."""
        chosen = [s for http in report.VERSIONS for s in self.scenarios(http)]
        return sorted(
            {name for item in [*chosen, *self.memory()] for name in self.taking_part(item)}
        )

    def time(self) -> Budget:
        """What says how many rounds each scenario gets."""
        chief = [s.quick for http in report.VERSIONS for s in self.scenarios(http)]
        return Budget(
            self.rounds, self.budget, chief=sum(chief), others=len(chief) - sum(chief)
        )  # fmt: skip

    def _chosen(self, scenario: Scenario | Memory) -> bool:
        return self.only in report.full_title(scenario.title, scenario.http)


class Running:
    """The servers of one HTTP version: they run side by side, and idle but for one."""

    def __init__(self, certificate: Certificate, http: str) -> None:
        self._certificate = certificate
        self._http = http
        self._stacks: dict[str, ExitStack] = {}
        self._servers: dict[str, Server] = {}

    def server(self, name: str) -> Server:
        """Server `name`, started if it does not run. Raises as `servers.running` does."""
        if name not in self._servers:
            with ExitStack() as stack, within(_LIMIT_SECONDS):
                running = servers.running(name, self._certificate, http=self._http)
                self._servers[name] = stack.enter_context(running)
                self._stacks[name] = stack.pop_all()
        return self._servers[name]

    def stop(self, name: str) -> None:
        """Stop it; the next time it is asked for it is a fresh one."""
        self._servers.pop(name, None)
        stack = self._stacks.pop(name, None)
        if stack is not None:
            stack.close()

    def stop_all(self) -> None:
        """Stop all."""
        for name in list(self._stacks):
            self.stop(name)


class Run:
    """Measures what `plan` says. `keep` is called with all results, each time there are more."""

    def __init__(
        self, plan: Plan, certificate: Certificate, keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self._plan = plan
        self._certificate = certificate
        self._keep = keep
        self._began = time.monotonic()
        self._budget = plan.time()

    def results(self) -> dict[str, Any]:
        """Measure everything."""
        results: dict[str, Any] = {
            "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": {},
            "rounds": self._plan.rounds,
            "seconds": self._plan.seconds,
            "scenarios": [],
            "memory": [],
        }
        commands.install(self._plan.all_servers())
        for memory in self._plan.memory():
            results["memory"].append(self._memory_row(memory))
            self._keep(results)
        for http in report.VERSIONS:
            running = Running(self._certificate, http)
            try:
                for scenario in self._plan.scenarios(http):
                    results["scenarios"].append(self._row(scenario, running))
                    results["versions"] = self._versions(results["scenarios"])
                    self._keep(results)
            finally:
                running.stop_all()
        return results

    def _row(self, scenario: Scenario, running: Running) -> dict[str, Any]:
        names = self._plan.taking_part(scenario)
        figures = {name: Figures() for name in names}
        left = list(names)
        for number in self._budget.rounds(self._now, chief=scenario.quick):
            self._tell(f"{report.full_title(scenario.title, scenario.http)}: round {number + 1}")
            for name in list(left):
                if not self._measured(scenario, name, running, figures[name]):
                    left.remove(name)
        if scenario.syscalls and not self._plan.quick:
            for name in left:
                self._count_system_calls(scenario, name, running, figures[name])
        self._tell("")
        return {
            "title": scenario.title,
            "http": scenario.http,
            "unit": scenario.unit,
            "chief": scenario.quick,
            "servers": {
                name: asdict(figure) if figure.cpu_us or figure.failed else None
                for name, figure in figures.items()
            },
        }

    def _measured(self, scenario: Scenario, name: str, running: Running, figures: Figures) -> bool:
        """Take one round; False when it could not be taken, and no other can."""
        ca = self._certificate.ca
        try:
            server = running.server(name)
            with within(_LIMIT_SECONDS):
                if not figures.cpu_us and not scenario.warm:
                    # Imports, caches, the memory that the first requests take.
                    scenario.load(server, min(_WARM_SECONDS, self._plan.seconds), ca)
                work = scenario.load(server, self._plan.seconds, ca)
                figures.resident_mib.append(server.resident_bytes() / (1 << 20))
        except NotSupported:
            return False
        except _FAILURES as error:
            figures.failed = self._failure(f"{name}, {scenario.title}", error)
            running.stop(name)
            return False
        figures.cpu_us.append(work.cpu / work.units * 1e6)
        if work.seconds:
            figures.per_second.append(work.units / work.seconds)
        if work.p50 is not None and work.p99 is not None:
            figures.p50_ms.append(work.p50)
            figures.p99_ms.append(work.p99)
        return True

    def _count_system_calls(
        self, scenario: Scenario, name: str, running: Running, figures: Figures
    ) -> None:
        seconds = min(1, self._plan.seconds)
        try:
            server = running.server(name)
            with within(_LIMIT_SECONDS):
                calls = syscalls.per_unit(
                    server, lambda: scenario.load(server, seconds, self._certificate.ca)
                )
        except (*_FAILURES, NotSupported) as error:
            self._failure(f"{name}, system calls of {scenario.title}", error)
            running.stop(name)
            return
        if calls is not None:
            figures.syscalls.append(calls)

    def _memory_row(self, memory: Memory) -> dict[str, Any]:
        kib: dict[str, list[float] | None] = {}
        for name in self._plan.taking_part(memory):
            self._tell(f"{report.full_title(memory.title, memory.http)}: {name}")
            running = Running(self._certificate, memory.http)
            try:
                server = running.server(name)
                with within(_LIMIT_SECONDS):
                    kib[name] = [memory.measure(server)]
            except NotSupported:
                kib[name] = None
            except _FAILURES as error:
                self._failure(f"{name}, {memory.title}", error)
                kib[name] = None
            finally:
                running.stop_all()
        self._tell("")
        return {"title": memory.title, "http": memory.http, "unit": memory.unit, "kib": kib}

    def _versions(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        return commands.versions(
            sorted({name for row in rows for name, figures in row["servers"].items() if figures})
        )

    def _failure(self, what: str, error: BaseException) -> str:
        text = f"{type(error).__name__}: {error}"[:300]
        print(f"\n{what}: {text}", file=sys.stderr, flush=True)
        return text

    def _tell(self, text: str) -> None:
        start = f"[{self._now():4.0f} s] " if text else ""
        print(f"\r\033[K{start}{text}", end="", file=sys.stderr, flush=True)

    def _now(self) -> float:
        return time.monotonic() - self._began


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release().partition("-")[0]}
