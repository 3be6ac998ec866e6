"""What the benchmarks tell of their figures, and how they judge them."""

import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmarks, and forgets all of them afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path and Path(path).parent == BENCHMARKS:
            del sys.modules[name]


def results(**cpu_us: list[float] | None) -> dict[str, Any]:
    """Results of one scenario over HTTP/1.1."""
    figures = {
        name: None
        if values is None
        else {
            "cpu_us": values,
            "per_second": [1000.0],
            "p50_ms": [],
            "p99_ms": [],
            "resident_mib": [40.0],
            "syscalls": [],
            "failed": "",
        }
        for name, values in cpu_us.items()
    }
    row = {"title": "small GET", "http": "1-plain", "unit": "request", "servers": figures}
    return {
        "taken": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "a cpu", "cores": 2, "kernel": "6.1"},
        "versions": {"python": "3.11"},
        "rounds": 3,
        "seconds": 2,
        "scenarios": [row],
        "memory": [],
    }


def test_a_slower_machine_is_no_loss(benchmark: Any) -> None:
    old = results(tercel=[20.0, 21.0, 22.0], uvicorn=[30.0, 31.0, 32.0])
    new = results(tercel=[60.0, 63.0, 66.0], uvicorn=[90.0, 93.0, 96.0])
    assert benchmark("check").lost(new, old) == []


def test_more_cost_beside_the_reference_is_a_loss(benchmark: Any) -> None:
    old = results(tercel=[20.0, 20.0, 20.0], uvicorn=[30.0, 30.0, 30.0])
    new = results(tercel=[30.0, 29.0, 31.0], uvicorn=[30.0, 30.0, 30.0])
    (line,) = benchmark("check").lost(new, old)
    assert "small GET" in line
    assert "0.67 -> 1.00" in line


def test_one_bad_round_is_no_loss(benchmark: Any) -> None:
    old = results(tercel=[20.0, 20.0, 20.0], uvicorn=[30.0, 30.0, 30.0])
    new = results(tercel=[20.0, 29.0, 31.0], uvicorn=[30.0, 30.0, 30.0])
    assert benchmark("check").lost(new, old) == []


def test_without_the_reference_nothing_is_judged(benchmark: Any) -> None:
    old = results(tercel=[20.0], uvicorn=[30.0])
    assert benchmark("check").lost(results(tercel=[90.0], uvicorn=None), old) == []
    assert benchmark("check").lost(results(tercel=None, uvicorn=[30.0]), old) == []


def test_the_table_has_medians_their_spread_and_ratios(benchmark: Any) -> None:
    text = benchmark("report").markdown(results(tercel=[20.0, 10.0, 30.0], uvicorn=[50.0]))
    assert "| small GET: request | 20 (10 to 30) | 50 (50 to 50) **[2.50]** |" in text


def test_what_a_server_does_not_do_is_not_supported_and_nothing_more(benchmark: Any) -> None:
    text = benchmark("report").markdown(results(tercel=[20.0], granian=None))
    assert "| small GET: request | 20 (20 to 20) | not supported |" in text


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("250us", 0.25), ("1.5ms", 1.5), ("2.00s", 2000), ("1m", 60_000)]
)
def test_units_of_time_are_understood(benchmark: Any, text: str, milliseconds: float) -> None:
    assert benchmark("loads")._milliseconds(text) == pytest.approx(milliseconds)


def test_every_scenario_is_measured_on_tercel_and_named_once(benchmark: Any) -> None:
    scenarios = benchmark("scenarios").SCENARIOS
    assert all(scenario.servers[0] == "tercel" for scenario in scenarios)
    titles = [(scenario.http, scenario.title) for scenario in scenarios]
    assert len(titles) == len(set(titles))


def test_every_peer_is_pinned() -> None:
    pins = [path.read_text() for path in (BENCHMARKS / "peers").glob("*.txt")]
    lines = [line for pin in pins for line in pin.splitlines() if line]
    assert lines
    assert all("==" in line for line in lines)


def test_a_server_that_failed_is_told_apart_from_one_that_cannot(benchmark: Any) -> None:
    failing = results(tercel=[20.0], granian=[])
    assert "| small GET: request | 20 (20 to 20) | failed |" in benchmark("report").markdown(
        failing
    )


@pytest.mark.parametrize(
    ("tercel", "uvicorn", "told"),
    [
        ([10.0, 20.0, 30.0], [24.0], "uvicorn ≥ 1.2: 1.20 met"),
        ([20.0], [23.0], "uvicorn ≥ 1.2: 1.15 **not met**"),
        ([20.0], None, "uvicorn ≥ 1.2: not measured"),
        ([20.0], [], "uvicorn ≥ 1.2: not measured"),
    ],
)
def test_the_table_tells_whether_an_aim_is_met(
    benchmark: Any, tercel: list[float], uvicorn: list[float] | None, told: str
) -> None:
    measured = results(tercel=tercel, uvicorn=uvicorn)
    measured["scenarios"][0]["title"] = "small GET, 32 connections"
    assert told in benchmark("report").markdown(measured)


def test_a_cost_that_should_be_flat_is_told_beside_its_base(benchmark: Any) -> None:
    measured = results(tercel=[26.0])
    rows = [measured["scenarios"][0], results(tercel=[20.0])["scenarios"][0]]
    rows[0] |= {"http": "3", "title": "small GET, 1,000 connections"}
    rows[1] |= {"http": "3", "title": "small GET, 100 connections"}
    told = benchmark("aims").of_scenario(rows[0], rows)
    assert told == "≤ 1.3 of small GET, 100 connections: 1.30 met"


