"""What the benchmarks tell of their figures, and how they judge them."""

import asyncio
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.benchmarks import BENCHMARKS, importing


@pytest.fixture
def benchmark() -> Iterator[Any]:
    """Imports a module of the benchmarks, and forgets all of them afterwards."""
    with importing() as module:
        yield module


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


def test_a_chief_scenario_that_fails_is_a_loss(benchmark: Any) -> None:
    new, old = results(tercel=[], uvicorn=[30.0]), results(tercel=[20.0], uvicorn=[30.0])
    row = new["scenarios"][0]
    row["chief"] = True
    row["servers"]["tercel"]["failed"] = "RuntimeError: no request done"
    (line,) = benchmark("check").lost(new, old)
    assert line == "LOST: small GET (HTTP 1-plain): tercel failed: RuntimeError: no request done"


def test_a_chief_scenario_that_the_last_results_have_not_is_told(benchmark: Any) -> None:
    new, old = (results(tercel=[20.0], uvicorn=[30.0]) for _ in range(2))
    new["scenarios"][0]["chief"] = True
    assert benchmark("check").not_judged(new, old) == []
    old["scenarios"][0]["title"] = "another"
    (line,) = benchmark("check").not_judged(new, old)
    assert line.startswith("Not judged: small GET (HTTP 1-plain)")


def test_every_chief_scenario_can_be_judged(benchmark: Any) -> None:
    """Its reference peer takes part, in a quick run too."""
    scenarios = benchmark("scenarios")
    chief = [scenario for scenario in scenarios.SCENARIOS if scenario.quick]
    assert chief
    for scenario in chief:
        reference = scenarios.REFERENCES[scenario.http]
        assert reference in scenario.servers
        assert {"tercel", reference} <= set(scenarios.QUICK[scenario.http])


def test_the_same_request_again_is_one_row_of_each_version(benchmark: Any) -> None:
    scenarios = benchmark("scenarios").SCENARIOS
    again = [s for s in scenarios if s.title.startswith("the same request again")]
    assert sorted(s.http for s in again) == ["1", "1-plain", "3"]
    assert not any(s.quick for s in again)


def test_every_server_has_a_color_of_its_own(benchmark: Any) -> None:
    servers = {name for s in benchmark("scenarios").SCENARIOS for name in s.servers}
    colors = benchmark("charts")._COLORS
    assert servers <= set(colors)
    assert len(set(colors.values())) == len(colors)


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
        ([10.0, 20.0, 30.0], [26.0], "uvicorn ≥ 1.3: 1.30 met"),
        ([20.0], [25.0], "uvicorn ≥ 1.3: 1.25 **not met**"),
        ([20.0], None, "uvicorn ≥ 1.3: not measured"),
        ([20.0], [], "uvicorn ≥ 1.3: not measured"),
    ],
)
def test_the_table_tells_whether_an_aim_is_met(
    benchmark: Any, tercel: list[float], uvicorn: list[float] | None, told: str
) -> None:
    measured = results(tercel=tercel, uvicorn=uvicorn)
    measured["scenarios"][0]["title"] = "pages, 32 connections"
    assert told in benchmark("report").markdown(measured)


def test_a_cost_that_should_be_flat_is_told_beside_its_base(benchmark: Any) -> None:
    measured = results(tercel=[26.0])
    rows = [measured["scenarios"][0], results(tercel=[20.0])["scenarios"][0]]
    rows[0] |= {"http": "3", "title": "pages, 1,000 connections"}
    rows[1] |= {"http": "3", "title": "pages, 100 connections"}
    told = benchmark("aims").of_scenario(rows[0], rows)
    assert told == "≤ 1.3 of pages, 100 connections: 1.30 met"


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


def heads(requests: Any) -> list[list[str]]:
    """The lines of each request's head over HTTP/1.1."""
    return [
        whole.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        for whole in requests.http1_requests()
    ]


def test_targets_vary_while_fields_are_repeated(benchmark: Any) -> None:
    for requests in benchmark("traffic").pages():
        assert len(set(requests.targets)) == len(requests.targets) >= 5000
        assert any("%" in target for target in requests.targets)
        repeated = {
            tuple(line for line in head[1:] if not line.startswith("Referer: "))
            for head in heads(requests)
        }
        assert len(repeated) == 1


def test_no_two_clients_ask_for_the_same(benchmark: Any) -> None:
    traffic = benchmark("traffic")
    for kind in (traffic.pages, traffic.json_posts, traffic.calls):
        targets = [target for requests in kind() for target in requests.targets]
        assert len(set(targets)) > 0.97 * len(targets)


