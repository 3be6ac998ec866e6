"""The warm path does what aioquic does: a twin without it makes every step, too."""

import random
from collections import Counter

import pytest
from aioquic.buffer import encode_uint_var as varint
from aioquic.quic import events
from aioquic.tls import Epoch

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
        """What the warm path knows to be there to send is all that there is."""
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
    # The warm path forgets a stream that has ended before it counts how many may be opened.
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
            self.pass_datagrams()
            if self.is_settled():
                break
            self.wait()
        return self

    def wait(self):
        """Let time go by until there is something to do."""
        timers = (self.client.get_timer(), self.server.get_timer())
        due = min(timer for timer in timers if timer is not None)
        self.pair.now = max(self.pair.now + 0.001, due)
        self.fire_timers()

    def is_settled(self):
        return not self.to_client and not self.to_server and not self.server._streams.keys() & {
            stream_id for stream_id in self.uploads if not stream_id & 2
        }

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
        for stream_id in self.random.sample(sorted(self.server_open), min(len(self.server_open), 4)):
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
