"""Batched datagrams on real loopback sockets, with the kernel's help and without."""

import asyncio
import contextlib
import errno
import logging
import select
import socket

import pytest

from tercel.quic import udp
from tercel.quic.udp import Path, UdpSocket
from tercel.shared.succession import bind_as_successor
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, on_both_loops

KIB = 1024
DATAGRAMS = [bytes([number]) * 1200 for number in range(20)]


def bound(host="127.0.0.1", family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


@contextlib.contextmanager
def udp_socket(host="127.0.0.1", family=socket.AF_INET, *, batches=True, buffer_bytes=256 * KIB):
    """A UdpSocket on the running loop; without `batches` as on a kernel that has none."""
    loop = asyncio.get_running_loop()
    made = UdpSocket(bound(host, family), loop, buffer_bytes=buffer_bytes)
    if not batches:
        made.sends_batches = False
        made.sock.setsockopt(socket.IPPROTO_UDP, udp._UDP_GRO, 0)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def plain_socket(host="127.0.0.1", family=socket.AF_INET):
    with bound(host, family) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        yield sock


async def received(sock, count):
    """The next `count` datagrams that `sock` takes in, in as many batches as it needs."""
    taken = []
    done = asyncio.Event()

    def readable(_):
        taken.extend(sock.receive(64))
        if len(taken) >= count:
            done.set()

    sock.start(readable)
    await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
    return taken


def arrived(sock):
    """Wait until something is there for `sock`: a kernel may deliver after the call that sends."""
    assert select.select([sock.sock.fileno()], [], [], PATIENCE_SECONDS)[0]


def path_to(sock, target, local=None):
    return Path(target.getsockname(), local, sock)


# -- receiving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [True, False])
@on_both_loops
async def test_datagrams_arrive_whole_and_in_order(batches):
    with udp_socket(batches=batches) as receiver, udp_socket() as sender:
        sender.send(DATAGRAMS, path_to(sender, receiver.sock))
        taken = await received(receiver, len(DATAGRAMS))
        assert [data for data, _, _ in taken] == DATAGRAMS
        assert {path.peer for _, path, _ in taken} == {sender.sock.getsockname()}


@asynctest
async def test_one_call_of_the_kernel_brings_many_datagrams():
    with udp_socket() as receiver, udp_socket() as sender:
        if not (receiver.receives_batches and sender.sends_batches):
            pytest.skip("this kernel has no UDP_GRO or UDP_SEGMENT")
        sender.send(DATAGRAMS, path_to(sender, receiver.sock))
        arrived(receiver)
        # The limit is looked at between calls: one call has brought them all.
        assert len(receiver.receive(1)) == len(DATAGRAMS)


@asynctest
async def test_the_last_datagram_of_a_batch_may_be_shorter():
    datagrams = [*DATAGRAMS, b"short"]
    with udp_socket() as receiver, udp_socket() as sender:
        sender.send(datagrams, path_to(sender, receiver.sock))
        assert [data for data, _, _ in await received(receiver, 21)] == datagrams


@asynctest
async def test_a_batch_is_bounded_so_that_other_work_gets_its_turn():
    with udp_socket(batches=False) as receiver, udp_socket(batches=False) as sender:
        sender.send(DATAGRAMS, path_to(sender, receiver.sock))
        taken = []
        while len(taken) < len(DATAGRAMS):
            arrived(receiver)
            batch = receiver.receive(6)
            assert len(batch) <= 6
            taken += batch
        assert [data for data, _, _ in taken] == DATAGRAMS
        assert receiver.receive(64) == []


@asynctest
async def test_an_empty_datagram_is_a_datagram():
    with udp_socket() as receiver, plain_socket() as sender:
        sender.sendto(b"", receiver.sock.getsockname())
        assert [data for data, _, _ in await received(receiver, 1)] == [b""]


class FailingSocket:
    """A socket whose calls fail as told, then work."""

    def __init__(self, sock, errors):
        self._sock = sock
        self._errors = list(errors)
        self.calls = []
        self.reads = 0

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def _fail(self):
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error

    def recvmsg_into(self, *args):
        self.reads += 1
        self._fail()
        return self._sock.recvmsg_into(*args)

    def sendmsg(self, buffers, *args):
        self.calls.append(len(buffers))
        self._fail()
        return self._sock.sendmsg(buffers, *args)


@asynctest
async def test_where_datagrams_come_singly_few_reads_are_in_vain_and_nothing_is_left():
    with udp_socket() as receiver, plain_socket() as sender:
        receiver.sock = FailingSocket(receiver.sock, [])
        for number in range(100):
            sender.sendto(b"%d" % number, receiver.sock.getsockname())
            arrived(receiver)
            assert [data for data, _, _ in receiver.receive(64)] == [b"%d" % number]
        assert receiver.sock.reads < 125
        for number in range(100):
            sender.sendto(b"%d" % number, receiver.sock.getsockname())
        taken = []
        while len(taken) < 100:
            arrived(receiver)
            taken += receiver.receive(64)
        assert [data for data, _, _ in taken] == [b"%d" % number for number in range(100)]


@asynctest
async def test_an_error_of_an_earlier_send_does_not_hide_what_arrived():
    with udp_socket() as receiver, plain_socket() as sender:
        receiver.sock = FailingSocket(receiver.sock, [ConnectionRefusedError()])
        sender.sendto(b"x", receiver.sock.getsockname())
        assert receiver.receive(64) == []
        arrived(receiver)
        assert [data for data, _, _ in receiver.receive(64)] == [b"x"]


@asynctest
async def test_an_error_that_stays_does_not_hold_the_loop():
    with udp_socket() as receiver:
        receiver.sock = FailingSocket(receiver.sock, [OSError(errno.ENOBUFS, "")] * 3)
        assert receiver.receive(64) == []


# -- sending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [True, False])
@asynctest
async def test_a_plain_receiver_sees_the_same_datagrams(batches):
    datagrams = [*DATAGRAMS, b"x" * 500, b"y" * 1200, b"z"]
    with plain_socket() as receiver, udp_socket(batches=batches) as sender:
        sender.send(datagrams, path_to(sender, receiver))
        assert [receiver.recv(2000) for _ in datagrams] == datagrams


def batches_of(datagrams):
    """How many datagrams each call of the kernel would take."""
    sizes, position = [], 0
    while position < len(datagrams):
        end = udp._batch_end(datagrams, position)
        sizes.append(end - position)
        position = end
    return sizes


@pytest.mark.parametrize(
    ("datagrams", "sizes"),
    [
        ([b"x" * 100] * 3, [3]),
        ([b"x" * 100] * 64, [64]),
        ([b"x" * 100] * 65, [64, 1]),
        ([b"x" * 100] * 200, [64, 64, 64, 8]),
        ([b"x" * 1200] * 60, [54, 6]),
        ([b"x" * 100, b"x" * 50], [2]),
        ([b"x" * 100, b"x" * 50, b"x" * 50], [2, 1]),
        ([b"x" * 100, b"x" * 50, b"x" * 100], [2, 1]),
        ([b"x" * 50, b"x" * 100], [1, 1]),
        ([b"x"], [1]),
        ([b"x" * 65_500, b"x"], [1, 1]),
    ],
)
def test_a_batch_is_of_equal_sizes_but_for_its_last(datagrams, sizes):
    assert batches_of(datagrams) == sizes


@asynctest
async def test_more_than_64_datagrams_take_more_calls_and_stay_in_order():
    datagrams = [b"%04d" % number * 25 for number in range(150)]
    with udp_socket() as receiver, udp_socket() as sender:
        if not sender.sends_batches:
            pytest.skip("this kernel has no UDP_SEGMENT")
        sender.sock = FailingSocket(sender.sock, [])
        sender.send(datagrams, path_to(sender, receiver.sock))
        assert sender.sock.calls == [64, 64, 22]
        assert [data for data, _, _ in await received(receiver, 150)] == datagrams


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
@asynctest
async def test_without_segmentation_in_the_device_datagrams_go_singly(code):
    with plain_socket() as receiver, udp_socket() as sender:
        sender.sends_batches = True
        sender.sock = FailingSocket(sender.sock, [OSError(code, "")])
        sender.send(DATAGRAMS[:3], path_to(sender, receiver))
        assert [receiver.recv(2000) for _ in range(3)] == DATAGRAMS[:3]
        assert sender.sock.calls == [3, 1, 1, 1]
        assert not sender.sends_batches


@asynctest
async def test_a_link_that_carries_less_does_not_turn_batches_off():
    with plain_socket() as receiver, udp_socket() as sender:
        if not sender.sends_batches:
            pytest.skip("this kernel has no UDP_SEGMENT")
        too_large = [OSError(errno.EMSGSIZE, "") for _ in range(3)]
        sender.sock = FailingSocket(sender.sock, [OSError(errno.EINVAL, ""), *too_large])
        path = path_to(sender, receiver)
        sender.send([*DATAGRAMS[:3], DATAGRAMS[3] * 2], path)
        assert sender.sends_batches
        sender.send(DATAGRAMS[4:6], path)
        assert receiver.recv(4000) == DATAGRAMS[3] * 2
        assert [receiver.recv(2000) for _ in range(2)] == DATAGRAMS[4:6]
        assert sender.sock.calls == [3, 1, 1, 1, 1, 2]


@asynctest
async def test_what_the_kernel_cannot_take_singly_waits_before_what_follows():
    with plain_socket() as receiver, udp_socket() as sender:
        sender.sends_batches = True
        sender.sock = FailingSocket(sender.sock, [OSError(errno.EINVAL, ""), BlockingIOError()])
        sender.send([*DATAGRAMS[:3], DATAGRAMS[3] * 2], path_to(sender, receiver))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sender._waiting:
                await asyncio.sleep(0)
        assert [receiver.recv(4000) for _ in range(3)] == DATAGRAMS[:3]
        assert receiver.recv(4000) == DATAGRAMS[3] * 2


@asynctest
async def test_the_kernel_leaves_the_size_of_datagrams_to_quic():
    with udp_socket() as sock:
        assert sock.sock.getsockopt(socket.IPPROTO_IP, udp._IP_MTU_DISCOVER) == 3


@asynctest
async def test_a_datagram_that_cannot_be_sent_is_lost_and_no_more():
    with plain_socket() as receiver, udp_socket(batches=False) as sender:
        sender.sock = FailingSocket(sender.sock, [OSError(errno.EMSGSIZE, "")])
        sender.send(DATAGRAMS[:2], path_to(sender, receiver))
        assert receiver.recv(2000) == DATAGRAMS[1]


@on_both_loops
async def test_what_a_full_buffer_does_not_take_goes_later_in_order():
    with plain_socket() as receiver, udp_socket() as sender:
        full = BlockingIOError(errno.EAGAIN, "")
        sender.sock = FailingSocket(sender.sock, [full, full, OSError(errno.EPERM, "")])
        path = path_to(sender, receiver)
        sender.send(DATAGRAMS[:2], path)
        sender.send(DATAGRAMS[2:4], path)
        assert sender.sock.calls == [2], "what comes later must not overtake"
        await asyncio.wait_for(emptied(sender), PATIENCE_SECONDS)
        # The first was refused once more, then lost to an error.
        assert [receiver.recv(2000) for _ in range(3)] == DATAGRAMS[1:4]
        sender.send(DATAGRAMS[4:5], path)
        assert receiver.recv(2000) == DATAGRAMS[4]


async def emptied(sender):
    while sender._waiting:
        await asyncio.sleep(0)


@asynctest
async def test_what_waits_is_bounded():
    with plain_socket() as receiver, udp_socket() as sender:
        sender.sock = FailingSocket(sender.sock, [BlockingIOError()])
        path = path_to(sender, receiver)
        for _ in range(3):
            sender.send([b"x"] * 3000, path)
        assert len(sender._waiting) == udp._MAX_WAITING


# -- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wildcard", "family", "asked"),
    [
        ("0.0.0.0", socket.AF_INET, "127.0.0.2"),
        ("0.0.0.0", socket.AF_INET, "127.0.0.3"),
        ("::", socket.AF_INET6, "::1"),
    ],
)
@asynctest
async def test_an_answer_leaves_from_the_address_that_was_asked(wildcard, family, asked):
    try:
        client = bound("::1" if family == socket.AF_INET6 else "127.0.0.1", family)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with client, udp_socket(wildcard, family) as server:
        client.settimeout(PATIENCE_SECONDS)
        port = server.sock.getsockname()[1]
        client.sendto(b"ask", (asked, port))
        ((data, path, _),) = await received(server, 1)
        assert data == b"ask"
        assert path.local_address() == (asked, port)
        server.send([b"answer", b"answer", b"end"], path)
        answers = [client.recvfrom(100) for _ in range(3)]
        assert [data for data, _ in answers] == [b"answer", b"answer", b"end"]
        assert {sender[:2] for _, sender in answers} == {(asked, port)}


