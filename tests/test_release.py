"""A release is built of what is in the repository, and is run where it says."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "release.py"
WORKFLOWS = ROOT / ".github" / "workflows"
PACKAGE = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tercel").rglob("*")
    if path.is_file() and path.parent.name != "__pycache__"
]


def release(*arguments: str, tool: Path = TOOL) -> tuple[int, str]:
    """The exit status of the tool, and what it finds wrong."""
    command = (sys.executable, str(tool), *arguments)
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr


def wheel(path: Path, names: list[str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*names, "tercel-1.2.3.dist-info/METADATA"]:
            archive.writestr(name, "")
    return str(path)


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The tool in a repository whose version is 1.2.3."""
    for name, text in {
        "tercel/version.py": '__version__ = "1.2.3"\n',
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n",
        "tools/release.py": TOOL.read_text(),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "tools" / "release.py"


def test_a_tag_is_the_version_that_the_changelog_has(tool: Path) -> None:
    assert release("tag", "v1.2.3", tool=tool) == (0, "")


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3", "v1.2", "v1x2.3"])
def test_another_tag_is_refused(tool: Path, tag: str) -> None:
    status, mistakes = release("tag", tag, tool=tool)
    assert status == 1
    assert f"the tag is {tag}, tercel/version.py has 1.2.3" in mistakes


def test_a_version_without_its_section_in_the_changelog_is_refused(tool: Path) -> None:
    changelog = tool.parent.parent / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## [Unreleased]\n")
    assert release("tag", "v1.2.3", tool=tool) == (
        1,
        "CHANGELOG.md has no section [1.2.3] with a date\n",
    )


def test_a_wheel_has_the_whole_package_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    assert release("wheel", wheel(path, PACKAGE)) == (0, "")
    others = [name for name in PACKAGE if name != "tercel/py.typed"]
    assert release("wheel", wheel(path, others)) == (1, "tercel/py.typed is missing\n")
    more = [*PACKAGE, "tests/test_cli.py"]
    assert release("wheel", wheel(path, more)) == (1, "tests/test_cli.py does not belong there\n")


@pytest.mark.parametrize(
    "step",
    [
        'tags: ["v*"]',
        ".verification.verified",
        'tools/release.py tag "$GITHUB_REF_NAME"',
        "python -m build",
        "twine check --strict dist/*",
        "tools/release.py wheel dist/*.whl",
        "environment:\n      name: pypi",
        "id-token: write",
        "uses: pypa/gh-action-pypi-publish@",
    ],
)
def test_the_release_workflow_has_the_step(step: str) -> None:
    assert step in (WORKFLOWS / "release.yml").read_text()


def test_no_workflow_has_a_password() -> None:
    for path in WORKFLOWS.iterdir():
        assert "secrets." not in path.read_text()


def test_every_python_that_is_claimed_is_run_in_ci() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    looked_for = re.search(r"for version in (.+); do", (ROOT / "tools/interpreters.sh").read_text())
    assert looked_for is not None
    assert looked_for[1].split() == claimed
    matrix = re.search(r"python: \[(.+)\]", (WORKFLOWS / "ci.yml").read_text())
    assert matrix is not None
    assert re.findall(r"3\.\d+", matrix[1]) == claimed
    assert project["requires-python"] == f">={claimed[0]}"