def test_memory_is_judged_by_its_limit(benchmark: Any) -> None:
    row = {"http": "3", "title": "1,000 idle connections", "kib": {"tercel": [61.0]}}
    assert benchmark("aims").of_memory(row) == "≤ 60 KiB: **not met**"
    row["kib"] = {"tercel": [60.0]}
    assert benchmark("aims").of_memory(row) == "≤ 60 KiB: met"
    row["kib"] = {"tercel": None}
    assert benchmark("aims").of_memory(row) == "≤ 60 KiB: not measured"


def test_every_aim_is_of_something_that_is_measured(benchmark: Any) -> None:
    scenarios, aims = benchmark("scenarios"), benchmark("aims")
    servers = {(s.http, s.title): s.servers for s in scenarios.SCENARIOS}
    assert all(aim.peer in servers[aim.http, aim.title] for aim in aims.AIMS)
    flat = [(flat.http, title) for flat in aims.FLAT for title in (flat.title, flat.beside)]
    assert set(flat) <= set(servers)
    assert set(aims.MOST_KIB) <= {(m.http, m.title) for m in scenarios.MEMORY}


class Hours:
    """A clock that each round moves by `seconds`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, rounds: Iterator[int], seconds: float) -> int:
        """How many rounds there were, of so many seconds each."""
        count = 0
        for _ in rounds:
            count += 1
            self.now += seconds
        return count


def test_without_a_budget_there_are_all_rounds(benchmark: Any) -> None:
    clock = Hours()
    budget = benchmark("budget").Budget(5, None, chief=1, others=1)
    assert clock.spend(budget.rounds(clock, chief=True), 1000) == 5
    assert clock.spend(budget.rounds(clock, chief=False), 1000) == 5


def test_chief_scenarios_get_all_rounds_and_the_others_share_the_rest(benchmark: Any) -> None:
    clock = Hours()
    budget = benchmark("budget").Budget(5, 240, chief=2, others=2)
    assert clock.spend(budget.rounds(clock, chief=True), 10) == 5
    # 190 seconds are left, 50 of them for the other chief one: 70 for each of these.
    assert clock.spend(budget.rounds(clock, chief=False), 30) == 2
    assert clock.spend(budget.rounds(clock, chief=False), 100) == 1
    assert clock.spend(budget.rounds(clock, chief=True), 10) == 5


class FakeServer:
    """What a run asks of a server."""

    def __init__(self, name: str) -> None:
        self.name = name

    def resident_bytes(self) -> int:
        return 1 << 20


@pytest.fixture
def run(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `run` with servers that cost nothing; `started` has their names."""
    module = benchmark("run")
    module.started = []

    @contextmanager
    def running(name: str, certificate: Any, *, http: str) -> Iterator[FakeServer]:
        module.started.append(name)
        yield FakeServer(name)

    monkeypatch.setattr(module.servers, "running", running)
    monkeypatch.setattr(module.commands, "install", lambda names: None)
    monkeypatch.setattr(module.commands, "versions", lambda names: dict.fromkeys(names, "1"))
    monkeypatch.setattr(module.scenarios, "MEMORY", [])
    return module


def scenario_of(run: Any, title: str, load: Any) -> Any:
    return run.Scenario(title, "1-plain", "request", ("tercel", "uvicorn"), load, warm=True)


CERTIFICATE = SimpleNamespace(ca=None)


def test_what_fails_loses_nothing_but_itself(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = run.scenarios.loads
    calls: list[str] = []

    def failing(server: FakeServer, seconds: int, ca: Any) -> Any:
        calls.append(server.name)
        if server.name == "uvicorn" and calls.count("uvicorn") == 2:
            raise RuntimeError("the load broke")
        return loads.Work(100, 1, 0.002)

    def working(server: FakeServer, seconds: int, ca: Any) -> Any:
        return loads.Work(100, 1, 0.001)

    chosen = [scenario_of(run, "first", failing), scenario_of(run, "second", working)]
    monkeypatch.setattr(run.scenarios, "SCENARIOS", chosen)
    kept: list[int] = []
    taken = run.Run(
        run.Plan(rounds=3, seconds=1), CERTIFICATE, lambda r: kept.append(len(r["scenarios"]))
    ).results()
    first, second = (row["servers"] for row in taken["scenarios"])
    assert first["tercel"]["cpu_us"] == pytest.approx([20.0] * 3)
    assert first["uvicorn"]["cpu_us"] == pytest.approx([20.0])
    assert first["uvicorn"]["failed"] == "RuntimeError: the load broke"
    assert second["uvicorn"]["cpu_us"] == pytest.approx([10.0] * 3)
    assert kept == [1, 2]
    assert run.started == ["tercel", "uvicorn", "uvicorn"]


def test_what_hangs_is_interrupted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hanging(server: FakeServer, seconds: int, ca: Any) -> Any:
        if server.name == "uvicorn":
            signal.raise_signal(signal.SIGALRM)  # the time is over
        return run.scenarios.loads.Work(100, 1, 0.001)

    monkeypatch.setattr(run.scenarios, "SCENARIOS", [scenario_of(run, "only", hanging)])
    taken = run.Run(run.Plan(rounds=2, seconds=1), CERTIFICATE, lambda r: None).results()
    (row,) = taken["scenarios"]
    assert len(row["servers"]["tercel"]["cpu_us"]) == 2
    assert row["servers"]["uvicorn"]["failed"].startswith("TimeoutError: not done within")
