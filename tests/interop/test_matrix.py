"""What a run consists of, and how it deals with what fails; without a network."""

import pytest

from interop import matrix, peers, run
from interop.cases import CASES
from interop.matrix import main
from interop.peers import CLIENTS, SERVERS, Client
from interop.result import Outcome, Result
from interop.run import Workshop, run_case


def named(items, name):
    return next(item for item in items if item.name == name)


@pytest.mark.parametrize(
    ("here", "taken"),
    [
        ({client.name for client in CLIENTS}, ["ngtcp2", "quic-go", "curl"]),
        ({"ngtcp2-http3", "quic-go", "impit", "niquests"}, ["ngtcp2-http3", "quic-go", "impit"]),
        ({"quic-go", "niquests", "tercel"}, ["quic-go", "niquests", "tercel"]),
        ({"tercel"}, ["tercel"]),
    ],
)
def test_a_quick_run_takes_three_clients_of_those_that_are_here(monkeypatch, here, taken):
    monkeypatch.setattr(Client, "missing", lambda client: None if client.name in here else "gone")
    assert matrix._quick_clients() == taken


def test_a_curl_without_http3_is_missing(monkeypatch):
    monkeypatch.setattr(peers, "find_tool", lambda name: ("curl",))
    monkeypatch.setattr(peers, "about", lambda name: "curl 7.88.1\nFeatures: HTTP2 HTTPS-proxy")
    assert named(CLIENTS, "curl").missing() == "curl is installed, but without HTTP3"
    monkeypatch.setattr(peers, "about", lambda name: "curl 8.14.1\nFeatures: HTTP2 HTTP3")
    assert named(CLIENTS, "curl").missing() is None


def test_a_system_that_lets_us_do_nothing_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "why_not", lambda: "there is no /dev/net/tun")
    assert main(["--quick"]) == 0
    assert capsys.readouterr().out == "interop: skipped: there is no /dev/net/tun\n"


def attempts(monkeypatch, tmp_path, *outcomes, limit):
    """The result of a case whose attempts end like this, and how many there were."""
    left = list(outcomes)

    def attempt(workshop, server, client, case):
        outcome = left.pop(0)
        reason = "" if outcome is Outcome.PASSED else f"reason {len(outcomes) - len(left)}"
        return Result(
            server=server.name, client=client.name, case=case.name, outcome=outcome, reason=reason
        )

    monkeypatch.setattr(run, "_attempt", attempt)
    pair = named(SERVERS, "tercel"), named(CLIENTS, "tercel")
    result = run_case(Workshop(tmp_path, attempts=limit), *pair, named(CASES, "handshake"))
    return result, len(outcomes) - len(left)


PASSED, FAILED, UNSUPPORTED = Outcome.PASSED, Outcome.FAILED, Outcome.UNSUPPORTED


def test_what_failed_once_says_so_when_it_passes(monkeypatch, tmp_path):
    result, tried = attempts(monkeypatch, tmp_path, FAILED, PASSED, limit=3)
    assert (result.outcome, result.attempts, tried) == (PASSED, 2, 2)
    assert result.reason == "at first: reason 1"


def test_a_measurement_is_the_median_of_its_repetitions(monkeypatch, tmp_path):
    rates = [9000.0, 7000.0, 8000.0]

    def attempt(workshop, server, client, case):
        return Result(
            server=server.name,
            client=client.name,
            case=case.name,
            outcome=PASSED,
            kilobits=rates.pop(0),
        )

    monkeypatch.setattr(run, "_attempt", attempt)
    pair = named(SERVERS, "tercel"), named(CLIENTS, "tercel")
    result = run_case(Workshop(tmp_path, repetitions=3), *pair, named(CASES, "goodput"))
    assert (result.kilobits, result.spread) == (8000.0, (7000.0, 9000.0))
    assert result.rate == "8.00 (7.00 to 9.00) Mbit/s"


def test_what_fails_every_time_has_failed(monkeypatch, tmp_path):
    result, tried = attempts(monkeypatch, tmp_path, FAILED, FAILED, FAILED, limit=3)
    assert (result.outcome, result.attempts, tried) == (FAILED, 3, 3)
    assert result.reason == "reason 3"


@pytest.mark.parametrize("outcome", [PASSED, UNSUPPORTED, Outcome.MISSING])
def test_nothing_but_a_failure_is_tried_again(monkeypatch, tmp_path, outcome):
    result, tried = attempts(monkeypatch, tmp_path, outcome, FAILED, limit=3)
    assert (result.outcome, result.attempts, tried) == (outcome, 1, 1)


def test_once_is_enough_unless_more_is_asked_for(monkeypatch, tmp_path):
    result, tried = attempts(monkeypatch, tmp_path, FAILED, PASSED, limit=1)
    assert (result.outcome, result.reason, tried) == (FAILED, "reason 1", 1)


def test_a_cell_that_fails_fails_the_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(matrix, "why_not", lambda: None)
    monkeypatch.setattr(matrix, "versions", lambda peers: {})

    def fail(workshop, server, client, case):
        return Result(
            server=server.name, client=client.name, case=case.name, outcome=FAILED, reason="why"
        )

    monkeypatch.setattr(matrix, "run_case", fail)
    arguments = ["--client", "tercel", "--server", "tercel", "--case", "handshake"]
    told = ["--version-of", "tercel=1.2"]
    assert main([*arguments, *told, "--results", str(tmp_path)]) == 1
    assert "failed      tercel tercel handshake: why" in capsys.readouterr().out
    assert "1.2" in (tmp_path / "results.md").read_text()
