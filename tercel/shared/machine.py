"""The memory available to this process: the machine's, or the limit of its control group.

On Linux, reads it from files; on other systems, only the size of the machine is known.
"""

import os
from pathlib import Path

_UNKNOWN_BYTES = 1 << 30
"""Assumed memory of a machine that does not report it."""


def memory_bytes(root: Path = Path("/")) -> int:
    """The memory of the machine, or less if a control group of this process has a limit.

    `root` is where the kernel's file systems are mounted.
    """
    sizes = [_machine_bytes(root), *_group_bytes(root)]
    return min((size for size in sizes if size is not None), default=_UNKNOWN_BYTES)


def _machine_bytes(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return _number(rest.removesuffix("kB").strip(), unit=1024)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _group_bytes(root: Path) -> list[int | None]:
    """The limits of the control groups of this process and of their parents."""
    sizes: list[int | None] = []
    for line in _lines(root / "proc/self/cgroup"):
        # cgroups(7): hierarchy, controllers and path; the second is empty for version 2.
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            base, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, and what is mounted the group itself.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            for text in _lines(base.joinpath(*parts[:depth], file)):
                sizes.append(_number(text))
    return sizes


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return []


def _number(text: str, unit: int = 1) -> int | None:
    """The number of bytes in `text`; None for "max"."""
    return int(text) * unit if text.isdecimal() else None
