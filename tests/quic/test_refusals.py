"""Control messages that a kernel or a device refuses: all the same everything arrives, at once."""

import asyncio
import errno
import logging
import socket
from typing import ClassVar

import pytest

from tercel.quic.udp import Path, UdpSocket
from tests.quic.served import serving
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest
from tests.support.h3_client import H3Client

pytestmark = pytest.mark.usefixtures("either_path")

# linux/udp.h
UDP_SEGMENT = 103
MARKS = {(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
SEGMENTS = {(socket.IPPROTO_UDP, UDP_SEGMENT)}
ECT_0 = 2

NO_MARKS = "ECN marks are unavailable; sending without them"
NO_SEGMENTS = "UDP GSO is unavailable; sending one datagram per call"

DATAGRAMS = [bytes([number]) * 1200 for number in range(6)]


def refusing(kinds, code=errno.EIO):
    """A class of sockets that refuse control messages of these levels and types."""

    class RefusingSocket(socket.socket):
        refused = 0
        lost: ClassVar[set[bytes]] = set()
        """Datagrams that were refused and not sent again."""

        def sendmsg(self, buffers, ancillary=(), flags=0, address=None):
            if any((level, kind) in kinds for level, kind, _ in ancillary):
                RefusingSocket.refused += 1
                self.lost.update(buffers)
                raise OSError(code, "refused")
            self.lost.difference_update(buffers)
            return super().sendmsg(buffers, ancillary, flags, address)

    return RefusingSocket


def bound(kind, host, family):
    sock = kind(family, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0))
    except OSError:
        sock.close()
        pytest.skip("this machine has no IPv6 loopback address")
    return sock


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tercel.udp"]


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP], ids=errno.errorcode.get
)
@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (MARKS, [NO_MARKS]),
        (SEGMENTS, [NO_SEGMENTS]),
        (MARKS | SEGMENTS, [NO_MARKS, NO_SEGMENTS]),
    ],
    ids=["marks", "segments", "both"],
)
@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
@asynctest
async def test_what_is_refused_is_left_out_at_once_remembered_and_said_once(
    host, family, kinds, said, code, caplog
):
    caplog.set_level(logging.INFO, "tercel.udp")
    kind = refusing(kinds, code)
    with bound(socket.socket, host, family) as receiver:
        receiver.settimeout(PATIENCE_SECONDS)
        sender = UdpSocket(
            bound(kind, host, family), asyncio.get_running_loop(), buffer_bytes=65_536
        )
        path = Path(receiver.getsockname(), None, sender)
        batches = sender.sends_batches
        for _ in range(3):
            sender.send(DATAGRAMS, path, ECT_0)
            sender.send(DATAGRAMS[:1], path, ECT_0)
            received = [receiver.recv(2000) for _ in range(7)]
            assert received == [*DATAGRAMS, DATAGRAMS[0]]
        sender.close()
    assert sender.sends_marks is (kinds == SEGMENTS)
    if batches:
        assert sorted(lines(caplog)) == said
        # A first batch, without its mark, singly with the first one's.
        assert 1 <= kind.refused <= 3


@pytest.mark.parametrize("kinds", [MARKS, MARKS | SEGMENTS], ids=["marks", "both"])
@asynctest
async def test_no_connection_waits_for_a_timeout_where_marks_are_refused(kinds, caplog):
    caplog.set_level(logging.INFO, "tercel.udp")
    kind = refusing(kinds)
    counts = []
    async with serving(kind=kind) as server:
        for _ in range(3):
            async with H3Client(server.port) as client:
                assert (await client.request()).status == 200
                await client.settled()
                counts.append(kind.refused)
                (connection,) = server.connections
                assert connection.quic.ecn.is_settled
                assert kind.lost == set(), "it is for timers to send it again"
    assert counts[0] <= 3
    assert counts == counts[:1] * 3
    assert lines(caplog).count(NO_MARKS) == 1


@asynctest
async def test_a_source_address_that_is_gone_costs_its_own_datagrams_alone():
    """The kernel refuses it by EINVAL, which is neither the mark's fault nor segmentation's."""
    gone = socket.inet_aton("192.0.2.1")
    local = bytes(4) + gone + bytes(4)
    with bound(socket.socket, "127.0.0.1", socket.AF_INET) as receiver:
        receiver.settimeout(PATIENCE_SECONDS)
        sock = bound(socket.socket, "0.0.0.0", socket.AF_INET)
        sender = UdpSocket(sock, asyncio.get_running_loop(), buffer_bytes=65_536)
        batches = sender.sends_batches
        sender.send(DATAGRAMS, Path(receiver.getsockname(), local, sender), ECT_0)
        assert (sender.sends_batches, sender.sends_marks) == (batches, True)
        sender.send(DATAGRAMS, Path(receiver.getsockname(), None, sender), ECT_0)
        assert [receiver.recv(2000) for _ in DATAGRAMS] == DATAGRAMS
        sender.close()
