"""The fast path does what aioquic does: a twin without it makes every step, too."""

import random
from collections import Counter

import pytest
from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, pull_ack_frame
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.tls import Epoch

from tercel.quic.transport.fast_send import encode_ack
from tercel.quic.transport.handshake_receive import add_number
from tercel.quic.transport.sent_packets import SentPacket, SentPiece
from tercel.quic.transport.varint import encode_varint as varint
from tests.quic import twin as twins
from tests.quic.pair import CLIENT, SERVER, Pair

SIZES = (0, 1, 5, 40, 300, 1150, 1200, 5000, 50_000)
ADDRESSES = (CLIENT, ("192.0.2.1", 50_001), ("2001:db8::1", 50_000))


class Compared:
    """A server, each of whose steps is compared with that of a twin that was in the same state."""

    def __init__(self, pair):
        self.pair = pair
        self.server = pair.server
        self.taken = Counter()

    def both(self, step):
        """What `step` returns for the twin and for the server, and the twin."""
        other = twins.twin(self.server)
        results = []
        for side in (other, self.server):
            with twins.chance(self.taken):
                results.append(step(side))
        return *results, other

    def receive(self, *datagrams):
        def step(side):
            taken = Counter()
            for data, addr in datagrams:
                if side._armed and side._receive(data, addr, self.pair.now):
                    taken["received warm"] += 1
                else:
                    taken["received cold"] += 1
                    side.receive_datagram(data, addr, self.pair.now)
            return taken

        _, taken, other = self.both(step)
        self.taken += taken
        self.check_state(other)

    def send(self):
        expected, datagrams, other = self.both(lambda side: side.datagrams_to_send(self.pair.now))
        self.taken["sent warm" if self.server._surveyed else "sent cold"] += len(datagrams)
        ours = twins.sent_frames(self.server, datagrams)
        theirs = twins.sent_frames(other, expected)
        assert ours.acknowledged == theirs.acknowledged
        assert sorted(ours.other) == sorted(theirs.other)
        assert all(size <= self.server._max_datagram_size for size in ours.sizes)
        if all_is_sent(self.server) and all_is_sent(other):
            assert without_streams(ours.limits) == without_streams(theirs.limits)
            assert ours.data == theirs.data
            assert ours.ends == theirs.ends
        else:
            # Who is served first may differ; how much is sent must not.
            assert abs(ours.size - theirs.size) <= 1200 + 30 * len({*ours.data, *theirs.data})
        self.check_complete()
        return datagrams

    def timer(self):
        expected, at, other = self.both(lambda side: side.get_timer())
        assert at == expected
        assert self.server._loss_at == other._loss_at
        return at

    def handle_timer(self):
        self.check_state(self.both(lambda side: side.handle_timer(self.pair.now))[2])

    def check_state(self, other):
        found = twins.differences(twins.state(self.server), twins.state(other))
        assert not found, "\n".join(found)
        self.check_complete()

    def check_complete(self):
        """What the fast path knows to be there to send is all that there is."""
        server = self.server
        if not server._surveyed:
            return
        assert server._is_common()
        for stream_id, stream in server._streams.items():
            sender = stream.sender
            assert not stream.receiver.stop_pending
            assert not sender.reset_pending
            if stream.is_finished:
                assert stream in server._ended
            elif not sender.buffer_is_empty and has_pending(stream):
                assert stream_id in server._due or stream_id in server._parked
            if server._is_stream_limit_due(stream):
                assert stream_id in server._limits_due


def has_pending(stream):
    return len(stream.sender._pending) > 0 or stream.sender._pending_eof


def all_is_sent(server):
    return server._pacing_at is None and not any(map(has_pending, server._streams.values()))


def without_streams(limits):
    # The fast path forgets a stream that has ended before it counts how many may be opened.
    return sorted(limit if limit[0] not in (0x12, 0x13) else limit[:1] for limit in limits)


