"""Runs the frameworks and middleware in common use on tercel, and writes docs/frameworks.md.

    make frameworks [ARGS="--only Quart --only Litestar"]

Each is served by tercel and by another server, the reference. The exit code is 1 when something
fails on tercel that works there, and nothing explains why.
"""

import argparse
import sys
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from tools.frameworks import middleware, page, servers
from tools.frameworks.apps.contract import FILE, HOME, STOPPED
from tools.frameworks.catalogue import EXPLAINED, FRAMEWORKS, Framework
from tools.frameworks.clients import Client
from tools.frameworks.features import Check
from tools.frameworks.results import COLUMNS, REFERENCE, TERCEL, Row, failure_of
from tools.frameworks.servers import Served


def main() -> None:
    """Try what was asked for; without `--only` all of it, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", help="a framework's name; repeatable")
    options = parser.parse_args()
    FILE.parent.mkdir(parents=True, exist_ok=True)
    for log in HOME.glob("*.log"):
        log.unlink()
    FILE.write_bytes(bytes(range(256)) * 1200)
    frameworks = [
        row
        for framework in FRAMEWORKS
        if not options.only or framework.name in options.only
        for row in tried(framework)
    ]
    around = [] if options.only else tried_middleware()
    for row in frameworks + around:
        for column, failure in row.failures.items():
            print(f"{row.subject}, {row.feature}, {column}: {failure}")
    if not options.only:
        page.write(frameworks, around)
        print(f"wrote {page.PAGE}")
    unexplained = [row for row in frameworks + around if row.unexplained]
    print(f"{len(frameworks + around)} features, {len(unexplained)} fail without an explanation")
    sys.exit(bool(unexplained))


def tried(framework: Framework) -> list[Row]:
    """A row for each feature of `framework`, or one that says that it is not installed."""
    try:
        versions = ", ".join(f"{name} {version(name)}" for name in framework.packages)
    except PackageNotFoundError as error:
        absent = dict.fromkeys(COLUMNS, f"Not installed: {error.name}")
        return [Row(framework.name, "?", "all", absent, absent)]
    print(versions, flush=True)
    rows = {
        feature: Row(
            framework.name, versions, feature, {}, EXPLAINED.get((framework.name, feature), {})
        )
        for feature in framework.checks | framework.rooted
    }
    reference = servers.sanic if framework.name == "Sanic" else servers.uvicorn
    for checks, root_path in ((framework.checks, ""), (framework.rooted, "/api")):
        if checks:
            answers: dict[str, object] = {}
            serving = reference(framework.app, root_path=root_path)
            try_on(serving, (REFERENCE,), checks, rows, answers)
            serving = servers.tercel(framework.app, root_path=root_path)
            try_on(serving, TERCEL, checks, rows, answers)
    return list(rows.values())


def tried_middleware() -> list[Row]:
    """A row for each feature of each middleware, or one that says why there are none."""
    try:
        return middleware.tried()
    except (PackageNotFoundError, AssertionError) as error:
        failures = dict.fromkeys(COLUMNS, f"Not run: {error}")
        return [Row("all", "?", "all", failures, failures)]


def try_on(
    serving: AbstractContextManager[Served],
    columns: tuple[str, ...],
    checks: dict[str, Check],
    rows: dict[str, Row],
    answers: dict[str, object],
) -> None:
    """Fill `columns` of `rows`. `answers` has what each check returned first: it has to again."""

    def check(feature: str, client: Client) -> None:
        answer = checks[feature](client)
        expected = answers.setdefault(feature, answer)
        assert answer == expected, f"{answer!r} where the reference has {expected!r}"

    try:
        with serving as served:
            for column in columns:
                client = Client(served, COLUMNS[column])
                for feature in checks:
                    if failure := failure_of(partial(check, feature, client)):
                        rows[feature].failures[column] = failure
                client.close()
    except AssertionError as error:
        for feature in checks:
            rows[feature].failures.update(dict.fromkeys(columns, str(error)))
    else:
        if "lifespan" in checks and STOPPED not in served.log:
            failure = "the shutdown has not run"
            rows["lifespan"].failures.update(dict.fromkeys(columns, failure))


if __name__ == "__main__":
    main()
