"""External programs: where they are, and which versions they have."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache

_LIMIT_SECONDS = 20.0
_NUMBER = re.compile(r"\d+\.\d+[\w.+-]*")
# The first that goes on decrypting when a connection changes its path or its connection ID.
_FOLLOWS_PATHS = (4, 4)


def tool(name: str) -> Sequence[str]:
    """The command for an external program; see README.md. Raises LookupError if it is missing."""
    found = find_tool(name)
    if found is None:
        raise LookupError(f"{name} is missing; interop/README.md says how to get it")
    return found


@lru_cache
def find_tool(name: str) -> tuple[str, ...] | None:
    """The command for an external program, None if it is not here.

    TERCEL_INTEROP_TOOLS names a command that is called with the program's name and arguments, and
    ends with status 127 for a program that it does not have; without it, PATH is searched.
    """
    wrapper = os.environ.get("TERCEL_INTEROP_TOOLS")
    if wrapper:
        command = (*shlex.split(wrapper), name)
        probe = subprocess.run((*command, "--version"), capture_output=True, check=False)
        if probe.returncode != 127:
            return command
    found = shutil.which(name)
    return None if found is None else (found,)


@lru_cache
def about(name: str, option: str = "--version") -> str:
    """What a program says of itself; empty if it is not here."""
    command = find_tool(name)
    if command is None:
        return ""
    result = subprocess.run(
        (*command, option), capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    return result.stdout + result.stderr


def version_of(name: str, option: str = "--version") -> str:
    """The first version number in what a program says of itself; empty if there is none."""
    match = _NUMBER.search(about(name, option))
    return "" if match is None else match[0].rstrip(".")


def follows_paths(version: str) -> bool:
    """Whether a tshark of this version can read packets behind a change of paths."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return numbers >= _FOLLOWS_PATHS
