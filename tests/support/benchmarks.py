"""Imports the modules of `benchmarks`, which are no package, and forgets them afterwards."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@contextmanager
def importing() -> Iterator[Callable[[str], Any]]:
    """A function that imports a module by its name."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))
        for found in set(sys.modules) - before:
            path = getattr(sys.modules[found], "__file__", None)
            if path and Path(path).parent == BENCHMARKS:
                del sys.modules[found]


@contextmanager
def imported(name: str) -> Iterator[Any]:
    """The module `name`."""
    with importing() as module:
        yield module(name)
