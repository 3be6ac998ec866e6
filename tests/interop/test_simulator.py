"""The simulated network, in virtual time: no clock, no device, no root."""

import random
import struct
from io import BytesIO

import pytest

from interop.simulator.faults import Blackhole, Drops, RandomCorruption, RandomLoss
from interop.simulator.link import Link
from interop.simulator.nat import Nat
from interop.simulator.packets import Endpoint, is_unicast, parse, rewritten
from interop.simulator.pcap import PcapWriter
from interop.simulator.scenario import Scenario
from interop.simulator.simulation import Side, Simulation
from tests.interop.packets import CLIENT6, SERVER6, is_valid, udp_packet

MEGABIT = 1e6
both_families = pytest.mark.parametrize(
    "ends", [{}, {"source": CLIENT6, "destination": SERVER6}], ids=["v4", "v6"]
)


# -- packets ------------------------------------------------------------------------------------


@both_families
def test_a_datagram_is_found_in_its_packet(ends):
    packet = udp_packet(b"payload", **ends)
    datagram = parse(packet)
    assert datagram.payload == b"payload"
    assert (datagram.source.port, datagram.destination.port) == (50_000, 443)
    assert str(datagram.source).startswith(ends.get("source", "193.167.0.100"))


def test_what_is_no_datagram_is_none():
    packet = bytearray(udp_packet(b"payload"))
    packet[9] = 6  # TCP
    assert parse(bytes(packet)) is None
    packet[9] = 17
    packet[6] = 0x20  # more fragments
    assert parse(bytes(packet)) is None
    assert parse(udp_packet(b"")[:24]) is None


@both_families
@pytest.mark.parametrize("payload", [b"", b"x", b"even", b"\xff" * 1200, b"\0" * 33])
def test_rewritten_packets_have_right_checksums(ends, payload):
    packet = udp_packet(payload, tos=2, **ends)
    assert is_valid(packet)
    datagram = parse(packet)
    moved = Endpoint(datagram.source.address[:-1] + b"\x77", 1234)
    for options in (
        {"source": moved},
        {"destination": moved},
        {"payload": payload[::-1]},
        {"source": moved, "payload": bytes(len(payload))},
    ):
        result = rewritten(packet, datagram, **options)
        assert is_valid(result)
        assert len(result) == len(packet)
        changed = parse(result)
        assert changed.source == options.get("source", datagram.source)
        assert changed.destination == options.get("destination", datagram.destination)
        assert changed.payload == options.get("payload", payload)
        assert result[1] == packet[1], "the mark stays"


def test_only_unicast_packets_travel():
    assert is_unicast(udp_packet(b""))
    assert not is_unicast(udp_packet(b"", destination="224.0.0.22"))
    assert is_unicast(udp_packet(b"", source=CLIENT6, destination=SERVER6))
    assert not is_unicast(udp_packet(b"", source=CLIENT6, destination="ff02::2"))


# -- the link -----------------------------------------------------------------------------------


def test_a_packet_takes_its_serialisation_and_the_delay():
    link = Link(bits_per_second=MEGABIT, delay=0.5, queue_packets=1)
    assert link.offer(b"x" * 1250, 10.0)  # 10 ms at 1 Mbit/s
    assert link.next_at() == pytest.approx(10.51)
    assert link.arrived(10.5) == []
    assert link.arrived(10.511) == [b"x" * 1250]
    assert link.next_at() is None


def test_packets_follow_each_other_at_the_rate():
    link = Link(bits_per_second=MEGABIT, delay=0.0, queue_packets=10)
    for number in range(5):
        assert link.offer(bytes([number]) * 1250, 0.0)
    assert link.arrived(0.0301) == [bytes([number]) * 1250 for number in range(3)]


def test_what_does_not_fit_the_queue_is_lost():
    link = Link(bits_per_second=MEGABIT, delay=0.0, queue_packets=2)
    offered = [link.offer(b"x" * 1250, 0.0) for _ in range(5)]
    assert offered == [True, True, True, False, False]  # one is being sent, two wait
    assert link.offer(b"x" * 1250, 0.0101), "the queue has moved up by one"
    assert len(link.arrived(1.0)) == 4


