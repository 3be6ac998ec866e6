"""Advice for when a package that this server needs is missing or unfit. Imports none of them."""

import importlib.metadata

from tercel.shared.errors import ServerError

PACKAGES = ("aioquic", "click", "cryptography", "httptools", "pylsqpack", "websockets")

TESTED_AIOQUIC = ("1.7.2",)
"""Releases of aioquic that all tests have passed with."""


def missing_package(error: ImportError) -> str | None:
    """Which of PACKAGES could not be imported; None for any other failure."""
    name = (error.name or "").partition(".")[0]
    # One that is there and does not import is broken, not missing.
    return name if isinstance(error, ModuleNotFoundError) and name in PACKAGES else None


def advice(package: str) -> str:
    """What to do about a package that is missing."""
    return (
        f"cannot start: package {package} is missing: pip install {package} in the environment "
        "that tercel is in"
    )


def unfit_aioquic(error: Exception) -> ServerError:
    """The error for an aioquic that is installed and does not work here, as `error` shows."""
    found = importlib.metadata.version("aioquic")
    tested = " or ".join(TESTED_AIOQUIC)
    return ServerError(
        f"cannot serve HTTP/3 with aioquic {found} ({type(error).__name__}: {error}): "
        f"pip install aioquic=={tested}, or serve HTTP/1.1 alone by --http 1 (version=1 in a "
        "program)"
    )
