"""CPU of tercel and its peers for the same work, in turn, in one run; ratios, not times.

    python benchmarks/compare.py [--rounds 5] [--seconds 4] [--servers tercel,hypercorn]

The primary figure is CPU time of all server processes per unit of work, the median over rounds.
On a shared machine absolute figures drift; the ratio between servers in one run does not.
"""

import argparse
import datetime
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import loads
import servers
from servers import Certificate, Server

from tercel.certs.selfsigned import DevelopmentCertificates, default_directory

BULK_BYTES = 5_000_000

# name -> (http, unit, load)
Load = Callable[[Server, Certificate, float], loads.Work]
SCENARIOS: dict[str, tuple[str, str, Load]] = {
    "h3 small GET, c4 m32": ("3", "request", lambda s, c, t: loads.small_gets(s, 4, 32, t)),
    "h3 small GET, c100 m1": ("3", "request", lambda s, c, t: loads.small_gets(s, 100, 1, t)),
    "h3 small GET, c1 m1": ("3", "request", lambda s, c, t: loads.small_gets(s, 1, 1, t)),
    "h3 handshake + GET": ("3", "connection", lambda s, c, t: loads.handshakes(s, 100, 50)),
    "h3 5 MB down": ("3", "Mbit", lambda s, c, t: loads.download(s, c, BULK_BYTES)),
    "h3 5 MB up": ("3", "Mbit", lambda s, c, t: loads.upload(s, c, BULK_BYTES, bulk_file())),
    "h1 small GET, 32 connections": (
        "1-plain",
        "request",
        lambda s, c, t: loads.small_gets_h1(s, 32, t),
    ),
}


def main() -> None:
    """Run the comparison and print a Markdown table; JSON goes to `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each timed load")
    parser.add_argument("--servers", default="tercel,hypercorn")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    (servers.HERE / ".venvs").mkdir(exist_ok=True)
    certificate = development_certificate()
    chosen = options.servers.split(",")
    results: dict[str, dict[str, list[float]]] = {}
    for scenario, (http, _, load) in SCENARIOS.items():
        if options.only not in scenario:
            continue
        figures: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(options.rounds):
            for name in chosen:
                with servers.running(name, certificate, http=http) as server:
                    figures[name].append(cost(server, certificate, load, options.seconds))
        results[scenario] = figures
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(results, chosen))
    if options.json:
        taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        options.json.write_text(json.dumps({"taken": taken, "cpu_us": results}, indent=1) + "\n")


def cost(server: Server, certificate: Certificate, load: Load, seconds: float) -> float:
    """CPU microseconds of the server per unit of work."""
    load(server, certificate, min(seconds, 1.0))  # imports, caches, the first connection
    before = server.cpu_seconds()
    work = load(server, certificate, seconds)
    return (server.cpu_seconds() - before) / work.units * 1e6


def table(results: dict[str, dict[str, list[float]]], chosen: list[str]) -> str:
    """The medians, and each peer's as a multiple of tercel's."""
    header = ["CPU us per", *chosen, *(f"{name} / tercel" for name in chosen if name != "tercel")]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for scenario, figures in results.items():
        medians = {name: statistics.median(values) for name, values in figures.items()}
        cells = [f"{scenario}, {SCENARIOS[scenario][1]}"]
        cells += [
            f"{medians[name]:.0f} ({min(figures[name]):.0f} to {max(figures[name]):.0f})"
            for name in chosen
        ]
        base = medians.get("tercel")
        cells += [
            f"{medians[name] / base:.2f}" if base else "-" for name in chosen if name != "tercel"
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def development_certificate() -> Certificate:
    """The certificate that tercel makes for loopback, for every server."""
    development = DevelopmentCertificates(default_directory())
    credential = development.ensure()
    leaf = credential.certificate_path
    if leaf is None:
        raise RuntimeError("the development certificate has no file")
    return Certificate(leaf, credential.key_path or leaf, development.ca_path)


def bulk_file() -> Path:
    """A file of BULK_BYTES bytes to upload."""
    path = servers.HERE / ".venvs" / "bulk"
    if not path.exists():
        path.write_bytes(bytes(range(256)) * (BULK_BYTES // 256 + 1))
    return path


if __name__ == "__main__":
    main()