def test_browsers_send_14_to_20_fields_and_two_cookies(benchmark: Any) -> None:
    traffic = benchmark("traffic")
    *browsers, client = traffic.pages()
    assert len(browsers) == 3
    for requests in browsers:
        fields = requests.http3_fields()
        assert 14 <= len(fields) <= 20
        assert [name for name, _ in fields].count("cookie") == 2
        head = heads(requests)[0]
        assert 14 <= len(head) - 1 <= 20
        (cookies,) = (line for line in head if line.startswith("Cookie: "))
        assert cookies.count("; ") == 1
    assert 10 <= len(client.http3_fields()) <= len(heads(client)[0]) - 1
    assert dict(client.http3_fields())["authorization"].startswith("Bearer ")


def test_each_version_has_its_spelling(benchmark: Any) -> None:
    traffic = benchmark("traffic")
    for requests in (*traffic.pages(), *traffic.json_posts(), *traffic.calls()):
        names = [name for name, _ in requests.http3_fields()]
        assert all(name == name.lower() for name in names)
        assert not {"host", "connection"} & set(names)
        _, *lines = heads(requests)[0]
        assert lines[:2] == [f"Host: {traffic.HOST}", "Connection: keep-alive"]


def test_bodies_differ_between_clients(benchmark: Any) -> None:
    traffic = benchmark("traffic")
    posts = [requests.body for requests in traffic.json_posts()]
    assert [len(body) for body in posts] == [300, 900, 2000, 4096]
    assert all(json.loads(body)["lines"] for body in posts)
    calls = [requests.body for requests in traffic.calls()]
    assert len(set(map(len, calls))) == 4
    assert all(24 <= len(body) <= 70 for body in calls)


def test_a_single_page_is_20_requests_of_its_own(benchmark: Any) -> None:
    for pages in benchmark("traffic").single_pages():
        assert all(len(page.targets) == 20 for page in pages)
        assert len({target for page in pages for target in page.targets}) == 20 * len(pages)


def test_the_sizes_of_messages_change(benchmark: Any) -> None:
    messages = benchmark("traffic").messages()
    sizes = sorted(map(len, messages))
    assert sizes[0] >= 10
    assert sizes[-1] <= 4096
    assert sizes[-1] > 2000
    assert sizes[len(sizes) * 7 // 10] < 200
    assert {type(message) for message in messages} == {str, bytes}


def test_traffic_is_the_same_in_every_process() -> None:
    script = (
        "import traffic, hashlib; every = traffic.pages() + traffic.json_posts() + traffic.calls();"
        "data = b''.join(r for each in every for r in each.http1_requests());"
        "data += repr([r.http3_fields() for r in every]).encode();"
        "data += repr(traffic.messages()).encode();"
        "print(hashlib.sha256(data).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=BENCHMARKS, env=os.environ | {"PYTHONHASHSEED": seed},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


async def asked(
    app: Any, target: str, body: bytes | None = None, **scope: Any
) -> tuple[int, dict[str, str], bytes, list[str]]:
    """Status, fields, content and types of messages that an ASGI application answers with."""
    path, _, query = target.partition("?")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    request = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "https",
        "server": ("127.0.0.1", 443),
        "client": ("127.0.0.1", 4433),
        "root_path": "",
        "method": "GET" if body is None else "POST",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"www.shop.example")],
    }
    await app(request | scope, receive, send)
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], fields, content, [message["type"] for message in sent]


def some(benchmark: Any) -> list[tuple[str, bytes | None]]:
    """Targets of every client, with contents."""
    traffic = benchmark("traffic")
    return [
        (target, requests.body)
        for requests in (*traffic.pages(), *traffic.json_posts(), *traffic.calls())
        for target in requests.targets[:40]
    ]


def test_answers_differ_in_size_and_fields(benchmark: Any) -> None:
    app = benchmark("app").app
    answers = [asyncio.run(asked(app, target, body)) for target, body in some(benchmark)]
    pages = [fields for _, fields, _, _ in answers if "etag" in fields]
    assert all(6 <= len(fields) <= 8 for fields in pages)
    assert len({fields["etag"] for fields in pages}) > 0.9 * len(pages)
    assert len({fields["x-request-id"] for fields in pages}) == len(pages)
    assert len({fields["content-type"] for fields in pages}) == 5
    assert 0.03 < sum("set-cookie" in fields for fields in pages) / len(pages) < 0.3
    sizes = [len(content) for _, fields, content, _ in answers if "etag" in fields]
    assert 100 <= min(sizes) < 200
    assert 2000 < max(sizes) <= 4096
    assert statistics.median(sizes) < 700


