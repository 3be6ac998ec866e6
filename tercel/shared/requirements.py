"""Advice for when a package that this server needs is missing. Imports none of them."""

PACKAGES = ("aioquic", "click", "cryptography", "httptools", "pylsqpack", "websockets")


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
