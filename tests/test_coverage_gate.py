"""The coverage gate says which file is below it, and by how much."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "coverage_gate.py"
FILES = ("tercel/quic/http3/fields.py", "tercel/quic/transport/ecn.py")


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The tool in a repository with two files to cover."""
    for name in (*FILES, "tools/coverage_gate.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(TOOL.read_text())
    return tmp_path / "tools" / "coverage_gate.py"


def gate(tool: Path, *missing: int, names: tuple[str, ...] = FILES, branch: bool = True) -> list:
    """The tool's exit status and lines; of 60 lines and 40 branches of each file so many miss."""
    report = {
        "meta": {"branch_coverage": branch},
        "files": {
            name: {
                "summary": {
                    "num_statements": 60,
                    "covered_lines": 60,
                    "num_branches": 40,
                    "covered_branches": 40 - count,
                }
            }
            for name, count in zip(names, missing, strict=True)
        },
    }
    path = tool.with_name("coverage.json")
    path.write_text(json.dumps(report))
    command = (sys.executable, str(tool), str(path))
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.returncode, *done.stderr.splitlines()]


def test_a_gate_that_is_reached_is_passed(tool: Path) -> None:
    assert gate(tool, 0, 0) == [0]


def test_a_file_below_the_gate_is_named_with_what_it_lacks(tool: Path) -> None:
    status, *lines = gate(tool, 0, 30)
    assert status == 1
    name, shortfall = lines[0].split(": ")
    assert name == FILES[1]
    assert shortfall.startswith("70.00 %, which is ")
    assert lines[1].startswith("total: 85.00 %")


def test_a_file_that_no_test_imports_is_named(tool: Path) -> None:
    assert gate(tool, 0, names=FILES[:1]) == [1, f"{FILES[1]}: not measured"]


def test_a_report_without_branches_does_not_pass(tool: Path) -> None:
    assert gate(tool, 0, 0, branch=False) == [1, "branches were not measured"]
