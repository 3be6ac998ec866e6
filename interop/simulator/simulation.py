"""The whole way of a packet: NAT, link, faults, both ways. Sans-I/O, time is a parameter."""

import random
from enum import Enum
from typing import Protocol

from interop.simulator.faults import Blackhole, Drops, Fault, RandomCorruption, RandomLoss
from interop.simulator.link import Link
from interop.simulator.nat import Nat
from interop.simulator.packets import is_unicast, parse
from interop.simulator.scenario import Scenario


class Side(Enum):
    """The two ends of the link."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> "Side":
        """The opposite end."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class Capture(Protocol):
    """Is told of every packet that one side sends or receives."""

    def __call__(self, side: Side, packet: bytes, now: float) -> None: ...


class Simulation:
    """A link with a client on one side and a server on the other.

    `capture` gets each packet twice at most: where it was sent and where it arrived, so what was
    lost on the way is seen on the first side only.
    """

    def __init__(self, scenario: Scenario, *, capture: Capture, seed: int = 0) -> None:
        self._capture = capture
        self._links = {
            side: Link(
                bits_per_second=scenario.bits_per_second,
                delay=scenario.delay,
                queue_packets=scenario.queue_packets,
            )
            for side in Side
        }
        self._faults = {side: _faults(scenario, side, seed) for side in Side}
        self._nat: Nat | None = None
        if scenario.rebind is not None:
            after, every = scenario.rebind
            self._nat = Nat(after=after, every=every, address=scenario.rebind_address)
        self._began_at: float | None = None

    def send(self, side: Side, packet: bytes, now: float) -> None:
        """`side` sends `packet`."""
        if not is_unicast(packet):
            return
        self._capture(side, packet, now)
        datagram = parse(packet)
        if datagram is not None:
            if self._began_at is None:
                self._began_at = now
            if self._nat is not None and side is Side.CLIENT:
                packet = self._nat.outwards(packet, datagram, now - self._began_at)
        self._links[side].offer(packet, now)

    def arrived(self, now: float) -> list[tuple[Side, bytes]]:
        """What has arrived by now, and where."""
        return [
            (side.other, survivor)
            for side, link in self._links.items()
            for packet in link.arrived(now)
            if (survivor := self._receive(side.other, packet, now)) is not None
        ]

    def next_at(self) -> float | None:
        """When the next packet arrives; None if none is on the way."""
        return min(
            (at for link in self._links.values() if (at := link.next_at()) is not None),
            default=None,
        )

    def _receive(self, side: Side, packet: bytes, now: float) -> bytes | None:
        datagram = parse(packet)
        if datagram is not None:
            elapsed = now - (self._began_at or now)
            for fault in self._faults[side]:
                result = fault.apply(packet, datagram, elapsed)
                if result is None:
                    return None
                packet = result
            if self._nat is not None and side is Side.CLIENT:
                result = self._nat.inwards(packet, datagram, elapsed)
                if result is None:
                    return None
                packet = result
        self._capture(side, packet, now)
        return packet


def _faults(scenario: Scenario, receiver: Side, seed: int) -> list[Fault]:
    # A generator for each fault: what one direction carries does not change what the other loses.
    chance = random.Random(f"{seed} {receiver.value}")
    faults: list[Fault] = []
    if scenario.drops_to_server and receiver is Side.SERVER:
        faults.append(Drops(scenario.drops_to_server))
    if scenario.blackhole is not None:
        after, duration = scenario.blackhole
        faults.append(Blackhole(after=after, duration=duration))
    if scenario.loss:
        faults.append(RandomLoss(scenario.loss, scenario.burst, chance))
    if scenario.corruption:
        faults.append(RandomCorruption(scenario.corruption, scenario.burst, chance))
    return faults
