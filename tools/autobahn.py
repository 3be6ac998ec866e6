"""Runs Autobahn's WebSocket test suite against tercel and writes docs/autobahn.md.

    python tools/autobahn.py [--python2 PATH] [--cases 1.*,9.*]

The suite is for Python 2.7 alone; without --python2 one is looked for in PATH and with pyenv. It
is installed from PyPI into build/autobahn on first use, where its full report is found afterwards.
Everything listens on loopback. The exit code is 1 when a case failed.
"""

import argparse
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tercel.version import __version__

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "autobahn"
REPORT = HOME / "report"
SUMMARY = ROOT / "docs" / "autobahn.md"
REQUIREMENT = "autobahntestsuite==0.8.2"
CASES = 517

CATEGORIES = {
    1: "Framing",
    2: "Pings and pongs",
    3: "Reserved bits",
    4: "Opcodes",
    5: "Fragmentation",
    6: "UTF-8",
    7: "Closing",
    9: "Large messages and many",
    10: "Automatic fragmentation",
    12: "Compression, by message",
    13: "Compression, by parameters",
}
# The two that are neither right nor wrong by RFC 6455: a choice that is allowed, and a remark.
PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
_START_SECONDS = 20.0

# Its packages share a namespace that only a site directory sets up.
_WSTEST = """
import site, sys
site.addsitedir({packages!r})
sys.path.insert(0, {packages!r})
from autobahntestsuite.wstest import run
sys.argv = ["wstest", "-m", "fuzzingclient", "-s", {spec!r}]
run()
"""

Results = dict[str, dict[str, str]]


def main() -> None:
    """Run the cases, say how they went, and write the summary if all of them ran."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python2", help="a Python 2.7 with pip")
    parser.add_argument("--cases", default="*", help="case patterns, separated by commas")
    parser.add_argument("--again", action="store_true", help="only read the last report again")
    parser.add_argument("--minutes", type=float, default=60, help="the longest it may take")
    options = parser.parse_args()
    if not options.again:
        python2 = options.python2 or find_python2()
        if python2 is None:
            sys.exit("no Python 2.7 with pip: name one with --python2 (make autobahn PYTHON2=...)")
        packages = installed_suite(python2)
        with serving() as port:
            run_suite(python2, packages, port, options.cases.split(","), options.minutes)
    results = read_report()
    failed = {case: result for case, result in results.items() if not passed(result)}
    for case, result in failed.items():
        print(f"{case}: {result['behavior']}, closing: {result['behaviorClose']}")
    print(f"{len(results)} cases, {len(failed)} failed; report in {REPORT}")
    if len(results) == CASES:
        SUMMARY.write_text(summary(results), "utf-8")
        print(f"wrote {SUMMARY}")
    sys.exit(1 if failed or not results else 0)


def find_python2() -> str | None:
    """A Python 2.7 that has pip, None if there is none."""
    candidates = [found for name in ("python2.7", "python2") if (found := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("2.7*/bin/python"))]
    for candidate in candidates:
        check = [candidate, "-c", "import sys, pip; assert sys.version_info[:2] == (2, 7)"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def installed_suite(python2: str) -> Path:
    """Where the suite is installed."""
    packages = HOME / "packages"
    done = HOME / "installed"
    if not done.exists():
        shutil.rmtree(packages, ignore_errors=True)
        packages.mkdir(parents=True)
        install = [python2, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--target", str(packages), REQUIREMENT], check=True)
        done.touch()
    return packages


@contextmanager
def serving() -> Iterator[int]:
    """Run tercel with an application that echoes; its port, cleartext HTTP/1.1."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    command = [sys.executable, "-m", "tercel", "--http", "1", "--bind", "", "--no-access-log"]
    command += ["--plain-bind", f"127.0.0.1:{port}", "--app-dir", str(ROOT / "tools")]
    command += ["--lifespan", "off", "autobahn_echo:app"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_until_serving(process, port)
            yield port
        finally:
            process.terminate()


def wait_until_serving(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Return when connections are accepted."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit("tercel does not serve")


def run_suite(python2: str, packages: Path, port: int, cases: list[str], minutes: float) -> None:
    """Run `cases`."""
    shutil.rmtree(REPORT, ignore_errors=True)
    spec = HOME / "fuzzingclient.json"
    server = {"agent": "tercel", "url": f"ws://127.0.0.1:{port}"}
    spec.write_text(
        json.dumps(
            {
                "outdir": str(REPORT),
                "servers": [server],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    script = _WSTEST.format(packages=str(packages), spec=str(spec))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with open(HOME / "wstest.log", "w", encoding="utf-8") as log:
        subprocess.run(
            [python2, "-c", script],
            env=environment, stdout=log, stderr=log, timeout=minutes * 60, check=True,
        )  # fmt: skip


def read_report() -> Results:
    """What the suite said of each case."""
    results: Results = json.loads((REPORT / "index.json").read_text("utf-8"))["tercel"]
    return results


def passed(result: dict[str, str]) -> bool:
    """Whether neither the case nor its closing went wrong."""
    return result["behavior"] in PASSED and result["behaviorClose"] in PASSED


def summary(results: Results) -> str:
    """The results by category, in Markdown."""
    ended = (REPORT / "index.json").stat().st_mtime
    day = datetime.datetime.fromtimestamp(ended, datetime.UTC).date()
    counts: dict[int, Counter[str]] = {number: Counter() for number in CATEGORIES}
    for case, result in results.items():
        kind = result["behavior"] if passed(result) else "failed"
        counts[int(case.partition(".")[0])][kind] += 1
    lines = [
        "# Autobahn",
        "",
        "Autobahn's fuzzing client against an application that echoes text and binary messages,",
        "over cleartext HTTP/1.1. `make autobahn` runs it and writes this page.",
        "",
        f"{day}: tercel {__version__}, websockets {version('websockets')}, "
        f"Python {sys.version.split()[0]}, {REQUIREMENT.replace('==', ' ')}.",
        "",
        "| cases | | run | OK | non-strict | informational | failed |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    total: Counter[str] = Counter()
    for number, title in CATEGORIES.items():
        lines.append(row(f"{number}.*", title, counts[number]))
        total += counts[number]
    lines.append(row("**all**", "", total))
    lines += [
        "",
        "Non-strict is what RFC 6455 allows. A message that arrives in one piece with a frame that",
        "breaks the rules is received, but the connection has failed before its echo is sent",
        "(3, 4, 5); text that is not UTF-8 fails it at the end of a frame, not in it (6.4).",
        "Informational cases have no right answer.",
        "",
    ]
    return "\n".join(lines)


def row(cases: str, title: str, counts: "Counter[str]") -> str:
    """One line of the table."""
    kinds = ("OK", "NON-STRICT", "INFORMATIONAL", "failed")
    cells = [str(counts.total()), *(str(counts[kind]) for kind in kinds)]
    return "| " + " | ".join([cases, title, *cells]) + " |"


if __name__ == "__main__":
    main()
