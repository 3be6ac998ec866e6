"""System programs that tests need: a test without its program is skipped by the program's name.

Where TERCEL_TEST_NO_SKIP=1 is set everything is meant to be there, so it fails instead.
"""

import os
import shutil
from typing import NoReturn

import pytest


def program(*names: str) -> str:
    """The path of the first of `names` that is installed."""
    path = next(filter(None, map(shutil.which, names)), None)
    return missing(" or ".join(names)) if path is None else path


def missing(what: str) -> NoReturn:
    """Skip the test, or fail where nothing may be skipped, because there is no `what`."""
    if os.environ.get("TERCEL_TEST_NO_SKIP") == "1":
        pytest.fail(f"{what} is not installed, and TERCEL_TEST_NO_SKIP=1 lets no test be skipped")
    pytest.skip(f"{what} is not installed")
