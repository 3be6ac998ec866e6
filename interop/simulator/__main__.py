"""Run one simulated link until SIGTERM: python -m interop.simulator --help.

Says `ready` on standard output when both devices are up.
"""

import argparse
import select
import signal
import time
from pathlib import Path

from interop.simulator.pcap import PcapWriter
from interop.simulator.scenario import Scenario
from interop.simulator.simulation import Side, Simulation
from interop.simulator.tun import TunDevice

# Those of the runner's own network, so that captures look alike.
ADDRESSES = {
    Side.CLIENT: ("193.167.0.100/24", "fd00:cafe:cafe:0::100/64"),
    Side.SERVER: (
        "193.167.100.100/24",
        "193.167.100.110/24",
        "fd00:cafe:cafe:100::100/64",
        "fd00:cafe:cafe:100::110/64",
    ),
}
_IDLE_SECONDS = 1.0


class _Stop(Exception):
    """SIGTERM came."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m interop.simulator", description=__doc__)
    parser.add_argument("--client", required=True, help="network namespace of the client")
    parser.add_argument("--server", required=True, help="network namespace of the server")
    parser.add_argument("--scenario", type=Scenario.from_json, default=Scenario(), help="JSON")
    parser.add_argument("--seed", type=int, default=0, help="what chance begins with")
    parser.add_argument("--captures", type=Path, required=True, help="directory for the pcaps")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    namespaces = {Side.CLIENT: arguments.client, Side.SERVER: arguments.server}
    # Told apart by number: before they are moved, both are in this namespace.
    number = time.monotonic_ns() % 10**9
    devices = {
        side: TunDevice(f"{side.value[0]}{number}", namespaces[side], ADDRESSES[side])
        for side in Side
    }
    files = {side: (arguments.captures / f"{side.value}.pcap").open("wb") for side in Side}
    captures = {side: PcapWriter(file) for side, file in files.items()}
    epoch = time.time() - time.monotonic()

    def capture(side: Side, packet: bytes, now: float) -> None:
        captures[side].write(packet, epoch + now)

    simulation = Simulation(arguments.scenario, capture=capture, seed=arguments.seed)
    try:
        print("ready", flush=True)
        _run(simulation, devices)
    except _Stop:
        pass
    for file in files.values():
        file.close()
    for device in devices.values():
        device.close()


def _run(simulation: Simulation, devices: dict[Side, TunDevice]) -> None:
    # select and not epoll: epoll's timeout is whole milliseconds, which a packet takes at
    # 10 Mbit/s.
    sides = {device: side for side, device in devices.items()}
    while True:
        next_at = simulation.next_at()
        timeout = _IDLE_SECONDS if next_at is None else max(0.0, next_at - time.monotonic())
        readable, _, _ = select.select(list(sides), (), (), timeout)
        now = time.monotonic()
        for device in readable:
            while (packet := device.read()) is not None:
                simulation.send(sides[device], packet, now)
        for side, packet in simulation.arrived(time.monotonic()):
            devices[side].write(packet)


def _stop(number: int, frame: object) -> None:
    raise _Stop


if __name__ == "__main__":
    main()
