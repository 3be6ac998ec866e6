"""The UDP side of the server: routes datagrams to connections and admits new ones.

Each wake-up takes a bounded batch of datagrams, gives each to its connection, and handles the
events of each of these connections once. What they and the applications then send leaves in one
flush at the end of the loop iteration.
"""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from tercel.certs.context import quic_identities
from tercel.certs.load import Credential
from tercel.quic.admission import Admission, AdmissionControl
from tercel.quic.draining_ids import DrainingConnectionIds
from tercel.quic.http3.errors import ErrorCode
from tercel.quic.http3.protocol import H3_ALPN, Http3Protocol
from tercel.quic.qlog import QlogDirectory
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.packet_header import connection_ids
from tercel.quic.transport.preferred_address import encode_preferred_address
from tercel.quic.transport.resumption import Sessions
from tercel.quic.transport.tokens import Tokens, read_key_ring
from tercel.quic.udp import Datagram, Path, UdpSocket
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.listener import Listener
from tercel.shared.logs import logger
from tercel.shared.private_files import append_private
from tercel.shared.sockets import HostPort

log = logger("tercel.quic")

# Datagrams handled before other work gets its turn. At some 50 microseconds each, a batch stays
# within a few milliseconds.
_BATCH = 64
# Handshakes begun in one turn of the loop; each takes one or two milliseconds.
_HANDSHAKES = 2
_CID_BYTES = 8
# RFC 9000 17.3: a short header has the connection ID behind its first byte.
_LONG_HEADER = 0x80
_SHORT_CID_END = 1 + _CID_BYTES
# Connections that keep what comes for them when a successor takes the port, by a socket each; those
# with exchanges that run go first.
MAX_HANDED_OVER = 1024
# The reason phrases of refusals (RFC 9000 19.19).
_STOPPING, _OVERLOADED = "the server is stopping", "the server takes no more connections"
# RFC 9000 7.2: what a client makes up to send its first Initial to is at least this long.
_LEAST_CLIENT_CID_BYTES = 8


