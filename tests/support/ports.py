"""Ports for servers in processes of their own, which have to be told one."""

import random
import socket
from pathlib import Path

_LOWEST = 10_000


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has at `host`, on TCP and on UDP.

    None that the kernel gives to sockets that name none: a client's, made before the server has
    bound it, is never the same.
    """
    while True:
        port = random.randrange(_LOWEST, _first_given_out())
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((host, port))
                udp.bind((host, port))
            except OSError:
                continue
            return port


def _first_given_out() -> int:
    told = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(told.read_text().split()[0]) if told.exists() else 32_768
    return max(first, 2 * _LOWEST)