def bound_to_both_families():
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        pytest.skip("this machine has no IPv6")
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    return sock


@asynctest
async def test_a_socket_for_both_families_answers_both():
    sock = bound_to_both_families()
    server = UdpSocket(sock, asyncio.get_running_loop(), buffer_bytes=256 * KIB)
    with contextlib.closing(server), plain_socket() as client:
        client.sendto(b"ask", ("127.0.0.2", sock.getsockname()[1]))
        ((_, path, _),) = await received(server, 1)
        server.send([b"answer"], path)
        assert client.recvfrom(100) == (b"answer", ("127.0.0.2", sock.getsockname()[1]))


@asynctest
async def test_paths_are_equal_when_both_ends_are():
    with udp_socket("0.0.0.0") as server, plain_socket() as client:
        port = server.sock.getsockname()[1]
        for host in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
            client.sendto(b"x", (host, port))
        first, second, third = (path for _, path, _ in await received(server, 3))
        assert first == second
        assert first != third
        assert repr(first) == ":".join(map(str, client.getsockname()))


# -- marks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
@asynctest
async def test_a_mark_arrives_with_its_datagrams(host, family, mark):
    try:
        bound(host, family).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with udp_socket(host, family) as receiver, udp_socket(host, family) as sender:
        sender.send(DATAGRAMS[:3], path_to(sender, receiver.sock), mark)
        taken = await received(receiver, 3)
        assert [data for data, _, _ in taken] == DATAGRAMS[:3]
        assert {found for _, _, found in taken} == {mark}