class Traffic:
    """A client and an application that do anything at all, over a network that does, too."""

    def __init__(self, seed, *, common=6, **settings):
        self.random = random.Random(seed)
        self.pair = Pair(**settings)
        self.client, self.server = self.pair.client, self.pair.server
        self.compared = Compared(self.pair)
        self.common = common
        self.loss = self.random.choice((0, 0, 0.02, 0.2))
        self.disorder = self.random.choice((0, 0, 0.1))
        self.address = CLIENT
        self.to_server, self.to_client = [], []
        self.unconsumed = Counter()
        self.client_open, self.server_open = set(), set()
        # By stream: what each side wrote and what arrived. A reset takes a stream off.
        self.uploads, self.uploaded = {}, {}
        self.downloads, self.downloaded = {}, {}

    def run(self, steps):
        for _ in range(steps):
            self.random.choices(
                (self.client_writes, self.server_writes, self.consume, self.uncommon),
                (self.common, self.common, self.common, 1),
            )[0]()
            self.pass_datagrams()
            self.pair.now += self.random.choice((0, 0.0002, 0.001, 0.001, 0.005, 0.03, 0.3))
            self.fire_timers()
        return self

    def settle(self):
        """Let all that was written arrive, whatever happened to it so far."""
        self.loss = 0
        self.client.withhold_credit = False
        for stream_id in sorted(self.client_open):
            self.write(self.client, self.uploads, self.client_open, stream_id, b"", end=True)
        for _ in range(2000):
            self.consume()
            for stream_id in sorted(self.server_open):
                self.write(self.server, self.downloads, self.server_open, stream_id, b"", end=True)
            before = self.packet_numbers()
            is_quiet = not (self.to_client or self.to_server)
            self.pass_datagrams()
            if self.is_settled():
                break
            self.wait(until_timer=is_quiet and before == self.packet_numbers())
        return self

    def packet_numbers(self):
        return self.client._packet_number, self.server._packet_number

    def wait(self, *, until_timer):
        """Let time go by: to the next timer only if nothing was sent or arrived just now.

        Whoever got something has an answer to send, and the next timer may be the idle one.
        """
        self.pair.now += 0.001
        if until_timer:
            timers = (self.client.get_timer(), self.server.get_timer())
            due = min(timer for timer in timers if timer is not None)
            self.pair.now = max(self.pair.now, due)
        self.fire_timers()

    def is_settled(self):
        requests = [stream_id for stream_id in self.uploads if stream_id in self.server._streams]
        return not (self.to_client or self.to_server or requests)

    # -- what the two sides do ------------------------------------------------------------------

    def client_writes(self):
        for _ in range(self.random.choice((1, 1, 2, 10))):
            if not self.client_open or self.random.random() < 0.5:
                if self.client.get_next_available_stream_id() // 4 >= self.opened_limit():
                    continue
                stream_id = self.client.get_next_available_stream_id()
                self.client_open.add(stream_id)
            else:
                stream_id = self.random.choice(sorted(self.client_open))
            data = self.random.randbytes(self.random.choice(SIZES))
            end = self.random.random() < 0.6
            self.write(self.client, self.uploads, self.client_open, stream_id, data, end=end)

    def opened_limit(self):
        return self.client._remote_max_streams_bidi

    def server_writes(self):
        count = min(len(self.server_open), 4)
        for stream_id in self.random.sample(sorted(self.server_open), count):
            data = self.random.randbytes(self.random.choice(SIZES))
            end = self.random.random() < 0.6
            self.write(self.server, self.downloads, self.server_open, stream_id, data, end=end)
        self.server.hasten_acknowledgement(self.pair.now)

    def write(self, side, written, still_open, stream_id, data, *, end):
        if side is self.server and not side.can_send(stream_id):
            still_open.discard(stream_id)
            return
        side.send_stream_data(stream_id, data, end)
        if written.setdefault(stream_id, b"") is not None:
            written[stream_id] += data
        if end:
            still_open.discard(stream_id)

    def consume(self):
        for stream_id in sorted(self.unconsumed):
            self.server.grant(stream_id, self.unconsumed.pop(stream_id))

    def uncommon(self):
        self.random.choice(
            (
                self.reset_by_client,
                self.reset_by_server,
                self.stop_by_client,
                self.stop_by_server,
                self.client.request_key_update,
                self.server.request_key_update,
                lambda: self.client.send_ping(1),
                lambda: self.server.send_ping(2),
                self.client.change_connection_id,
                self.server.change_connection_id,
                self.move,
                self.withhold,
            )
        )()

    def reset_by_client(self):
        if self.client_open:
            stream_id = self.random.choice(sorted(self.client_open))
            self.client_open.discard(stream_id)
            self.client.reset_stream(stream_id, 7)
            self.uploads[stream_id] = None

    def reset_by_server(self):
        if self.server_open:
            stream_id = self.random.choice(sorted(self.server_open))
            self.server_open.discard(stream_id)
            self.server.reset_stream(stream_id, 8)
            self.downloads[stream_id] = None

    def stop_by_client(self):
        stream_ids = [number for number in self.client._streams if not number & 2]
        if stream_ids:
            stream_id = self.random.choice(stream_ids)
            self.client.stop_stream(stream_id, 9)
            self.downloads[stream_id] = None

    def stop_by_server(self):
        if self.server_open:
            stream_id = self.random.choice(sorted(self.server_open))
            self.server.stop(stream_id, 10)
            self.client_open.discard(stream_id)
            self.uploads[stream_id] = None

    def move(self):
        self.address = self.random.choice(ADDRESSES)

    def withhold(self):
        self.client.withhold_credit = not self.client.withhold_credit

    # -- the network ------------------------------------------------------------------------------

    def pass_datagrams(self):
        self.to_server += [
            (data, self.address) for data, _ in self.client.datagrams_to_send(self.pair.now)
        ]
        self.compared.receive(*self.mangled(self.to_server))
        self.read_server()
        self.to_client += self.compared.send()
        for data, _ in self.mangled(self.to_client):
            self.client.receive_datagram(data, SERVER, self.pair.now)
        self.read_client()

    def mangled(self, queue):
        """What of `queue` arrives now; what comes later stays in it."""
        arriving = [item for item in queue if self.random.random() >= self.loss]
        queue.clear()
        for item in list(arriving):
            if self.random.random() < self.disorder:
                arriving.remove(item)
                chance = self.random.random()
                if chance < 0.4:
                    queue.append(item)
                elif chance < 0.8:
                    arriving.append(item)
                else:
                    arriving += [item, item]
        return arriving

    def fire_timers(self):
        at = self.client.get_timer()
        if at is not None and at <= self.pair.now:
            self.client.handle_timer(self.pair.now)
        at = self.compared.timer()
        if at is not None and at <= self.pair.now:
            self.compared.handle_timer()

    def read_server(self):
        while (event := self.server.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                self.unconsumed[event.stream_id] += len(event.data)
                before = self.uploaded.setdefault(event.stream_id, b"")
                self.uploaded[event.stream_id] = before + event.data
                if not before and not event.stream_id & 2 and event.stream_id not in self.downloads:
                    self.server_open.add(event.stream_id)
                    self.downloads[event.stream_id] = b""
            elif isinstance(event, events.StreamReset):
                self.server.release(event.stream_id)
                self.server_open.add(event.stream_id)
                self.downloads.setdefault(event.stream_id, b"")
            elif isinstance(event, events.ConnectionTerminated):
                pytest.fail(f"the connection ended: {event}")

    def read_client(self):
        while (event := self.client.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                before = self.downloaded.get(event.stream_id, b"")
                self.downloaded[event.stream_id] = before + event.data
            elif isinstance(event, events.StopSendingReceived):
                self.client_open.discard(event.stream_id)
                self.uploads[event.stream_id] = None


@pytest.mark.parametrize("seed", range(12))
def test_any_traffic_has_the_same_effects(seed):
    traffic = Traffic(
        seed, stream_window_bytes=65_536, connection_window_bytes=262_144, max_concurrent_streams=40
    )
    traffic.run(60).settle()
    for name, written, arrived in (
        ("uploads", traffic.uploads, traffic.uploaded),
        ("downloads", traffic.downloads, traffic.downloaded),
    ):
        for stream_id, data in written.items():
            if data is not None:
                assert arrived.get(stream_id, b"") == data, f"{name} on stream {stream_id}"


@pytest.mark.parametrize("loss", [0, 0.05], ids=["without loss", "with loss"])
def test_a_long_response_is_sent_and_acknowledged_as_by_aioquic(loss):
    traffic = Traffic(seed=3)
    pair, client, server = traffic.pair, traffic.client, traffic.server
    client.send_stream_data(0, b"request", True)
    pair.run(0.1)
    traffic.loss, traffic.disorder = loss, 0
    response = random.Random(3).randbytes(200_000)
    traffic.downloads[0] = b""
    traffic.server_open.add(0)
    traffic.write(server, traffic.downloads, traffic.server_open, 0, response, end=True)
    kinds = Counter()
    for _ in range(2000):
        traffic.pass_datagrams()
        kinds.update(map(type, twins.space(server).sent_packets.values()))
        traffic.wait(until_timer=not traffic.to_client)
        if 0 not in server._streams:
            break
    assert traffic.downloaded[0] == response
    assert kinds[SentPiece] > kinds[SentPacket]
    assert traffic.compared.taken["sent warm"] > 100


# -- one packet with anything in it ---------------------------------------------------------------


def sealed(client, payload, *, first=0x41, skip=0):
    """A packet of the client's with `payload`, whatever that is."""
    keys = client._cryptos[Epoch.ONE_RTT]
    client._packet_number += skip
    number = client._packet_number
    client._packet_number += 1
    header = bytes((first | keys.key_phase << 2,)) + client._peer_cid.cid
    header += (number & 0xFFFF).to_bytes(2, "big")
    # RFC 9001 5.4.2: there has to be a whole sample.
    return keys.encrypt_packet(header, payload.ljust(2, b"\0"), number)


def busy():
    """A connection with streams in every state, and packets in flight."""
    pair = Pair(stream_window_bytes=65_536, connection_window_bytes=131_072)
    client, server = pair.client, pair.server
    for stream_id in (0, 4, 8, 12, 16):
        client.send_stream_data(stream_id, b"request" * 10, stream_id in (4, 8))
    pair.run(0.1)
    server.send_stream_data(4, b"response", True)
    server.send_stream_data(8, b"half a response")
    pair.run(0.1)
    client.reset_stream(16, 1)
    client.stop_stream(12, 2)
    pair.run(0.1)
    for stream_id in (0, 8):
        server.send_stream_data(stream_id, bytes(3000), stream_id == 8)
    assert pair.server.datagrams_to_send(pair.now)
    pair.now += 0.02
    server.send_stream_data(0, bytes(60_000))
    assert pair.server.datagrams_to_send(pair.now)
    assert server._surveyed
    while server.next_event() is not None:
        pass
    return pair


def frame(kind, *numbers, data=b""):
    return varint(kind) + b"".join(map(varint, numbers)) + data


def acknowledgement(server, newest=0, gap=None, delay=100):
    largest = server._packet_number - 1 - newest
    if gap is None:
        return frame(0x02, largest, delay, 0, 0)
    return frame(0x02, largest, delay, 1, 1, gap, 2)


def frames(server):
    """One of every frame, and of every way in which it can be uncommon or wrong."""
    newest = server._packet_number - 1
    received = 70
    yield from (
        b"\0" * 30,
        frame(0x01),
        acknowledgement(server),
        acknowledgement(server, 3),
        acknowledgement(server, 1, gap=2),
        acknowledgement(server, 30),
        acknowledgement(server, -1),
        acknowledgement(server, delay=1 << 40),
        frame(0x02, newest, 0, 0, newest),
        frame(0x02, newest, 0, 0, newest + 1),
        frame(0x02, newest, 0, 2, 0, 0, 0, newest, 0),
        frame(0x02, 1 << 60, 0, 0, 1 << 59),
        frame(0x02, newest, 0, 1 << 30, 0),
        frame(0x03, newest, 0, 0, 0, 1, 2, 3),
        frame(0x04, 0, 5, received),
        frame(0x04, 0, 5, received - 1),
        frame(0x04, 0, 5, received + 1000),
        frame(0x04, 400, 5, 0),
        frame(0x05, 0, 5),
        frame(0x05, 2, 5),
        frame(0x06, 0, 4, data=b"abcd"),
        frame(0x07, 3, data=b"abc"),
    )
    for stream_id in (0, 4, 8, 12, 16, 28, 2, 3, 4 * 128):
        for offset in (received, received - 10, received + 10, 65_530):
            for fin in (0, 1):
                yield frame(0x0E | fin, stream_id, offset, 6, data=b"abcdef")
        yield frame(0x08, stream_id, data=b"to the end of the packet")
        yield frame(0x0A, stream_id, 0)
        yield frame(0x0F, stream_id, received, 0)
        for limit in (0, 1, 65_536, 1 << 20, (1 << 62) - 1):
            yield frame(0x11, stream_id, limit)
        yield frame(0x15, stream_id, 5)
    for limit in (0, 1, 1_048_577, 1 << 30, (1 << 62) - 1):
        yield frame(0x10, limit)
        yield frame(0x12, limit)
        yield frame(0x13, limit)
        yield frame(0x14, limit)
        yield frame(0x16, limit)
        yield frame(0x17, limit)
    yield from (
        frame(0x18, 9, 0, data=b"\x08" + bytes(8) + bytes(16)),
        frame(0x19, 1),
        frame(0x19, 99),
        frame(0x1A, data=b"12345678"),
        frame(0x1B, data=b"12345678"),
        frame(0x1C, 1, 2, 0),
        frame(0x1D, 1, 0),
        frame(0x1E),
        frame(0x21, 1),
        frame(0x30, data=b"datagram"),
        b"\x40\x01",
        b"\xff",
    )


def both_receive(pair, payload, **how):
    """The server after a packet with `payload`, compared with its twin after the same."""
    server, cold = twins.copied(pair.server), twins.twin(pair.server)
    packet = sealed(pair.client, payload, **how)
    taken = False
    for side in (server, cold):
        with twins.chance(payload):
            if side is server and side._armed:
                taken = side._receive(packet, CLIENT, pair.now)
            if not (side is server and taken):
                side.receive_datagram(packet, CLIENT, pair.now)
    found = twins.differences(twins.state(server), twins.state(cold))
    assert not found, f"{payload.hex()}:\n" + "\n".join(found)
    return server, cold, taken


@pytest.fixture(scope="module")
def busy_pair():
    return busy()


def test_every_frame_has_the_same_effect_alone_and_among_others(busy_pair):
    server = busy_pair.server
    common = acknowledgement(server, 2), frame(0x0A, 0, 3, data=b"abc"), frame(0x10, 1 << 30)
    for one in frames(server):
        both_receive(busy_pair, one)
        both_receive(busy_pair, common[0] + common[1] + one + common[2])


def test_a_packet_may_be_cut_anywhere(busy_pair):
    server = busy_pair.server
    whole = b"".join(
        (
            acknowledgement(server, 2, gap=2),
            frame(0x0E, 0, 70, 300, data=bytes(300)),
            frame(0x11, 0, 1 << 20),
            frame(0x10, 1 << 30),
            frame(0x0B, 20, 5, data=b"abcde"),
        )
    )
    for end in [*range(1, 30), *range(len(whole) - 30, len(whole))]:
        both_receive(busy_pair, whole[:end])


@pytest.mark.parametrize("seed", range(3))
def test_frames_in_any_order_have_the_same_effect(busy_pair, seed):
    chance = random.Random(seed)
    known = list(frames(busy_pair.server))
    for _ in range(100):
        both_receive(busy_pair, b"".join(chance.choices(known, k=chance.randint(2, 6))))


@pytest.mark.parametrize(
    ("how", "is_taken"),
    [
        ({}, True),
        ({"first": 0x61}, True),
        ({"skip": 200}, True),
        ({"skip": 40_000}, True),
        ({"first": 0x49}, False),
        ({"first": 0x51}, False),
        ({"first": 0x45}, False),
    ],
    ids=["plain", "spin", "gap", "wide gap", "reserved bit", "reserved bit", "wrong key phase"],
)
def test_only_common_packets_are_taken(how, is_taken):
    pair = busy()
    assert both_receive(pair, frame(0x0A, 0, 3, data=b"abc"), **how)[2] is is_taken


@pytest.mark.parametrize(
    "second",
    [frame(0x0E, 0, 120, 6, data=b"abcdef"), frame(0x0F, 0, 90, 0), frame(0x0F, 0, 120, 0)],
    ids=["data beyond it", "a smaller one", "a larger one"],
)
def test_another_final_size_ends_the_connection_with_final_size_error(busy_pair, second):
    # RFC 9000 4.5: of stream 0, 70 bytes have arrived.
    for side in both_receive(busy_pair, frame(0x0F, 0, 100, 0) + second)[:2]:
        assert side.close_event.error_code == QuicErrorCode.FINAL_SIZE_ERROR


@pytest.mark.parametrize("size", range(1, 30))
def test_a_packet_that_is_too_short_for_a_sample_is_dropped(size):
    pair = busy()
    # RFC 9001 5.4.2
    short = sealed(pair.client, b"\x01")[:size]
    pair.server.receive_datagram(short, CLIENT, pair.now)
    assert pair.server.close_event is None
    pair.server.receive_datagram(
        sealed(pair.client, frame(0x0E, 0, 70, 3, data=b"abc")), CLIENT, pair.now
    )
    event = pair.server.next_event()
    assert (event.stream_id, event.data) == (0, b"abc")


@pytest.mark.parametrize("fast_path", [True, False])
def test_a_packet_that_is_late_has_its_own_number_though_the_low_bits_began_anew(fast_path):
    # RFC 9000 A.3: two bytes of the number are sent.
    pair = busy()
    pair.server._fast_path = fast_path
    step = (65_534 - pair.client._packet_number) // 3
    for _ in range(3):
        pair.server.receive_datagram(sealed(pair.client, b"\x01", skip=step), CLIENT, pair.now)
    late = sealed(pair.client, frame(0x0E, 0, 70, 3, data=b"abc"))
    assert pair.client._packet_number <= 65_536
    later = sealed(pair.client, frame(0x0E, 0, 73, 3, data=b"def"), skip=5)
    for packet in (later, late):
        pair.server.receive_datagram(packet, CLIENT, pair.now)
    arrived = []
    while (event := pair.server.next_event()) is not None:
        arrived.append(event.data)
    assert b"".join(arrived) == b"abcdef"


@pytest.mark.parametrize("room", [20, 50, 100, 1000])
def test_an_acknowledgement_has_the_newest_ranges_that_there_is_room_for(room):
    ranges = [range(start, start + 2) for start in range(0, 1000, 10)]
    encoded, count = encode_ack(ranges, 25, room)
    assert len(encoded) <= 1 + room
    buf = Buffer(data=encoded[1:])
    acknowledged, delay = pull_ack_frame(buf)
    assert buf.eof()
    assert (list(acknowledged), delay) == (ranges[-count:], 25)
    assert count == len(ranges) or 2 * (count + 2) * 2 > room


def test_the_ranges_to_be_acknowledged_are_bounded_and_the_oldest_are_left_out():
    received = RangeSet()
    for number in range(0, 4 * MAX_ACK_RANGES, 2):
        add_number(received, number)
    newest = 4 * MAX_ACK_RANGES - 2
    assert list(received) == [
        range(number, number + 1)
        for number in range(newest - 2 * (MAX_ACK_RANGES - 1), newest + 1, 2)
    ]
