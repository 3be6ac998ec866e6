"""TCP traffic to share a link with: python -m interop.crosstraffic send|receive ADDRESS.

The sender listens at ADDRESS; both go on until they are killed.
"""

import socket
import sys
import time

_PORT = 5001
_CHUNK_BYTES = 65_536
_CUBIC = b"cubic"


def send(address: str) -> None:
    """Send zeros to whoever connects first."""
    with socket.create_server((address, _PORT)) as listener:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CUBIC)
        while True:
            connection.sendall(bytes(_CHUNK_BYTES))


def receive(address: str) -> None:
    """Connect, and read what comes."""
    while True:
        try:
            with socket.create_connection((address, _PORT)) as connection:
                while connection.recv(_CHUNK_BYTES):
                    pass
                return
        except ConnectionRefusedError:
            time.sleep(0.05)


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](sys.argv[2])
