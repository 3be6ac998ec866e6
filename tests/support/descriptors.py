"""What this process has open."""

import contextlib
import gc
import os
from collections.abc import Iterator


def open_descriptors(kind: str = "") -> int:
    """How many descriptors are open whose names begin with `kind`: "socket:", or all.

    What an earlier test left to the garbage collector is closed first, so that it does not go
    between two counts.
    """
    gc.collect()
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that has listed them
            count += os.readlink(f"/proc/self/fd/{name}").startswith(kind)
    return count


@contextlib.contextmanager
def no_socket_left_open() -> Iterator[None]:
    """Fail when the block leaves more sockets open than there were, or fewer."""
    before = open_descriptors("socket:")
    yield
    assert open_descriptors("socket:") == before
