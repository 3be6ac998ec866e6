"""A NAT in front of the client that forgets its mappings now and then."""

import ipaddress

from interop.simulator.packets import Datagram, Endpoint, rewritten

# Far enough from the port before that both are told apart at a glance in a capture.
_PORT_STEP = 1111
_LEAST_PORT = 1024


class Nat:
    """Maps the client's end to another one; at first to itself.

    A rebinding gives every flow a new port, or a new address and a new port. What comes for the
    mapping before is dropped.
    """

    def __init__(self, *, after: float, every: float, address: bool) -> None:
        """The first rebinding is `after` seconds, and then `every` so many; `address` too."""
        self._next_at = after
        self._every = every
        self._address = address
        self._generation = 0
        self._inside: dict[Endpoint, Endpoint] = {}

    def outwards(self, packet: bytes, datagram: Datagram, now: float) -> bytes:
        """A packet of the client as the server sees it."""
        self._rebind(now)
        outside = self._mapping(datagram.source)
        self._inside[outside] = datagram.source
        if outside == datagram.source:
            return packet
        return rewritten(packet, datagram, source=outside)

    def inwards(self, packet: bytes, datagram: Datagram, now: float) -> bytes | None:
        """A packet of the server as the client sees it; None if there is no mapping."""
        self._rebind(now)
        inside = self._inside.get(datagram.destination)
        if inside is None:
            return None
        if inside == datagram.destination:
            return packet
        return rewritten(packet, datagram, destination=inside)

    def _rebind(self, now: float) -> None:
        while now >= self._next_at:
            self._next_at += self._every
            self._generation += 1
            self._inside.clear()

    def _mapping(self, inside: Endpoint) -> Endpoint:
        if not self._generation:
            return inside
        room = 65_536 - _LEAST_PORT
        port = _LEAST_PORT + (inside.port - _LEAST_PORT + self._generation * _PORT_STEP) % room
        address = inside.address
        if self._address:
            address = (ipaddress.ip_address(address) + self._generation).packed
        return Endpoint(address, port)
