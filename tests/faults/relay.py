"""A UDP relay that loses, delays, reorders, doubles and corrupts datagrams, by a seed.

async with Relay(server.port, loss=0.05, seed=7) as relay:
    async with H3Client(relay.port) as client: ...
"""

import asyncio
import contextlib
import random
import socket
from collections import Counter
from typing import Any

_BATCH = 64


class Relay:
    """Between clients on loopback and one server; each client gets a socket of its own to it.

    Probabilities are per datagram and direction; `delay` and `jitter` are seconds, each datagram
    waiting `delay` and up to `jitter` more, which reorders them.
    """

    def __init__(
        self,
        server_port: int,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        self._server = ("127.0.0.1", server_port)
        self._chance = random.Random(seed)
        self._loss, self._duplicate, self._corrupt = loss, duplicate, corrupt
        self._delay, self._jitter = delay, jitter
        self._loop = asyncio.get_running_loop()
        self._front = self._bound()
        self._backs: dict[Any, socket.socket] = {}
        self._open = True
        self.counted: Counter[str] = Counter()
        """What was done to datagrams, by name."""

    @property
    def port(self) -> int:
        """Where clients send to."""
        port: int = self._front.getsockname()[1]
        return port

    async def __aenter__(self) -> "Relay":
        self._loop.add_reader(self._front.fileno(), self._from_clients)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        for sock in (self._front, *self._backs.values()):
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _from_clients(self) -> None:
        for _ in range(_BATCH):
            try:
                data, client = self._front.recvfrom(65_535)
            except BlockingIOError:
                return
            if client not in self._backs:
                back = self._backs[client] = self._bound()
                self._loop.add_reader(back.fileno(), self._from_server, back, client)
            self._pass(data, self._backs[client], self._server)

    def _from_server(self, back: socket.socket, client: Any) -> None:
        for _ in range(_BATCH):
            try:
                data, _ = back.recvfrom(65_535)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self._pass(data, self._front, client)

    def _pass(self, data: bytes, sock: socket.socket, to: Any) -> None:
        chance = self._chance.random
        self.counted["seen"] += 1
        if chance() < self._loss:
            self.counted["lost"] += 1
            return
        copies = 1
        if chance() < self._duplicate:
            self.counted["doubled"] += 1
            copies = 2
        for _ in range(copies):
            changed = data
            if chance() < self._corrupt:
                self.counted["corrupted"] += 1
                at = self._chance.randrange(len(data))
                changed = data[:at] + bytes([data[at] ^ 1 << self._chance.randrange(8)])
                changed += data[at + 1 :]
            wait = self._delay + self._jitter * chance()
            if wait:
                self._loop.call_later(wait, self._send, changed, sock, to)
            else:
                self._send(changed, sock, to)

    def _send(self, data: bytes, sock: socket.socket, to: Any) -> None:
        if self._open:
            # A full buffer is one more way to lose a datagram.
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                sock.sendto(data, to)

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        return sock
