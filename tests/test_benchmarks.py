"""What the benchmarks tell of their figures, and how they judge them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
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
