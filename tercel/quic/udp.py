"""Datagrams in batches: many per system call if the kernel supports it (UDP GRO, GSO), else singly.

Owns one bound UDP socket. Knows nothing about QUIC.
"""

import errno
import socket
import struct
import sys
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tercel.shared.logs import logger
from tercel.shared.succession import allow_successor, connected_twin

log = logger("tercel.udp")

# linux/udp.h; the socket module has no names for these.
_UDP_SEGMENT = 103
_UDP_GRO = 104
# linux/in.h: the address that a datagram came to, and is to be sent from.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)

# linux/in.h, in6.h: the kernel does not fragment, and does not believe what ICMP says of a path.
_IP_MTU_DISCOVER = getattr(socket, "IP_MTU_DISCOVER", 10)
_IPV6_MTU_DISCOVER = getattr(socket, "IPV6_MTU_DISCOVER", 23)
_PMTUDISC_PROBE = 3

# The ECN field is the low two bits of these (RFC 3168 5, RFC 8200 7).
_IP_TOS = getattr(socket, "IP_TOS", 1)
_IP_RECVTOS = getattr(socket, "IP_RECVTOS", 13)
_IPV6_TCLASS = getattr(socket, "IPV6_TCLASS", 67)
_IPV6_RECVTCLASS = getattr(socket, "IPV6_RECVTCLASS", 66)
_ECN_KINDS = (_IP_TOS, _IPV6_TCLASS)
_ECN_BITS = 0x03
_MARKS = tuple(struct.pack("@i", mark) for mark in range(_ECN_BITS + 1))