def test_an_idle_link_sends_at_once():
    link = Link(bits_per_second=MEGABIT, delay=0.0, queue_packets=1)
    link.offer(b"x" * 1250, 0.0)
    link.offer(b"x" * 1250, 5.0)
    assert len(link.arrived(5.0)) == 1
    assert link.next_at() == pytest.approx(5.01)


# -- faults -------------------------------------------------------------------------------------


def outcomes(fault, count, payload=b"p" * 100, *, step=0.0):
    packet = udp_packet(payload)
    datagram = parse(packet)
    return [fault.apply(packet, datagram, number * step) for number in range(count)]


def longest_run(flags):
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def test_loss_has_its_rate_and_its_longest_burst():
    lost = [r is None for r in outcomes(RandomLoss(0.3, 3, random.Random(1)), 10_000)]
    assert 0.26 < sum(lost) / len(lost) < 0.32
    assert longest_run(lost) == 3


def test_corruption_changes_one_byte_near_the_front():
    payload = bytes(range(200))
    fault = RandomCorruption(0.3, 3, random.Random(1))
    packet = udp_packet(payload)
    changed = [r != packet for r in outcomes(fault, 5000, payload)]
    assert 0.26 < sum(changed) / len(changed) < 0.32
    assert longest_run(changed) == 3
    result = next(r for r in outcomes(fault, 100, payload) if r != packet)
    assert is_valid(result), "it is for QUIC to notice"
    found = parse(result).payload
    differing = [i for i, byte in enumerate(payload) if found[i] != byte]
    assert len(differing) == 1
    assert differing[0] < 50


def test_version_negotiation_is_not_corrupted():
    negotiation = b"\x80" + bytes(4) + b"rest of it"
    results = outcomes(RandomCorruption(1.0, 10**6, random.Random(1)), 50, negotiation)
    assert set(results) == {udp_packet(negotiation)}


def test_packets_are_dropped_by_number():
    results = outcomes(Drops({2, 3, 7}), 8)
    assert [number for number, r in enumerate(results, 1) if r is None] == [2, 3, 7]


def test_a_blackhole_is_there_once():
    results = outcomes(Blackhole(after=5.0, duration=2.0), 10, step=1.0)
    assert [number for number, r in enumerate(results) if r is None] == [5, 6]


# -- the NAT ------------------------------------------------------------------------------------


class Client:
    """Sends and receives through a NAT."""

    def __init__(self, **options):
        self.nat = Nat(after=1.0, every=5.0, address=False, **options)

    def send(self, now, port=50_000):
        packet = udp_packet(b"out", ports=(port, 443))
        return parse(self.nat.outwards(packet, parse(packet), now)).source

    def receive(self, outside, now):
        packet = udp_packet(
            b"in",
            source="193.167.100.100",
            destination=str(outside).rpartition(":")[0],
            ports=(443, outside.port),
        )
        result = self.nat.inwards(packet, parse(packet), now)
        return None if result is None else parse(result).destination.port


def test_the_mapping_is_the_clients_own_at_first():
    client = Client()
    outside = client.send(0.0)
    assert outside.port == 50_000
    assert client.receive(outside, 0.5) == 50_000


def test_a_rebinding_gives_another_port_and_forgets_the_old_one():
    client = Client()
    old = client.send(0.0)
    assert client.receive(old, 1.1) is None, "nothing leads in until something has gone out"
    new = client.send(1.2)
    assert new.port != old.port
    assert new.address == old.address
    assert client.receive(new, 1.3) == 50_000
    assert client.receive(old, 1.3) is None
    assert client.send(5.9) == new
    assert client.send(6.1) not in (old, new)


def test_flows_stay_apart():
    client = Client()
    client.send(0.0)
    first, second = client.send(2.0, 50_000), client.send(2.0, 50_001)
    assert first != second
    assert client.receive(first, 2.1) == 50_000
    assert client.receive(second, 2.1) == 50_001


@both_families
def test_a_rebinding_may_change_the_address_too(ends):
    nat = Nat(after=1.0, every=5.0, address=True)
    packet = udp_packet(b"out", **ends)
    seen = set()
    for now in (0.0, 2.0, 7.0):
        result = nat.outwards(packet, parse(packet), now)
        assert is_valid(result)
        seen.add(parse(result).source.address)
    assert len(seen) == 3