@asynctest
async def test_a_mark_reaches_an_ipv4_peer_of_a_socket_for_both_families():
    sock = bound_to_both_families()
    both = UdpSocket(sock, asyncio.get_running_loop(), buffer_bytes=256 * KIB)
    with contextlib.closing(both), udp_socket() as client:
        port = sock.getsockname()[1]
        client.send([b"ask"], Path(("127.0.0.1", port), None, client), 1)
        ((_, path, mark),) = await received(both, 1)
        assert mark == 1
        both.send([b"answer"], path, 2)
        ((data, _, mark),) = await received(client, 1)
        assert (data, mark) == (b"answer", 2)


@asynctest
async def test_what_has_to_wait_keeps_its_mark():
    with udp_socket() as receiver, udp_socket() as sender:
        path = path_to(sender, receiver.sock)
        sender._wait(DATAGRAMS[:2], path, 2)
        taken = await received(receiver, 2)
        assert {mark for _, _, mark in taken} == {2}


# -- a successor --------------------------------------------------------------------------------


@pytest.mark.parametrize("wildcard", [False, True])
@asynctest
async def test_the_paths_that_were_kept_stay_what_they_were_with_a_successor(wildcard):
    with (
        udp_socket("0.0.0.0" if wildcard else "127.0.0.1") as receiver,
        udp_socket() as peer,
        plain_socket() as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as successor,
    ):
        address = ("127.0.0.1", receiver.sock.getsockname()[1])
        way = Path(address, None, peer)
        peer.send([b"before"], way)
        ((_, path, _),) = await received(receiver, 1)
        receiver.hand_over([path])
        bind_as_successor(successor, receiver.sock.getsockname())
        stranger.sendto(b"not ours", address)
        taken = received(receiver, 20)
        peer.send([b"%02d" % number for number in range(20)], way, 2)
        datagrams = await taken
        assert [data for data, _, _ in datagrams] == [b"%02d" % number for number in range(20)]
        assert {its_path for _, its_path, _ in datagrams} == {path}
        assert {mark for _, _, mark in datagrams} == {2}
        receiver.send([b"answer"], path)
        assert (await received(peer, 1))[0][:2] == (b"answer", way)
        successor.settimeout(PATIENCE_SECONDS)
        assert successor.recv(100) == b"not ours"


