"""tercel and its peers at the same work, in turn, in one run: CPU per unit of work, and more.

    python benchmarks/compare.py [--quick] [--only TEXT] [--servers A,B] [--rounds N]
                                 [--budget MINUTES] [--check]

The primary figure is CPU time of all processes of a server per unit of work, the median over
rounds that take the servers in turn. On a shared machine absolute figures drift within the hour;
the ratio between servers in one run does not. JSON, Markdown and charts go to `--output`, as
`full`, `quick` or, of a choice of scenarios or servers, `part`; until the run is over what there is
of them is `unfinished`, written anew whenever a scenario is done.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

import check
import report
import servers
from run import Plan, Run

_RESULTS = servers.HERE / "results"
_UNFINISHED = "unfinished"


def main() -> None:
    """Measure, write the results, and compare them with the last ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="the chief scenarios, two short rounds"
    )
    parser.add_argument("--rounds", type=int, help="default 5, quick 2")
    parser.add_argument("--seconds", type=int, help="length of each timed load; default 4, quick 2")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="fewer rounds of what is not chief, so that the run takes about so long",
    )
    parser.add_argument("--servers", default="", help="only these, separated by commas")
    parser.add_argument("--only", default="", help="scenarios whose title contains this")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="directory of the results")
    parser.add_argument("--check", action="store_true", help="fail if tercel lost against the last")
    options = parser.parse_args()
    # As an exception it ends the servers, too; what was measured is on disk.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    plan = Plan(
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (2 if options.quick else 4),
        quick=options.quick,
        only=options.only,
        servers=tuple(filter(None, options.servers.split(","))),
        budget=None if options.budget is None else options.budget * 60,
    )
    whole = "quick" if options.quick else "full"
    name = "part" if options.only or options.servers else whole
    last = check.read(options.output / f"{whole}.json")

    def keep(results: dict[str, Any]) -> None:
        report.write(results, options.output, _UNFINISHED)

    results = Run(plan, servers.development_certificate(), keep).results()
    report.write(results, options.output, name, charted=True)
    for suffix in ("json", "md"):
        (options.output / f"{_UNFINISHED}.{suffix}").unlink(missing_ok=True)
    print((options.output / f"{name}.md").read_text())
    if last is not None:
        lost = check.lost(results, last)
        print("\n".join(lost) or "Nothing lost against the last results.")
        print("\n".join(check.not_judged(results, last)))
        if lost and options.check:
            sys.exit(1)


if __name__ == "__main__":
    main()
