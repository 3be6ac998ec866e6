"""What a network is like: plain values, to be written and read as JSON."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One link between a client and a server; what is not given does not happen."""

    delay: float = 0.015
    """Seconds, one way."""
    bits_per_second: float = 10e6
    queue_packets: int = 25
    loss: float = 0.0
    """Probability that a datagram is dropped, each way."""
    corruption: float = 0.0
    """Probability that a byte of a datagram is changed, each way."""
    burst: int = 3
    """How many datagrams in a row may be lost, or corrupted."""
    drops_to_server: tuple[int, ...] = ()
    """Datagrams to drop by number, from 1."""
    blackhole: tuple[float, float] | None = None
    """Seconds until nothing passes, and for how long."""
    rebind: tuple[float, float] | None = None
    """Seconds until the client's NAT forgets its mappings, and how often it does then."""
    rebind_address: bool = False
    """Whether the client gets a new address, too, and not only a new port."""

    def to_json(self) -> str:
        """This scenario for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Scenario":
        """What `to_json` wrote. Raises ValueError, TypeError for what is no scenario."""
        values = json.loads(text)
        for name in ("drops_to_server", "blackhole", "rebind"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)
