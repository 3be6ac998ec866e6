"""Runs one QUIC connection of a client on a UDP socket of its own. Knows no application protocol.

On tercel's own socket and connection, so that marks (ECN) are seen and sent as the server does.
"""

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

from aioquic.quic import events

from tercel.quic.transport.ecn import EcnConnection
from tercel.quic.udp import Path, UdpSocket

_BUFFER_BYTES = 1 << 20
_BATCH = 64


class ClientConnection(EcnConnection):
    """A connection that probes twice when a time-out of its handshake has passed.

    RFC 9002 6.2.4 leaves one or two to the sender, and aioquic sends one: with a few losses in a
    row, servers have given up before the next.
    """

    _is_probing = False

    def handle_timer(self, now: float) -> None:
        """Act on a timer that has fired."""
        count = self._loss._pto_count
        super().handle_timer(now)
        self._is_probing = self._loss._pto_count > count and not self._handshake_confirmed

    def probe_again(self, now: float) -> bool:
        """Let there be a second probe to send, if there is to be one; whether there is."""
        is_probing, self._is_probing = self._is_probing, False
        if is_probing:
            self._loss.reschedule_data(now=now)
        return is_probing


class Driver:
    """A connection that is made on entering and closed on leaving.

    With `wait` entering waits until the handshake is over, and raises ConnectionError when it
    fails.
    """

    def __init__(self, quic: ClientConnection, host: str, port: int, *, wait: bool) -> None:
        self.quic = quic
        self._host = host
        self._port = port
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self._socket: UdpSocket
        self._timer: asyncio.TimerHandle | None = None
        self._connected = self._loop.create_future()
        self._terminated = asyncio.Event()
        self._pings: dict[int, asyncio.Future[None]] = {}

    async def __aenter__(self) -> Self:
        infos = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, _, _, _, address = infos[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("", 0))
        self._socket = UdpSocket(sock, self._loop, buffer_bytes=_BUFFER_BYTES)
        self._socket.start(self._readable)
        self.quic.connect(address, self._loop.time())
        if self._wait:
            self.transmit()
            try:
                await self._connected
            except BaseException:
                await self._end()
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Close the connection, if it is not; its qlog is written when it has ended."""
        self.quic.close()
        self.transmit()
        await self._terminated.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()

    def event_received(self, event: events.QuicEvent) -> None:
        """Handle one QUIC event."""

    async def ping(self) -> None:
        """Send a PING and wait until it is acknowledged. Raises ConnectionError."""
        number = len(self._pings)
        self._pings[number] = self._loop.create_future()
        self.quic.send_ping(number)
        self.transmit()
        await self._pings[number]

    def transmit(self) -> None:
        """Send what waits to be sent, and set the timer."""
        for data, address in self.quic.datagrams_to_send(self._loop.time()):
            path = Path(address, None, self._socket)
            self._socket.send([data], path, self.quic.departing_mark)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timer_at = self.quic.get_timer()
        if timer_at is not None:
            self._timer = self._loop.call_at(timer_at, self._timer_fired)

    def _readable(self, sock: UdpSocket) -> None:
        now = self._loop.time()
        for data, path, mark in sock.receive(_BATCH):
            self.quic.arriving_mark = mark
            self.quic.receive_datagram(data, path.peer, now)
        self._handle_events()
        self.transmit()

    def _timer_fired(self) -> None:
        self._timer = None
        self.quic.handle_timer(self._loop.time())
        self._handle_events()
        self.transmit()
        if self.quic.probe_again(self._loop.time()):
            self.transmit()

    def _handle_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self._handle(event)
            self.event_received(event)

    def _handle(self, event: Any) -> None:
        match event:
            case events.HandshakeCompleted():
                if not self._connected.done():
                    self._connected.set_result(None)
            case events.PingAcknowledged():
                waiting = self._pings.get(event.uid)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
            case events.ConnectionTerminated():
                self._terminated.set()
                for waiting in (self._connected, *self._pings.values()):
                    if not waiting.done():
                        text = event.reason_phrase or f"0x{event.error_code:x}"
                        waiting.set_exception(ConnectionError(text))
                        waiting.exception()  # nobody may be waiting
