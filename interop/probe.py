"""Whether a QUIC server listens: asks with a version that nobody has, as the runner does.

    python -m interop.probe ADDRESS PORT SECONDS

Ends with status 0 as soon as a Version Negotiation packet comes back, else with status 1.
"""

import socket
import sys
import time

# "WAIT". A version that is not served has to be answered (RFC 9000 6).
_DATAGRAM = bytes.fromhex("c0 57414954 00 00".replace(" ", "")).ljust(1207, b"\0")
_INTERVAL_SECONDS = 0.05


def is_version_negotiation(data: bytes) -> bool:
    """RFC 8999 6."""
    return len(data) > 6 and bool(data[0] & 0x80) and data[1:5] == b"\0\0\0\0"


def probe(address: str, port: int, seconds: float) -> bool:
    """Ask until there is an answer, `seconds` at most."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    deadline = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_INTERVAL_SECONDS)
        sock.connect((address, port))
        while time.monotonic() < deadline:
            try:
                sock.send(_DATAGRAM)
                if is_version_negotiation(sock.recv(2048)):
                    return True
            except TimeoutError:
                pass
            except OSError:  # the port is not open yet
                time.sleep(_INTERVAL_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(0 if probe(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])) else 1)
