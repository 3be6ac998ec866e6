"""The programs that the benchmarks need and Python packages do not bring: where they are.

`h2load`, `curl` and `nginx`, each with HTTP/3, are looked for through the command in
TERCEL_BENCH_TOOLS, which is called with the tool's name and arguments, and then in PATH; so are
`wrk` and `strace`. README.md says how to get them.
"""

import os
import shlex
import shutil
import subprocess
from functools import lru_cache

_WRAPPED = ("h2load", "curl", "nginx")
_LIMIT_SECONDS = 600.0


def find(name: str) -> tuple[str, ...] | None:
    """The command that runs the program `name`; None when there is none."""
    wrapper = os.environ.get("TERCEL_BENCH_TOOLS")
    if wrapper and name in _WRAPPED:
        return (*shlex.split(wrapper), name)
    found = shutil.which(name)
    return None if found is None else (found,)


def tool(name: str) -> tuple[str, ...]:
    """The command that runs the program `name`. Raises RuntimeError when there is none."""
    found = find(name)
    if found is None:
        raise RuntimeError(f"{name} is missing; benchmarks/README.md says how to get it")
    return found


@lru_cache
def speaks_http3(name: str) -> bool:
    """Whether `name`, h2load or curl, is there and was built with HTTP/3."""
    if find(name) is None:
        return False
    if name == "h2load":
        # Without HTTP/3 it has no option for the UDP datagram's size.
        return "udp-payload-size" in version("h2load", "--help")
    return "HTTP3" in version("curl", "--version")


@lru_cache
def version(name: str, option: str) -> str:
    """What the program says about itself, on whichever stream."""
    result = subprocess.run([*tool(name), option], capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip()


def run(*command: str) -> str:
    """The standard output of `command`. Raises RuntimeError when it fails."""
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout
