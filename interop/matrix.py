"""The interop runner's test cases on one machine: python -m interop.matrix --help."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from interop.cases import CASES, Case
from interop.lab import REPOSITORY, why_not
from interop.peers import CLIENTS, SERVERS, Client, Server
from interop.report import merged, read_run, write_report
from interop.result import Outcome, Result, Run
from interop.run import Workshop, run_case
from interop.versions import versions

_RESULTS = REPOSITORY / "interop" / "results"
# Not to mix with the results that are kept.
_QUICK_RESULTS = _RESULTS / "quick"
# For a quick run: of each row the first that is here, and the last row where one has none.
_QUICK_CLIENTS = (
    ("ngtcp2", "ngtcp2-http3"),
    ("quic-go",),
    ("curl", "impit", "pycurl", "curl_cffi", "niquests"),
    ("tercel",),
)
_QUICK_COUNT = 3
# A machine that does much else besides is slower than the network.
_QUICK_PATIENCE = 3.0
# A timer of a peer's that a busy machine lets fire too late is no finding; what fails every time
# is one.
_QUICK_ATTEMPTS = 5

T = TypeVar("T", Case, Client, Server)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run, report; the exit status."""
    options = _parser().parse_args(arguments)
    if options.results is None:
        options.results = _QUICK_RESULTS if options.quick else _RESULTS
    reason = why_not()
    if reason is not None:
        print(f"interop: skipped: {reason}")
        return 0
    work = _work(options)
    workshop = Workshop(
        options.results,
        seed=options.seed,
        keep=options.keep,
        patience=_QUICK_PATIENCE if options.quick else 1.0,
        attempts=_QUICK_ATTEMPTS if options.quick else 1,
        repetitions=options.repeat,
    )
    for chain in {case.chain for _, _, case in work}:
        workshop.certificates(chain)
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(run_case, workshop, *item) for item in work]
        try:
            for future in running:
                result = future.result()
                results.append(result)
                print(_line(result), flush=True)
        except BaseException:
            # What runs comes to its end and tidies up; nothing else begins.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    peers = dict.fromkeys(peer for server, client, _ in work for peer in (server, client))
    told = dict(text.split("=", 1) for text in options.version_of)
    run = Run(results, versions(peers) | told, time.strftime("%Y-%m-%d"))
    write_report(merged(read_run(options.results), run), options.results)
    print(f"report: {options.results / 'index.html'}")
    return 1 if any(result.outcome is Outcome.FAILED for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m interop.matrix", description=__doc__)
    parser.add_argument("--server", action="append", help="only this one; repeatable")
    parser.add_argument("--client", action="append", help="only this one; repeatable")
    parser.add_argument("--case", action="append", help="only this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="three clients, no long waits")
    parser.add_argument("--jobs", type=int, default=2, help="how many run side by side")
    parser.add_argument("--repeat", type=int, default=5, help="how often a rate is measured")
    parser.add_argument("--seed", type=int, default=0, help="what chance begins with")
    parser.add_argument("--keep", action="store_true", help="keep all captures")
    parser.add_argument(
        "--version-of",
        action="append",
        default=[],
        metavar="NAME=VERSION",
        help="for the report, of a program that does not say it; repeatable",
    )
    parser.add_argument("--results", type=Path, help="directory for the report")
    return parser


def _work(options: argparse.Namespace) -> list[tuple[Server, Client, Case]]:
    clients = options.client or (_quick_clients() if options.quick else ())
    chosen_clients = _chosen(CLIENTS, clients)
    chosen_servers = _chosen(SERVERS, options.server or (("tercel",) if options.quick else ()))
    cases = [case for case in _chosen(CASES, options.case) if not (options.quick and case.waits)]
    return [
        (server, client, case)
        for server in chosen_servers
        for client in chosen_clients
        # Of others' servers and others' clients, others keep the score.
        if "tercel" in (server.name, client.name)
        for case in cases
        if not (client.http3_only and case.quic_only)
    ]


def _quick_clients() -> list[str]:
    """The clients of a quick run: three, as independent as those that are here can be."""
    by_name = {client.name: client for client in CLIENTS}
    present = [
        next((name for name in names if by_name[name].missing() is None), None)
        for names in _QUICK_CLIENTS
    ]
    return [name for name in present if name is not None][:_QUICK_COUNT]


def _chosen(known: Sequence[T], names: Sequence[str] | None) -> list[T]:
    unknown = set(names or ()) - {item.name for item in known}
    if unknown:
        sys.exit(f"not known: {', '.join(sorted(unknown))}")
    return [item for item in known if not names or item.name in names]


def _line(result: Result) -> str:
    detail = result.reason
    if result.outcome is Outcome.PASSED:
        detail = f"{result.seconds:.1f} s" + (f" ({detail})" if detail else "")
    if result.kilobits:
        detail += f", {result.rate}"
    return f"{result.outcome:<11} {result.server} {result.client} {result.case}: {detail}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interop: ends with what runs now"))
    sys.exit(main())
