"""What each test case claims, checked against the files and the packets.

A check raises CheckFailed with the reason. What the server sent is read from the capture on the
server's side, what the client sent from the one on its own: there nothing is lost or changed yet.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

from interop import trace
from interop.tools import follows_paths, version_of
from interop.trace import Datagram, Trace

# RFC 9000 8.1: until it is validated, an address gets three times as much as came from it.
_AMPLIFICATION = 3
_LEAST_CHAIN_BYTES = 7500
_MOST_STREAMS = 1000
_CHACHA20 = 0x1303
# What the client may still send in 1-RTT packets: acknowledgements, and a few retransmissions.
_MOST_1RTT_BYTES = 5000
_LEAST_RESEND_HELLOS = 2
_CE = 3


class CheckFailed(Exception):
    """The reason why a test case has not passed."""


class NotCheckable(Exception):
    """Why nothing can be said here about a claim."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run has left behind."""

    served: Path
    downloaded: Path
    client: Trace
    """The capture on the client's side."""
    server: Trace
    """The capture on the server's side."""

    @property
    def server_initials(self) -> list[Datagram]:
        """Datagrams of the server with an Initial packet."""
        return [d for d in self.server.from_server if trace.INITIAL in d.types]

    @property
    def client_initials(self) -> list[Datagram]:
        """Datagrams of the client with an Initial packet."""
        return [d for d in self.client.from_client if trace.INITIAL in d.types]

    @property
    def client_unknown(self) -> list[Datagram]:
        """Datagrams of the client with a version that has not been given to any QUIC."""
        known = {trace.V1, trace.V2}
        return [d for d in self.client.from_client if d.versions and not d.versions & known]


def _if_readable(check: Callable[[Evidence], None]) -> Callable[[Evidence], None]:
    """`check` raises NotCheckable instead of CheckFailed if packets were not to be read."""

    @wraps(check)
    def checked(evidence: Evidence) -> None:
        try:
            check(evidence)
        except CheckFailed as failure:
            version = version_of("tshark")
            unread = sum(d.is_unread for d in evidence.client.datagrams)
            if follows_paths(version) or not unread:
                raise
            raise NotCheckable(
                f"tshark {version} lost track of the connection when its IDs or addresses "
                f"changed, and could not read {unread} packets; 4.4 can"
            ) from failure

    return checked


def files_are_identical(evidence: Evidence) -> None:
    """Every file came, and as it was."""
    for served in sorted(evidence.served.iterdir()):
        downloaded = evidence.downloaded / served.name
        if not downloaded.exists():
            raise CheckFailed(f"{served.name[:20]} was not downloaded")
        if _digest(downloaded) != _digest(served):
            raise CheckFailed(
                f"{served.name[:20]} differs: {downloaded.stat().st_size} bytes "
                f"of {served.stat().st_size}"
            )


def versions_were_offered(evidence: Evidence) -> None:
    """The server answered a version that it does not have with those that it has."""
    for hello in evidence.client_unknown:
        for d in evidence.server.from_server:
            # RFC 9000 17.2.1: both IDs are the client's, the other way round.
            if d.is_version_negotiation and (d.source_ids, d.destination_ids) == (
                hello.destination_ids[:1],
                hello.source_ids[:1],
            ):
                if trace.V1 not in d.offered_versions:
                    raise CheckFailed(f"versions offered: {_hex(d.offered_versions)}")
                return
    raise CheckFailed("there is no Version Negotiation packet for the client")


def version_1_only(evidence: Evidence) -> None:
    """The server's Initial packets have version 1."""
    versions = {version for d in evidence.server_initials for version in d.versions}
    if versions != {trace.V1}:
        raise CheckFailed(f"versions of the server's Initials: {_hex(versions)}")


def handshakes(count: int, evidence: Evidence) -> None:
    """There were exactly so many: by source connection IDs in the server's Initials."""
    found = len(_connections(evidence))
    if found != count:
        raise CheckFailed(f"{found} handshakes instead of {count}")


def no_retry(evidence: Evidence) -> None:
    """The server sent no Retry."""
    if any(trace.RETRY in d.types for d in evidence.server.from_server):
        raise CheckFailed("the server sent a Retry")