# -- the socket ---------------------------------------------------------------------------------


@asynctest
async def test_closing_twice_is_closing_once():
    with udp_socket() as sock:
        sock.start(lambda _: None)
        sock.close()
        assert sock.sock.fileno() == -1


@asynctest
async def test_a_buffer_that_stays_small_is_told_with_the_remedy(caplog):
    with caplog.at_level(logging.WARNING, "tercel.udp"), udp_socket(buffer_bytes=2**30):
        pass
    receive, send = (record.getMessage() for record in caplog.records)
    assert "receive buffer" in receive
    assert "sysctl -w net.core.rmem_max=1073741824" in receive
    assert "sysctl -w net.core.wmem_max=1073741824" in send


@asynctest
async def test_a_buffer_of_the_size_asked_for_is_not_worth_a_word(caplog):
    with caplog.at_level(logging.DEBUG, "tercel.udp"), udp_socket(buffer_bytes=64 * KIB):
        pass
    assert caplog.records == []


@asynctest
async def test_a_kernel_without_batches_is_served_singly(monkeypatch):
    monkeypatch.setattr(udp, "_UDP_SEGMENT", 250)
    monkeypatch.setattr(udp, "_UDP_GRO", 251)
    with udp_socket() as receiver, udp_socket() as sender:
        assert not sender.sends_batches
        assert not receiver.receives_batches
        sender.send(DATAGRAMS, path_to(sender, receiver.sock))
        assert [data for data, _, _ in await received(receiver, 20)] == DATAGRAMS
