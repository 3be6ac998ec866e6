"""Prepares the process of a server: enough file descriptors, and open standard streams.

A failure to print does not stop a server: one whose output cannot be written continues without it.
"""

import os
import sys
from contextlib import suppress

from tercel.shared.errors import ConfigurationError
from tercel.shared.logs import logger

if sys.platform != "win32":
    import resource

log = logger("tercel.server")

# A server that has accepted nobody yet has some twenty open, and its application its own.
LEAST_DESCRIPTORS = 64

_STANDARD_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare_process() -> None:
    """Open the standard streams that are closed. To be called before anything else is opened.

    Raises ConfigurationError when the process may have too few descriptors to serve.
    """
    _open_standard_streams()
    if sys.platform == "win32":
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < LEAST_DESCRIPTORS:  # RLIM_INFINITY may be -1
        raise ConfigurationError(
            f"this process may have {allowed} files open, and each connection is one: "
            "allow more, 'ulimit -n 4096' in a shell or LimitNOFILE= in a systemd unit"
        )


def write_out(text: str) -> None:
    """Print `text` and a line feed to standard output. Raises OSError when it cannot be written.

    Later output is dropped then.
    """
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError:
        # What is left in the buffer would be tried again, by each print and when the process ends.
        _replace_by_null(sys.stdout.fileno())
        raise


def announce(text: str) -> None:
    """Print `text` if it can be written."""
    try:
        write_out(text)
    except OSError as error:
        log.warning(
            "standard output cannot be written (%s): what is printed is dropped from now on",
            error.strerror,
        )


def tell_terminal(text: str) -> None:
    """Print `text` to standard error if that is a terminal."""
    with suppress(OSError, ValueError):  # the application may have closed it
        if sys.stderr.isatty():
            print(text, file=sys.stderr)


def _open_standard_streams() -> None:
    # A socket that gets a number from 0 to 2 is written to by whoever prints, and libuv aborts
    # the process when it is to close one of them.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, (name, mode) in enumerate(_STANDARD_STREAMS):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  stays open


def _replace_by_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