def hello_was_repeated(evidence: Evidence) -> None:
    """The client sent its ClientHello again before the first answer could come."""
    hellos = [d for d in evidence.client_initials if any(o == 0 for o, _ in d.crypto)]
    if len(hellos) < _LEAST_RESEND_HELLOS:
        raise CheckFailed(f"{len(hellos)} ClientHellos")


def only_chacha20(evidence: Evidence) -> None:
    """The client offered one cipher suite."""
    suites = {s for d in evidence.client.from_client for s in d.cipher_suites}
    if suites != {_CHACHA20}:
        raise CheckFailed(f"cipher suites offered: {_hex(suites)}")


def few_streams(evidence: Evidence) -> None:
    """The server allows so few streams that the client has to wait for more."""
    limits = {n for d in evidence.server.from_server for n in d.max_streams_bidi}
    if not limits:
        raise CheckFailed("no initial_max_streams_bidi was seen; is there a key log?")
    if max(limits) > _MOST_STREAMS:
        raise CheckFailed(f"initial_max_streams_bidi is {max(limits)}")


def retry_was_followed(evidence: Evidence) -> None:
    """A Retry was sent, and an Initial with its token went on counting packets."""
    if not any(trace.RETRY in d.types for d in evidence.server.from_server):
        raise CheckFailed("the server sent no Retry")
    with_token = [d for d in evidence.client_initials if d.has_token]
    if not with_token:
        raise CheckFailed("the client sent no Initial with a token")
    without = [d.packet_numbers[0] for d in evidence.client_initials if not d.has_token]
    if with_token[0].packet_numbers[0] <= max(without, default=-1):
        # RFC 9000 17.2.5.3
        raise CheckFailed("the client began to count its packets anew after Retry")


def second_has_no_certificate(evidence: Evidence) -> None:
    """Of two handshakes, the first has a Certificate and the second none."""
    handshakes(2, evidence)
    certified = {
        d.source_ids[0]
        for d in evidence.server.from_server
        if d.source_ids and trace.CERTIFICATE in d.handshake_types
    }
    first, second = _connections(evidence)
    if first not in certified:
        raise CheckFailed("no Certificate was seen in the first handshake; is there a key log?")
    if second in certified:
        raise CheckFailed("there is a Certificate in the second handshake")


def early_data_was_used(evidence: Evidence) -> None:
    """The requests of the second connection were sent in 0-RTT packets."""
    handshakes(2, evidence)
    if not any(trace.ZERO_RTT in d.types for d in evidence.client.from_client):
        raise CheckFailed("the client sent no 0-RTT packet")
    late = sum(d.short_bytes for d in evidence.client.from_client)
    if late > _MOST_1RTT_BYTES:
        raise CheckFailed(f"the client sent {late} bytes in 1-RTT packets")


@_if_readable
def keys_were_updated(evidence: Evidence) -> None:
    """Both sides sent packets in key phase 1."""
    for name, datagrams in _both_sides(evidence):
        if not any(True in d.key_phases for d in datagrams):
            raise CheckFailed(f"the {name} sent no packet in key phase 1")


@_if_readable
def marks_were_echoed(evidence: Evidence) -> None:
    """Both sides mark packets with ECT, count the other's marks in ACK_ECN, and see no CE."""
    for name, datagrams in _both_sides(evidence):
        marks = {d.ecn for d in datagrams}
        if _CE in marks:
            raise CheckFailed(f"the {name} sent CE")
        if not marks - {0}:
            raise CheckFailed(f"the {name} sent no packet with ECT")
        if not any(trace.ACK_ECN in d.frame_types for d in datagrams):
            raise CheckFailed(f"the {name} sent no ACK_ECN frame")


def not_amplified(evidence: Evidence) -> None:
    """The server sent at most three times what it had, until the client's address was valid."""
    longest = max(
        (
            o + n
            for d in evidence.server.from_server
            for o, n in d.crypto
            if trace.HANDSHAKE in d.types
        ),
        default=0,
    )
    if longest < _LEAST_CHAIN_BYTES:
        raise CheckFailed(f"only {longest} bytes of CRYPTO: the chain is too short to tell")
    received = sent = 0
    for d in evidence.server.datagrams:
        if d.from_server:
            sent += d.size
            if sent > _AMPLIFICATION * received:
                raise CheckFailed(f"the server sent {sent} bytes after it got {received}")
        else:
            received += d.size
            if trace.HANDSHAKE in d.types:
                return
    raise CheckFailed("the client sent no Handshake packet")


