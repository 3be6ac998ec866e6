"""The runner's contract: what the environment asks for, and what is not supported.

Imports nothing heavy: `python -m interop.endpoint.contract` ends at once, with status 127 if the
test case is not supported.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNSUPPORTED = 127

HQ_ALPN = "hq-interop"

_BOTH = frozenset(
    {
        "handshake",
        "transfer",
        "chacha20",
        "ecn",
        "retry",
        "resumption",
        "zerortt",
        "http3",
        "multiconnect",
        "v2",
        # Names that are test cases of the runner without being values of TESTCASE today.
        "versionnegotiation",
        "longrtt",
        "multiplexing",
        "blackhole",
        "amplificationlimit",
        "handshakeloss",
        "transferloss",
        "handshakecorruption",
        "transfercorruption",
        "ipv6",
        "rebind-port",
        "rebind-addr",
        "goodput",
        "crosstraffic",
    }
)
SUPPORTED = {
    "server": _BOTH | {"keyupdate", "connectionmigration"},
    "client": _BOTH | {"keyupdate"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the endpoint is to do, and where it finds and leaves things."""

    role: str
    testcase: str
    requests: tuple[str, ...]
    """URLs, for the client."""
    arguments: tuple[str, ...]
    """Further options of the role, from SERVER_PARAMS or CLIENT_PARAMS."""
    port: int
    """UDP port of the server."""
    www: Path
    downloads: Path
    certificates: Path
    keylog_file: str | None
    qlog_dir: str | None


class Unsupported(SystemExit):
    """The role or the test case is not one of ours; ends the program with status 127."""

    def __init__(self, what: str) -> None:
        print(f"not supported: {what}", file=sys.stderr)
        super().__init__(UNSUPPORTED)


def read_contract(environ: Mapping[str, str]) -> Contract:
    """What `environ` asks for. Raises Unsupported.

    Beside the runner's variables, INTEROP_ROOT is where its mounts are found (default: /), and
    INTEROP_PORT the server's port, so that all of it can run without a container.
    """
    role = environ.get("ROLE", "")
    testcase = environ.get("TESTCASE", "")
    if role not in SUPPORTED:
        raise Unsupported(f"role {role!r}")
    if testcase not in SUPPORTED[role]:
        raise Unsupported(f"test case {testcase!r} as a {role}")
    root = Path(environ.get("INTEROP_ROOT", "/"))
    return Contract(
        role=role,
        testcase=testcase,
        requests=tuple(environ.get("REQUESTS", "").split()),
        arguments=tuple(shlex.split(environ.get(f"{role.upper()}_PARAMS", ""))),
        port=int(environ.get("INTEROP_PORT", "443")),
        www=root / "www",
        downloads=root / "downloads",
        certificates=root / "certs",
        keylog_file=environ.get("SSLKEYLOGFILE") or None,
        qlog_dir=environ.get("QLOGDIR") or None,
    )


if __name__ == "__main__":
    read_contract(os.environ)