# -- all of it ----------------------------------------------------------------------------------


class Net:
    """A simulation and what was captured at its ends."""

    def __init__(self, **scenario):
        self.captured = {side: [] for side in Side}
        self.simulation = Simulation(
            Scenario(**scenario),
            capture=lambda side, packet, now: self.captured[side].append((now, packet)),
        )
        self.now = 100.0

    def send(self, side=Side.CLIENT, payload=b"x" * 1172):
        ends = (
            {}
            if side is Side.CLIENT
            else {
                "source": "193.167.100.100",
                "destination": "193.167.0.100",
                "ports": (443, 50_000),
            }
        )
        self.simulation.send(side, udp_packet(payload, **ends), self.now)

    def run(self, seconds=10.0):
        end, arrived = self.now + seconds, []
        while (at := self.simulation.next_at()) is not None and at <= end:
            arrived += [(at, side) for side, _ in self.simulation.arrived(at)]
        self.now = end
        return arrived


def test_a_packet_reaches_the_other_side_and_both_captures():
    net = Net()
    net.send()
    ((at, side),) = net.run()
    assert side is Side.SERVER
    assert at - 100 == pytest.approx(0.015 + 1200 * 8 / 10e6)
    assert [now for now, _ in net.captured[Side.CLIENT]] == [100.0]
    assert [now for now, _ in net.captured[Side.SERVER]] == [at]


def test_a_round_trip_takes_30_ms_and_directions_do_not_share():
    net = Net(queue_packets=0)
    net.send(Side.CLIENT)
    net.send(Side.SERVER)
    assert {side for _, side in net.run()} == set(Side)


def test_what_is_lost_is_captured_where_it_was_sent():
    net = Net(drops_to_server=(1,))
    net.send()
    net.send()
    assert len(net.run()) == 1
    assert len(net.captured[Side.CLIENT]) == 2
    assert len(net.captured[Side.SERVER]) == 1


def test_chance_is_the_same_for_the_same_seed():
    def arrivals():
        net = Net(loss=0.3)
        for _ in range(20):
            net.send(payload=b"x")
        return net.run()

    assert arrivals() == arrivals()
    assert 8 < len(arrivals()) < 20


def test_the_blackhole_counts_from_the_first_datagram():
    net = Net(blackhole=(5.0, 2.0))
    net.run(1000)
    net.send()
    assert len(net.run(6)) == 1
    net.send()
    assert net.run(2) == []
    net.send()
    assert len(net.run()) == 1


def test_the_server_sees_the_rebound_port_and_the_client_its_own():
    net = Net(rebind=(1.0, 5.0))
    net.send()
    net.run(2)
    net.send()
    net.run()
    seen = [parse(packet).source.port for _, packet in net.captured[Side.SERVER]]
    assert seen[0] == 50_000 != seen[1]
    assert {parse(packet).source.port for _, packet in net.captured[Side.CLIENT]} == {50_000}


def test_tcp_passes_untouched_by_faults():
    net = Net(loss=1.0, burst=10**6)
    packet = bytearray(udp_packet(b"x"))
    packet[9] = 6
    net.simulation.send(Side.CLIENT, bytes(packet), net.now)
    assert len(net.run()) == 1


def test_a_scenario_survives_its_text():
    scenario = Scenario(delay=0.75, drops_to_server=(2, 3), blackhole=(5.0, 2.0), rebind=(1.0, 5.0))
    assert Scenario.from_json(scenario.to_json()) == scenario
    assert Scenario.from_json("{}") == Scenario()
    with pytest.raises(TypeError):
        Scenario.from_json('{"unheard_of": 1}')


def test_a_capture_is_a_pcap_of_ip_packets():
    file = BytesIO()
    PcapWriter(file).write(b"packet", 1_700_000_000.25)
    data = file.getvalue()
    assert struct.unpack_from("<IHHiIII", data) == (0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)
    assert struct.unpack_from("<IIII", data, 24) == (1_700_000_000, 250_000, 6, 6)
    assert data[40:] == b"packet"
