"""What pyproject.toml declares is what the code imports."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tercel.shared import requirements

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = {"benchmarks", "interop", "tercel", "tests"}

# Packages of which more is used than they document.
USED_INSIDE = ("aioquic", "click", "sanic", "websockets")


def name_of(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found is not None
    return found[0].replace("_", "-").lower()


def imported_packages(directory: str) -> set[str]:
    """The distributions that the modules of `directory` import, wherever the import stands."""
    modules = set()
    for path in (ROOT / directory).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").partition(".")[0])
    distributions = importlib.metadata.packages_distributions()
    return {
        distribution.replace("_", "-").lower()
        for module in modules - sys.stdlib_module_names - OWN
        for distribution in distributions.get(module, [module])
    }


def test_the_package_imports_nothing_that_is_not_declared() -> None:
    declared = {name_of(item) for item in PROJECT["dependencies"] + EXTRAS["sanic"]}
    assert imported_packages("tercel") == declared


def test_the_tests_import_nothing_that_is_not_declared() -> None:
    declared = {name_of(item) for item in PROJECT["dependencies"] + EXTRAS["test"]}
    assert imported_packages("tests") - declared == set()


def test_what_is_told_to_be_missing_is_what_is_declared() -> None:
    always = {name_of(item) for item in PROJECT["dependencies"] if ";" not in item}
    assert set(requirements.PACKAGES) == always


@pytest.mark.parametrize("package", USED_INSIDE)
def test_a_package_that_is_used_inside_has_an_upper_bound(package: str) -> None:
    requirement = next(
        item for item in PROJECT["dependencies"] + EXTRAS["sanic"] if name_of(item) == package
    )
    assert re.search(r",<\d", requirement)


def test_the_lowest_versions_are_those_of_the_declared_bounds() -> None:
    tool = (sys.executable, str(ROOT / "tools" / "lowest_versions.py"))
    output = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    lowest = dict(line.split("==") for line in output.splitlines())
    assert set(lowest) == {name_of(item) for item in PROJECT["dependencies"]}
    for requirement in PROJECT["dependencies"]:
        assert f">={lowest[name_of(requirement)]}" in requirement