def test_an_answer_in_json_is_json(benchmark: Any) -> None:
    app = benchmark("app").app
    for target, body in some(benchmark):
        _, fields, content, _ = asyncio.run(asked(app, target, body))
        if fields["content-type"] == "application/json":
            json.loads(content)


def test_calls_end_with_trailers_where_there_are_any(benchmark: Any) -> None:
    app, call = benchmark("app").app, benchmark("traffic").calls()[0]
    extensions = {"http.response.trailers": {}}
    *_, types = asyncio.run(asked(app, call.targets[0], call.body, extensions=extensions))
    assert types[-1] == "http.response.trailers"
    *_, types = asyncio.run(asked(app, call.targets[0], call.body))
    assert types == ["http.response.start", "http.response.body"]


@pytest.mark.filterwarnings("ignore")
def test_sanic_has_the_same_answers(benchmark: Any) -> None:
    app, sanic = benchmark("app").app, benchmark("sanic_app")
    for target, body in some(benchmark):
        status, fields, content, _ = asyncio.run(asked(app, target, body))
        path, _, query = target.partition("?")
        method = "GET" if body is None else "POST"
        request = SimpleNamespace(method=method, path=path, query_string=query, body=body)
        answer = asyncio.run(sanic._anything(request, path[1:]))
        assert (answer.status, answer.body) == (status, content)
        own = dict(answer.headers) | {"content-type": answer.content_type}
        changing = {"content-length", "x-request-id"}
        assert {k: v for k, v in own.items() if k not in changing} == {
            k: v for k, v in fields.items() if k not in changing
        }


def test_tercel_answers_what_the_application_does(benchmark: Any) -> None:
    app, servers = benchmark("app").app, benchmark("servers")
    certificate = servers.development_certificate()
    with servers.running("tercel", certificate, http="1-plain") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for target, body in some(benchmark):
            status, fields, content, _ = asyncio.run(asked(app, target, body))
            connection.request("GET" if body is None else "POST", target, body)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, content)
            own = dict(answer.getheaders())
            changing = {"x-request-id", "date"}
            assert {k: v for k, v in own.items() if k in fields and k not in changing} == {
                k: v for k, v in fields.items() if k not in changing
            }
        connection.close()


class CountedServer:
    """A server whose CPU time grows by a second each time that it is read."""

    name = "counted"

    def __init__(self) -> None:
        self.read = 0

    def cpu_seconds(self) -> float:
        self.read += 1
        return float(self.read)


def test_cost_is_the_mean_over_the_measured_parts_of_all_loads(benchmark: Any) -> None:
    script = "import time; print('begin'); time.sleep({}); print('end', flush=True)"
    loads = [[sys.executable, "-uc", script.format(seconds)] for seconds in (0.2, 0.6)]
    outputs, cpu = benchmark("loads")._run_marked(loads, CountedServer(), ("begin", "end"))
    assert [output.split() for output in outputs] == [["begin", "end"]] * 2
    # Four readings: two begin, then two end.
    assert cpu == pytest.approx(2.0)


def test_a_load_that_fails_is_told(benchmark: Any) -> None:
    loads = [[sys.executable, "-c", "print('begin'); print('end'); raise SystemExit(3)"]]
    with pytest.raises(RuntimeError, match="begin"):
        benchmark("loads")._run_marked(loads, CountedServer(), ("begin", "end"))


def test_messages_are_masked_and_their_echoes_counted(benchmark: Any) -> None:
    load = benchmark("websocket_load")
    frames = load.Frames(["some text", bytes(300)])
    assert frames.sent[0][:2] == bytes((0x81, 0x80 | 9))
    assert frames.sent[1][:4] == bytes((0x82, 0x80 | 126)) + (300).to_bytes(2, "big")
    assert frames.answer_bytes == [11, 304]
    written: list[bytes] = []

    class Echo(load.Echo):  # type: ignore[misc,name-defined]
        def write(self, data: bytes) -> None:
            written.append(data)

    echo = Echo(frames, 1)
    echo.start(1, time.monotonic() + 60)
    echo.received(300)
    assert echo.echoed == 0
    echo.received(4)
    assert echo.echoed == 1
    assert written == [frames.sent[1], frames.sent[0]]