class QuicEndpoint(Listener):
    """QUIC on one or more bound UDP sockets."""

    def __init__(
        self,
        context: ServerContext,
        sockets: Sequence[socket.socket],
        credentials: Sequence[Credential],
        *,
        protocol: type[Http3Protocol] = Http3Protocol,
        alpn: Sequence[str] = (H3_ALPN,),
        preferred: Sequence[socket.socket] = (),
    ) -> None:
        """`preferred` are bound to the preferred address (RFC 9000 9.6), which clients migrate to.

        `alpn` are the names of the application protocols that `protocol` speaks.
        """
        self.context = context
        self._alpn = list(alpn)
        self._advertised = list(sockets)
        self._bound = [*sockets, *preferred]
        self._preferred_address = encode_preferred_address(preferred)
        self._sockets: list[UdpSocket] = []
        self._protocol = protocol
        self._keylog: Any = None
        self._identify = quic_identities(credentials)
        self._configuration = self._configure()
        self._ring = read_key_ring(context.settings.token_key)
        self._sessions = Sessions(
            Tokens(context.wall_clock, self._ring),
            context.wall_clock,
            early_data=context.settings.early_data,
        )
        self._entrance = AdmissionControl(context, self._ring, cid_bytes=_CID_BYTES)
        self._by_cid: dict[bytes, Http3Protocol] = {}
        self._connections: dict[Http3Protocol, set[bytes]] = {}
        self._departed = DrainingConnectionIds()
        self._half_open: dict[Http3Protocol, Admission] = {}
        self._to_flush: dict[Http3Protocol, None] = {}
        self._reading = False
        self._newcomers: deque[tuple[bytes, Admission | None, Datagram]] = deque()
        """Queued Initials: (DCID, admission, or None for a later datagram of that flight,
        datagram)."""
        self._expected: set[bytes] = set()
        """The DCIDs of queued Initials whose connection is not open yet."""
        self._opening = False
        self._accepting = False
        self.behind_at = -math.inf
        """Time of the last full receive batch: datagrams were probably left in the socket."""
        self._drained = asyncio.Event()

    # -- Listener ---------------------------------------------------------------------------------

    async def start(self) -> None:
        settings = self.context.settings
        self._sockets = [
            UdpSocket(sock, self.context.loop, buffer_bytes=settings.udp_buffer_bytes)
            for sock in self._bound
        ]
        self._accepting = True
        for sock in self._sockets:
            sock.start(self._readable)

    def is_serving(self) -> bool:
        return self._accepting

    def stop_accepting(self) -> None:
        was_accepting, self._accepting = self._accepting, False
        for _, admission, (data, path, _) in self._newcomers:
            if admission is not None:
                self._entrance.places.leave(admission.validated_host)
                self._entrance.refuse(data, path, _STOPPING)
        self._newcomers.clear()
        self._expected.clear()
        for connection in list(self._connections):
            connection.stop_accepting()
        if was_accepting:
            self._hand_over()

    async def drain(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while not self._is_drained():
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._accepting = False
        for connection in list(self._connections):
            connection.close(ErrorCode.NO_ERROR, "server shut down")
        self._flush(self._to_flush)

    async def wait_closed(self) -> None:
        # What was sent last, CONNECTION_CLOSE included, is in the kernel's hands. RFC 9000 10.2
        # would keep closing connections to answer late packets; a server that ends does not.
        for connection in list(self._connections):
            connection.abandon()
        for sock in self._sockets:
            sock.close()
        for bound in self._bound:
            bound.close()
        if self._keylog is not None:
            self._keylog.close()

    @property
    def addresses(self) -> list[str]:
        return [
            str(HostPort(*sock.getsockname()[:2]))
            for sock in self._advertised
            if sock.fileno() >= 0
        ]

    def _hand_over(self) -> None:
        """Let a successor bind the ports, and keep the connections."""
        kept = [item for item in self._connections if item not in self._half_open]
        kept = sorted(kept, key=lambda connection: connection.idle)[:MAX_HANDED_OVER]
        paths: list[Any] = [connection.quic.get_peer_address() for connection in kept]
        for sock in self._sockets:
            sock.hand_over(path for path in paths if path.socket is sock)

    # -- what connections call ------------------------------------------------------------------

    def add_connection_id(self, cid: bytes, connection: Any) -> None:
        """Route datagrams for `cid` to `connection`."""
        self._by_cid[cid] = connection
        self._connections.setdefault(connection, set()).add(cid)

    def remove_connection_id(self, cid: bytes) -> None:
        """Stop routing datagrams for `cid`."""
        connection = self._by_cid.pop(cid, None)
        if connection is not None:
            self._connections[connection].discard(cid)

    def connection_terminated(self, connection: Any) -> None:
        """Forget a connection."""
        cids = self._connections.pop(connection, None)
        if cids is not None:
            for cid in cids:
                self._by_cid.pop(cid, None)
            admission = self._half_open.pop(connection, None)
            if admission is not None:
                self._entrance.places.leave(admission.validated_host)
            if admission is None or admission.validated_host is not None:
                self.context.limits.close_connection(_host(connection))
        self._to_flush.pop(connection, None)
        self._drained.set()

    def connection_drains(self, connection: Any, until: float) -> None:
        """Drop, unanswered, datagrams for a connection that is about to be forgotten."""
        cids = self._connections.get(connection, ())
        self._departed.add(cids, until, self.context.clock())

    def flush_soon(self, connection: Any) -> None:
        """Let `connection` transmit at the end of this loop iteration."""
        if not self._to_flush and not self._reading:
            self.context.loop.call_soon(self._flush, self._to_flush)
        self._to_flush[connection] = None

    def drained_soon(self, connection: Http3Protocol) -> None:
        """Check again whether shutdown has to wait."""
        if connection.idle:
            self._drained.set()

    def give_up(self, connection: Any, error: Exception) -> None:
        """Forget a connection after a defect of the server or a shortage of memory."""
        self._close_faulty(connection, error)
        connection.abandon()

    def send(self, datagrams: list[tuple[bytes, Path]], mark: int = 0) -> bool:
        """Send what a connection built, in as few system calls as possible.

        `mark` is for the ECN field; returns whether it can be set.
        """
        path = datagrams[0][1]
        batch: list[bytes] = []
        for datagram, its_path in datagrams:
            if its_path is not path and its_path != path:
                path.socket.send(batch, path, mark)
                batch, path = [], its_path
            batch.append(datagram)
        path.socket.send(batch, path, mark)
        return not mark or path.socket.sends_marks

    # -- datagrams ------------------------------------------------------------------------------

    def _readable(self, sock: UdpSocket) -> None:
        self._to_flush, self._reading = {}, True
        try:
            self._take(sock.receive(_BATCH))
        except MemoryError:
            # What was in the batch is lost, which clients are used to.
            self.context.limits.memory_ran_out()
        finally:
            self._reading = False
            for connection in self._to_flush:
                if connection.answering:
                    # Applications that become ready now run before this flush, so that each
                    # response leaves together with the acknowledgement of its request: 1.0
                    # datagrams, not 2.1.
                    self.context.loop.call_soon(self._flush, self._to_flush)
                    break
            else:
                # Everything is answered already; a turn of the loop is a system call.
                self._flush(self._to_flush)

    def _take(self, datagrams: list[Datagram]) -> None:
        now = self.context.clock()
        if len(datagrams) >= _BATCH:
            self.behind_at = now
        touched: dict[Http3Protocol, None] = {}
        for datagram in datagrams:
            data, path, mark = datagram
            connection = self._by_cid.get(data[1:_SHORT_CID_END])
            if connection is None or data[0] & _LONG_HEADER:
                connection = self._route(datagram)
                if connection is None:
                    continue
            touched[connection] = None
            try:
                connection.receive_datagram(data, path, now, mark)
            except Exception as error:
                self._close_faulty(connection, error)
        for connection in touched:
            self._handle(connection)
        if self._newcomers and not self._opening:
            self._open_newcomers()

    def _receive(self, connection: Http3Protocol, datagram: Datagram, now: float) -> None:
        data, path, mark = datagram
        try:
            connection.receive_datagram(data, path, now, mark)
        except Exception as error:
            self._close_faulty(connection, error)

    def _handle(self, connection: Http3Protocol) -> None:
        """Let a connection handle what it received."""
        try:
            if connection in self._half_open:
                self._settle(connection)
            connection.process_events()
        except Exception as error:
            self._close_faulty(connection, error)
        if not connection.terminated and connection.needs_transmit():
            self.flush_soon(connection)

    def _close_faulty(self, connection: Http3Protocol, error: Exception) -> None:
        # A defect that one connection meets must not cost the others their turn.
        if isinstance(error, MemoryError):
            self.context.limits.memory_ran_out()
        else:
            log.error("%s: internal error", connection.info.client_name, exc_info=error)
        try:
            connection.close(ErrorCode.INTERNAL_ERROR, "internal error")
        except Exception:
            connection.abandon()

    def _flush(self, connections: dict[Http3Protocol, None]) -> None:
        if connections is self._to_flush:
            self._to_flush = {}
        for connection in connections:
            try:
                connection.transmit()
            except Exception as error:
                self.give_up(connection, error)

    def _route(self, datagram: Datagram) -> Http3Protocol | None:
        """The connection of a datagram without a short header and known connection ID."""
        data, path, _ = datagram
        if not data:
            return None
        if data[0] & _LONG_HEADER:
            return self._route_long(datagram)
        if data[1:_SHORT_CID_END] not in self._departed:
            self._entrance.reset(data, path)
        return None

    def _route_long(self, datagram: Datagram) -> Http3Protocol | None:
        data = datagram[0]
        # RFC 8999 5.1: where every version has the connection ID it is sent to.
        cid = data[6 : 6 + data[5]] if len(data) > 6 else b""
        known = self._by_cid.get(cid)
        if known is None and cid in self._expected:
            # The rest of a first flight: a long ClientHello, or 0-RTT.
            if len(self._newcomers) < self.context.settings.max_half_open_connections:
                self._newcomers.append((cid, None, datagram))
            return None
        # RFC 9000 14.1: an Initial in less than 1,200 bytes gets no answer at all, so that a
        # forged one cannot be used to reach somebody else.
        if (
            known is None
            and cid not in self._departed
            and len(data) >= SMALLEST_MAX_DATAGRAM_SIZE
            and not self._entrance.is_shed(data)
        ):
            self._receive_unknown(datagram)
        return known

    def _receive_unknown(self, datagram: Datagram) -> None:
        """Receive a long-header packet of no known connection, in a datagram of full size."""
        data, path, _ = datagram
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_CID_BYTES)
        except ValueError:
            self._negotiate_version(data, path)
            return
        if header.version not in self._configuration.supported_versions:
            self._negotiate_version(data, path)
        elif (
            header.packet_type is QuicPacketType.INITIAL
            and len(header.destination_cid) >= _LEAST_CLIENT_CID_BYTES
        ):
            self._admit(header, datagram)

    def _negotiate_version(self, data: bytes, path: Path) -> None:
        # RFC 8999 5.1: the invariants of every version. Version 0 is itself a Version
        # Negotiation packet, which must not be answered (RFC 9000 6.1).
        version = int.from_bytes(data[1:5], "big")
        destination, source, _ = connection_ids(data)
        if version == 0 or version in self._configuration.supported_versions:
            return
        path.socket.send(
            [
                encode_quic_version_negotiation(
                    source_cid=destination,
                    destination_cid=source,
                    supported_versions=self._configuration.supported_versions,
                )
            ],
            path,
        )

    # -- new connections --------------------------------------------------------------------------

    def _admit(self, header: QuicHeader, datagram: Datagram) -> None:
        """Queue an Initial that may open a connection; otherwise refuse or drop it.

        It is refused if the server will not serve the client, however often it retries. It is
        dropped if a retry is worthwhile: while too many handshakes are in progress, each of which
        is short.
        """
        data, path, _ = datagram
        if not self._accepting:
            self._entrance.refuse(data, path, _STOPPING)
            return
        if not self.context.limits.admits_connection(path.peer[0]):
            # Now, and not after a handshake in vain: the answer is less than what came, whoever
            # sent that, and nothing is kept.
            self._entrance.refuse(data, path, _OVERLOADED)
            return
        admission = self._entrance.admit(header, data, path)
        if admission is None:
            return
        self._newcomers.append((header.destination_cid, admission, datagram))
        self._expected.add(header.destination_cid)

    def _open_newcomers(self) -> None:
        """Open a few connections, and the others in later loop iterations.

        A handshake takes milliseconds: established connections must not wait for a hundred of them.
        """
        self._opening = False
        now = self.context.clock()
        for _ in range(min(_HANDSHAKES, len(self._newcomers))):
            client_cid, admission, datagram = self._newcomers.popleft()
            connection = self._by_cid.get(client_cid)
            if admission is not None:
                self._expected.discard(client_cid)
                connection = self._open(client_cid, admission, datagram)
            if connection is None:
                continue
            self._receive(connection, datagram, now)
            self._handle(connection)
        if self._newcomers:
            self._opening = True
            self.context.loop.call_soon(self._open_newcomers)

    def _open(
        self, client_cid: bytes, admission: Admission, datagram: Datagram
    ) -> Http3Protocol | None:
        """Open the admitted connection; None if a limit no longer allows it."""
        data, path, _ = datagram
        limits, host = self.context.limits, admission.validated_host
        # Others are counted when their handshake has shown that they are there.
        if host is not None and not limits.open_connection(host):
            self._entrance.places.leave(host)
            self._entrance.refuse(data, path, _OVERLOADED)
            return None
        try:
            return self._create(client_cid, admission, path)
        except MemoryError:
            self._entrance.places.leave(host)
            if host is not None:
                limits.close_connection(host)
            limits.memory_ran_out()
            return None

    def _create(self, client_cid: bytes, admission: Admission, path: Path) -> Http3Protocol:
        host = path.peer[0]
        quic = QuicServerConnection(
            configuration=self._configuration,
            identify=self._identify,
            settings=self.context.settings,
            narrowing=self.context.limits.buffers.narrowing,
            original_destination_connection_id=admission.original_cid,
            retry_source_connection_id=admission.retry_cid,
            address_validated=admission.validated_host is not None,
            reset_token=self._ring.reset_token,
            new_token=partial(self._entrance.new_token, host),
            sessions=self._sessions,
            preferred_address=self._preferred_address,
            ends=_ends,
        )
        info = ConnectionInfo(client=(host, path.peer[1]), server=path.local_address(), secure=True)
        connection = self._protocol(
            quic,
            app=self.context.application,
            endpoint=self,
            context=self.context,
            info=info,
        )
        self.add_connection_id(client_cid, connection)
        self.add_connection_id(quic.host_cid, connection)
        self._half_open[connection] = admission
        return connection

    def _settle(self, connection: Http3Protocol) -> None:
        """Check whether a connection is no longer half-open, before any request of it is served."""
        if connection.quic.handshake_completed:
            host = self._half_open[connection].validated_host
            # RFC 9000 8.1: a completed handshake shows the client's address.
            if host is None and not self.context.limits.open_connection(_host(connection)):
                connection.refuse(_OVERLOADED)
                return
            del self._half_open[connection]
            self._entrance.places.leave(host)
        elif not connection.quic.has_received_packet:
            # Nothing in its first datagram could be decrypted: not worth keeping.
            connection.abandon()

    def _is_drained(self) -> bool:
        return all(connection.idle for connection in self._connections)

    def _configure(self) -> QuicConfiguration:
        settings = self.context.settings
        configuration = QuicConfiguration(
            alpn_protocols=self._alpn,
            is_client=False,
            congestion_control_algorithm=settings.congestion_control,
            connection_id_length=_CID_BYTES,
            idle_timeout=settings.idle_timeout,
            max_data=settings.connection_window_bytes,
            max_stream_data=settings.stream_window_bytes,
        )
        identity = self._identify(None)
        configuration.certificate = identity.certificate
        configuration.certificate_chain = identity.certificate_chain
        configuration.private_key = identity.private_key
        if settings.keylog_file is not None:
            self._keylog = append_private(settings.keylog_file)
            configuration.secrets_log_file = self._keylog
        if settings.qlog_dir is not None:
            configuration.quic_logger = QlogDirectory(settings.qlog_dir, self.context.wall_clock)
        return configuration


def _host(connection: Any) -> str:
    """The client's first address, which its connection is counted by."""
    host: str = connection.info.client[0]
    return host


def _ends(path: Path) -> tuple[Any, Any]:
    return path.peer[0], (path.socket, path.local)