def no_ipv4(evidence: Evidence) -> None:
    """Everything went over IPv6."""
    if any(d.is_ipv4 for d in evidence.server.datagrams):
        raise CheckFailed("there are IPv4 packets")


def version_2_was_negotiated(evidence: Evidence) -> None:
    """The client began with version 1, and the server went on with version 2 (RFC 9368)."""
    if trace.V1 not in evidence.client_initials[0].versions:
        raise CheckFailed("the client did not begin with version 1")
    versions = {version for d in evidence.server_initials for version in d.versions}
    if versions != {trace.V2}:
        raise CheckFailed(f"versions of the server's Initials: {_hex(versions)}")
    for name, datagrams in _both_sides(evidence):
        found = {v for d in datagrams if trace.HANDSHAKE in d.types for v in d.versions}
        if found != {trace.V2}:
            raise CheckFailed(f"versions of the {name}'s Handshake packets: {_hex(found)}")


@_if_readable
def port_changed(evidence: Evidence) -> None:
    """The client was seen at several ports, and each new path was validated."""
    _paths_were_validated(evidence)
    if len({d.client[1] for d in evidence.server.from_client}) < 2:
        raise CheckFailed("the client's port did not change")


@_if_readable
def address_changed(evidence: Evidence) -> None:
    """The client was seen at several addresses, and each new path was validated."""
    _paths_were_validated(evidence)
    if len({d.client[0] for d in evidence.server.from_client}) < 2:
        raise CheckFailed("the client's address did not change")


@_if_readable
def server_address_was_left(evidence: Evidence) -> None:
    """The client went over to the preferred address: challenged it first, by another ID."""
    servers = list(dict.fromkeys(d.server for d in evidence.client.from_client))
    if len(servers) < 2:
        raise CheckFailed("the client stayed at the server's first address")
    old, new = (
        [d for d in evidence.client.from_client if d.server == server]
        for server in (servers[0], servers[-1])
    )
    if not new[0].path_challenges:
        raise CheckFailed("the client's first packet to the preferred address is no challenge")
    moved = [d for d in evidence.server.from_server if d.server == servers[-1]]
    if not any(data in d.path_responses for d in moved for data in new[0].path_challenges):
        raise CheckFailed("the server did not answer the challenge from its preferred address")
    if {i for d in old for i in d.destination_ids} & set(new[0].destination_ids):
        # RFC 9000 9.5: else both paths could be linked. As the runner, of the first packet only:
        # ngtcp2's client may send an acknowledgement behind its challenge to the same address,
        # though it belongs to the path before.
        raise CheckFailed("the first packet to the preferred address has an ID of the path before")
    if len(moved) < len(evidence.server.from_server) // 2:
        raise CheckFailed("the server sent less than half from its preferred address")


def _paths_were_validated(evidence: Evidence) -> None:
    paths: set[tuple[str, int]] = set()
    challenges: set[str] = set()
    for d in evidence.server.from_server:
        if d.client in paths:
            continue
        if paths:
            if not d.path_challenges:
                # RFC 9000 9.3: nothing else tells whether somebody is there.
                where = f"{d.client[0]}:{d.client[1]}"
                raise CheckFailed(f"the server's first packet to {where} is no challenge")
            challenges.update(d.path_challenges)
        paths.add(d.client)
    if len(paths) < 2:
        raise CheckFailed("the server saw one path only")
    answered = {data for d in evidence.server.from_client for data in d.path_responses}
    if challenges - answered:
        raise CheckFailed(f"{len(challenges - answered)} path challenges were not answered")


def _connections(evidence: Evidence) -> list[str]:
    return list(dict.fromkeys(d.source_ids[0] for d in evidence.server_initials))


def _both_sides(evidence: Evidence) -> Sequence[tuple[str, list[Datagram]]]:
    return ("client", evidence.client.from_client), ("server", evidence.server.from_server)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hex(values: set[int]) -> str:
    return ", ".join(sorted(f"0x{value:x}" for value in values)) or "none"