_BUFFER_BYTES = 65_535
_ANCILLARY_BYTES = 256
# The kernel refuses more segments (UDP_MAX_SEGMENTS was 64 before Linux 6.9), or more bytes.
_MAX_SEGMENTS = 64
_MAX_SEND_BYTES = 65_000
# After so many looks in a row that found a single datagram, that is what is expected next; it is
# looked again after as many turns.
_LOOKS = 16
# How kernels and devices refuse a control message that they cannot act on.
_REFUSALS = frozenset((errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
# Datagrams that may wait for the kernel to take them; QUIC repeats what is dropped beyond.
_MAX_WAITING = 4096


class Path(NamedTuple):
    """Peer and local address of a datagram, comparable: a network path in QUIC's sense."""

    peer: tuple[str, int] | tuple[str, int, int, int]
    """The peer's address as the socket module gives it."""
    local: bytes | None
    """Ancillary data that sends an answer from the address the datagram was sent to."""
    socket: "UdpSocket"

    def local_address(self) -> tuple[str, int]:
        """The address and port that the datagram was sent to."""
        host, port = self.socket.sock.getsockname()[:2]
        if self.local is not None:
            # struct in6_pktinfo begins with the address; of in_pktinfo it is the second member.
            is_v6 = self.socket.sock.family == socket.AF_INET6
            packed = self.local[:16] if is_v6 else self.local[4:8]
            host = socket.inet_ntop(socket.AF_INET6 if is_v6 else socket.AF_INET, packed)
        return host, port

    def __repr__(self) -> str:
        return f"{self.peer[0]}:{self.peer[1]}"


# As Path does it, in one call less for each datagram.
_new = tuple.__new__

# A datagram that came, its path, and its ECN field.
Datagram = tuple[bytes, Path, int]


class UdpSocket:
    """A bound UDP socket, read by callback and written without blocking."""

    def __init__(self, sock: socket.socket, loop: AbstractEventLoop, *, buffer_bytes: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._twins: list[socket.socket] = []
        """Sockets connected to one peer each, from when a successor may bind the address."""
        self._twin: socket.socket | None = None
        """The connected socket that is read in place of `sock`."""
        self._readable: Callable[[UdpSocket], None] | None = None
        self._loop = loop
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._waiting: deque[Datagram] = deque()
        self._ancillary: list[tuple[int, int, bytes]] = []
        """Ancillary data of the last datagram; usually that of the next is the same."""
        self._read: tuple[int, bytes | None, int] = 0, None, 0
        """The parsed form of `_ancillary`."""
        self._lone = 0
        """Consecutive reads that found a single datagram."""
        self._unlooked = 0
        """Reads to come that do not look for a second datagram."""
        self._is_v6 = sock.family == socket.AF_INET6
        self._is_wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")  # noqa: S104  # a question
        self.receives_batches = self._set_receiving(sock)
        self.sends_batches = _accepts_segments(sock)
        self.sends_marks = True
        """Whether ECN marks can be sent; False once the kernel has refused one."""
        self._set_buffer(socket.SO_RCVBUF, "receive", buffer_bytes)
        self._set_buffer(socket.SO_SNDBUF, "send", buffer_bytes)
        _set_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        if self._is_v6:
            _set_option(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)

    def start(self, readable: Callable[["UdpSocket"], None]) -> None:
        """Call `readable` whenever datagrams can be read."""
        self._readable = readable
        self._loop.add_reader(self.sock.fileno(), readable, self)

    def hand_over(self, paths: Iterable[Path]) -> None:
        """Let another process bind the address; keep receiving on `paths`, all of this socket.

        Datagrams of those paths continue to arrive as before.
        """
        if not allow_successor(self.sock):
            return
        for path in paths:
            try:
                twin = connected_twin(self.sock, path.local_address(), path.peer)
            except OSError as error:
                # No descriptors, or no permission to bind this port once more.
                log.debug("hand over: %s", error)
                continue
            self._set_receiving(twin)
            self._twins.append(twin)
            self._loop.add_reader(twin.fileno(), self._twin_readable, twin)

    def close(self) -> None:
        """Stop reading and release the socket."""
        while self._twins:
            twin = self._twins.pop()
            self._loop.remove_reader(twin.fileno())
            twin.close()
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self._loop.remove_writer(self.sock.fileno())
            self.sock.close()

    def receive(self, most: int) -> list[Datagram]:
        """The datagrams that can be read, about `most` at a time, so that other work gets its turn.

        Without batches, one: asking the loop whether another waits costs less than a call that has
        nothing to read. Of ten system calls of a single small request, this saves two.
        """
        source = self._twin or self.sock
        most_reads = 1 if self._unlooked else most
        datagrams: list[Datagram] = []
        reads = 0
        while reads < most_reads and len(datagrams) < most:
            reads += 1
            try:
                size, ancillary, _, peer = source.recvmsg_into((self._buffer,), _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # ICMP errors of earlier sends are reported here (ECONNREFUSED and the like).
                # What still waits comes with the next turn, so that no error can hold the loop.
                log.debug("receive: %s", error)
                break
            if ancillary != self._ancillary:
                self._ancillary, self._read = ancillary, self._read_ancillary(ancillary)
            segment, local, mark = self._read
            path = _new(Path, (peer, local, self))
            if size <= segment or not segment:
                datagrams.append((self._view[:size].tobytes(), path, mark))
                continue
            # What the kernel put together had the same mark.
            for start in range(0, size, segment):
                part = self._view[start : min(start + segment, size)].tobytes()
                datagrams.append((part, path, mark))
        if len(datagrams) != 1:
            self._lone = self._unlooked = 0
        elif self._unlooked:
            self._unlooked -= 1
        else:
            self._lone += 1
            self._unlooked = _LOOKS if self._lone >= _LOOKS else 0
        return datagrams

    def send(self, datagrams: Sequence[bytes], path: Path, mark: int = 0) -> None:
        """Send `datagrams` in order to one peer; what the kernel does not accept now is sent later.

        `mark` is for the ECN field. It is left out, here and from then on, if the kernel refuses
        it.
        """
        if self._waiting and datagrams:
            self._wait(datagrams, path, mark)
            return
        position = 0
        while position < len(datagrams):
            end = _batch_end(datagrams, position) if self.sends_batches else position + 1
            try:
                self._send_batch(datagrams[position:end], path, mark)
            except (BlockingIOError, InterruptedError):
                self._wait(datagrams[position:], path, mark)
                return
            except OSError as error:
                if end - position > 1 and error.errno in _REFUSALS:
                    self._send_singly(datagrams[position:end], path, mark)
                    self.send(datagrams[end:], path, mark)  # behind what waits, if anything does
                    return
                # Unreachable, too large, refused: lost datagrams to QUIC, which sends again.
                log.debug("send to %r: %s", path, error)
            position = end

    def _send_singly(self, datagrams: Sequence[bytes], path: Path, mark: int) -> None:
        """Send, one by one, datagrams that the kernel does not segment."""
        for number, datagram in enumerate(datagrams):
            try:
                self._send_batch((datagram,), path, mark)
            except (BlockingIOError, InterruptedError):
                self._wait(datagrams[number:], path, mark)
                return
            except OSError as error:
                # EMSGSIZE: the link carries less than it did, which has nothing to do with batches.
                log.debug("send to %r: %s", path, error)
                continue
            if self.sends_batches and number == 0:
                # A device without checksum offload cannot segment; singly it works.
                log.info("UDP GSO is unavailable; sending one datagram per call")
                self.sends_batches = False

    def _send_batch(self, batch: Sequence[bytes], path: Path, mark: int) -> None:
        """Send a batch in one call, or in a second one without the mark. Raises OSError."""
        if not mark or not self.sends_marks:
            self._call(batch, path, 0)
            return
        try:
            self._call(batch, path, mark)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            self._call(batch, path, 0)  # raises once more if it was not for the mark
            log.info("ECN marks are unavailable; sending without them")
            self.sends_marks = False

    def _call(self, batch: Sequence[bytes], path: Path, mark: int) -> None:
        ancillary: list[tuple[int, int, bytes]] = []
        if len(batch) > 1:
            ancillary.append((socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("@H", len(batch[0]))))
        if path.local is not None:
            ancillary.append(
                (socket.IPPROTO_IPV6, _IPV6_PKTINFO, path.local)
                if self._is_v6
                else (socket.IPPROTO_IP, _IP_PKTINFO, path.local)
            )
        if mark:
            ancillary.append(self._marking(path, mark))
        self.sock.sendmsg(batch, ancillary, 0, path.peer)

    def _marking(self, path: Path, mark: int) -> tuple[int, int, bytes]:
        if self._is_v6 and not path.peer[0].startswith("::ffff:"):
            return socket.IPPROTO_IPV6, _IPV6_TCLASS, _MARKS[mark]
        return socket.IPPROTO_IP, _IP_TOS, _MARKS[mark]

    def _wait(self, datagrams: Sequence[bytes], path: Path, mark: int) -> None:
        if not self._waiting:
            self._loop.add_writer(self.sock.fileno(), self._writable)
        room = _MAX_WAITING - len(self._waiting)
        self._waiting.extend((datagram, path, mark) for datagram in datagrams[:room])

    def _writable(self) -> None:
        while self._waiting:
            datagram, path, mark = self._waiting[0]
            try:
                self._send_batch((datagram,), path, mark)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.debug("send to %r: %s", path, error)
            self._waiting.popleft()
        self._loop.remove_writer(self.sock.fileno())

    def _read_ancillary(
        self, ancillary: list[tuple[int, int, bytes]]
    ) -> tuple[int, bytes | None, int]:
        """The segment size, the destination address and the ECN field."""
        segment, local, mark = 0, None, 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                segment = struct.unpack_from("@i", data)[0]
            elif level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                local = data
            elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO and not self._is_v6:
                # struct in_pktinfo: to send from an address, it goes where the interface's was.
                _, spec_dst, _ = struct.unpack("=i4s4s", data)
                local = struct.pack("=i4s4s", 0, spec_dst, b"\0\0\0\0")
            elif level in (socket.IPPROTO_IP, socket.IPPROTO_IPV6) and kind in _ECN_KINDS:
                mark = int.from_bytes(data, sys.byteorder) & _ECN_BITS
        return segment, local, mark

    def _twin_readable(self, twin: socket.socket) -> None:
        assert self._readable is not None  # noqa: S101  # there are twins once it was started
        self._twin = twin
        try:
            self._readable(self)
        finally:
            self._twin = None

    def _set_receiving(self, sock: socket.socket) -> bool:
        """Enable ancillary data on `sock`; returns whether it receives batches."""
        if self._is_wildcard:
            # Bound to every address, an answer must leave from the one it was asked at.
            _set_option(sock, socket.IPPROTO_IP, _IP_PKTINFO)
            if self._is_v6:
                _set_option(sock, socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO)
        _set_option(sock, socket.IPPROTO_IP, _IP_RECVTOS)  # of an IPv6 socket too: mapped addresses
        if self._is_v6:
            _set_option(sock, socket.IPPROTO_IPV6, _IPV6_RECVTCLASS)
        return _set_option(sock, socket.IPPROTO_UDP, _UDP_GRO)

    def _set_buffer(self, option: int, name: str, size: int) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, option, size)
        # Linux doubles what is asked for, to leave room for its own bookkeeping.
        actual = self.sock.getsockopt(socket.SOL_SOCKET, option) // 2
        if actual < size:
            limit = "net.core.rmem_max" if option == socket.SO_RCVBUF else "net.core.wmem_max"
            log.warning(
                "the UDP %s buffer is %d KiB instead of %d KiB, which costs packets under load; "
                "raise it with: sysctl -w %s=%d",
                name,
                actual // 1024,
                size // 1024,
                limit,
                size,
            )


def _batch_end(datagrams: Sequence[bytes], start: int) -> int:
    """The end of the longest run for one call: equal sizes, only the last may be shorter."""
    size = len(datagrams[start])
    total = size
    end = start + 1
    while end < len(datagrams) and end - start < _MAX_SEGMENTS:
        length = len(datagrams[end])
        total += length
        if length > size or total > _MAX_SEND_BYTES:
            break
        end += 1
        if length < size:
            break
    return end


def _set_option(sock: socket.socket, level: int, option: int, value: int = 1) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _accepts_segments(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True
