"""What the quick run of the tests leaves out."""

import ast
from pathlib import Path

import pytest

from tests.conftest import SLOW

ROOT = Path(__file__).resolve().parent.parent
SLOW_FILES = {entry for entry in SLOW if "::" not in entry}


@pytest.mark.parametrize("entry", SLOW)
def test_what_is_left_out_is_there(entry: str) -> None:
    path, _, name = entry.partition("::")
    assert (ROOT / path).exists()
    if name:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {getattr(node, "name", None) for node in ast.walk(tree)}


def test_every_layer_has_tests_that_are_quick() -> None:
    files = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")]
    quick = [path for path in files if SLOW_FILES.isdisjoint(map(str, (path, *path.parents)))]
    # What soak claims is only seen after a while.
    assert {path.parent for path in files} - {path.parent for path in quick} == {Path("tests/soak")}
