"""A capture as tshark sees it: one row per QUIC datagram, decrypted with the key log."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interop.tools import tool

V1, V2 = 0x00000001, 0x6B3343CF

INITIAL, ZERO_RTT, HANDSHAKE, RETRY = "initial", "0-rtt", "handshake", "retry"
# RFC 9369 3.2: version 2 numbers the same types in another order.
_TYPES = {"0": INITIAL, "1": ZERO_RTT, "2": HANDSHAKE, "3": RETRY}
_TYPES_V2 = {"1": INITIAL, "2": ZERO_RTT, "3": HANDSHAKE, "0": RETRY}

ACK_ECN = 0x03
CERTIFICATE = 11

_FIELDS = (
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "ip.dsfield.ecn",
    "ipv6.tclass.ecn",
    "quic.header_form",
    "quic.packet_length",
    "quic.version",
    "quic.supported_version",
    "quic.long.packet_type",
    "quic.long.packet_type_v2",
    "quic.scid",
    "quic.dcid",
    "quic.packet_number",
    "quic.token_length",
    "quic.key_phase",
    "quic.frame_type",
    "quic.crypto.offset",
    "quic.crypto.length",
    "quic.path_challenge.data",
    "quic.path_response.data",
    "tls.handshake.type",
    "tls.handshake.ciphersuite",
    "tls.quic.parameter.initial_max_streams_bidi",
)
_UDP_HEADER_BYTES = 8
# The server's; the second is its preferred address, where it has no second IP address.
_PORTS = (443, 4443)
_LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Datagram:
    """One datagram; of packets that are coalesced, each column has all values in order."""

    columns: dict[str, list[str]]

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return float(self.columns["frame.time_epoch"][0])

    @property
    def from_server(self) -> bool:
        """Whether the server sent it."""
        return self._number("udp.srcport") in _PORTS

    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client."""
        side = "dst" if self.from_server else "src"
        return self._address(side), self._number(f"udp.{side}port")

    @property
    def server(self) -> tuple[str, int]:
        """Address and port of the server."""
        side = "src" if self.from_server else "dst"
        return self._address(side), self._number(f"udp.{side}port")

    @property
    def is_ipv4(self) -> bool:
        """Whether it is in an IPv4 packet."""
        return bool(self.columns["ip.src"])

    @property
    def size(self) -> int:
        """Bytes of the UDP payload."""
        return self._number("udp.length") - _UDP_HEADER_BYTES

    @property
    def ecn(self) -> int:
        """The ECN field: 1 and 2 are marks of ECT, 3 is CE (RFC 3168 5)."""
        return int((self.columns["ip.dsfield.ecn"] + self.columns["ipv6.tclass.ecn"])[0], 0)

    @property
    def versions(self) -> set[int]:
        """Versions in long headers."""
        return {int(value, 0) for value in self.columns["quic.version"]}

    @property
    def is_version_negotiation(self) -> bool:
        """Whether it is a Version Negotiation packet (RFC 9000 17.2.1)."""
        return self.versions == {0}

    @property
    def offered_versions(self) -> set[int]:
        """Versions that a Version Negotiation packet lists."""
        return {int(value, 0) for value in self.columns["quic.supported_version"]}

    @property
    def types(self) -> list[str]:
        """Types of its packets with long headers."""
        types = [_TYPES[value] for value in self.columns["quic.long.packet_type"]]
        return types + [_TYPES_V2[value] for value in self.columns["quic.long.packet_type_v2"]]

    @property
    def short_bytes(self) -> int:
        """Bytes behind the connection ID of its packet with a short header, 0 if there is none.

        Behind the first byte, if tshark has not found out how long the ID is.
        """
        # Such a packet is the last of its datagram (RFC 9000 12.2).
        forms = self.columns["quic.header_form"]
        if not forms or _true(forms[-1]):
            return 0
        id_bytes = len(self.destination_ids[-1]) // 2 if self.destination_ids else 0
        return int(self.columns["quic.packet_length"][-1]) - 1 - id_bytes

    @property
    def is_unread(self) -> bool:
        """Whether it has a packet with a short header that could not be decrypted."""
        forms = self.columns["quic.header_form"]
        return bool(forms) and not _true(forms[-1]) and len(self.columns["quic.packet_number"]) == 0

    @property
    def frame_types(self) -> set[int]:
        """Types of all frames that could be decrypted."""
        return {int(value, 0) for value in self.columns["quic.frame_type"]}

    @property
    def packet_numbers(self) -> list[int]:
        """Numbers of the packets that could be decrypted."""
        return [int(value) for value in self.columns["quic.packet_number"]]

    @property
    def source_ids(self) -> list[str]:
        """Source connection IDs."""
        return self.columns["quic.scid"]

    @property
    def destination_ids(self) -> list[str]:
        """Destination connection IDs."""
        return self.columns["quic.dcid"]

    @property
    def has_token(self) -> bool:
        """Whether an Initial in it has a token."""
        return any(int(value) for value in self.columns["quic.token_length"])

    @property
    def key_phases(self) -> set[bool]:
        """Key phases of packets with short headers."""
        return {_true(value) for value in self.columns["quic.key_phase"]}

    @property
    def crypto(self) -> list[tuple[int, int]]:
        """Offset and length of each CRYPTO frame."""
        offsets, lengths = self.columns["quic.crypto.offset"], self.columns["quic.crypto.length"]
        return [(int(o), int(n)) for o, n in zip(offsets, lengths, strict=False)]

    @property
    def path_challenges(self) -> list[str]:
        """Data of PATH_CHALLENGE frames."""
        return self.columns["quic.path_challenge.data"]

    @property
    def path_responses(self) -> list[str]:
        """Data of PATH_RESPONSE frames."""
        return self.columns["quic.path_response.data"]

    @property
    def handshake_types(self) -> set[int]:
        """Types of TLS handshake messages."""
        return {int(value) for value in self.columns["tls.handshake.type"]}

    @property
    def cipher_suites(self) -> set[int]:
        """Cipher suites that its TLS handshake messages name."""
        return {int(value, 0) for value in self.columns["tls.handshake.ciphersuite"]}

    @property
    def max_streams_bidi(self) -> list[int]:
        """Values of the transport parameter initial_max_streams_bidi."""
        return [int(v) for v in self.columns["tls.quic.parameter.initial_max_streams_bidi"]]

    def _address(self, side: str) -> str:
        return (self.columns[f"ip.{side}"] + self.columns[f"ipv6.{side}"])[0]

    def _number(self, name: str) -> int:
        return int(self.columns[name][0])


class Trace:
    """One capture. Read by tshark when it is first asked for."""

    def __init__(self, capture: Path, keylog: Path) -> None:
        self._capture = capture
        self._keylog = keylog

    @cached_property
    def datagrams(self) -> list[Datagram]:
        """All QUIC datagrams, in order."""
        command = [
            *tool("tshark"),
            *("-r", str(self._capture), "-o", f"tls.keylog_file:{self._keylog}"),
            *[part for port in _PORTS for part in ("-d", f"udp.port=={port},quic")],
            *("-Y", "quic && !icmp && !icmpv6"),
            *("-T", "fields", "-E", "separator=/t", "-E", "aggregator=;", "-E", "occurrence=a"),
        ]
        for name in _FIELDS:
            command += ["-e", name]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
        if result.returncode:
            raise RuntimeError(f"tshark: {result.stderr}")
        return [_row(line) for line in result.stdout.splitlines()]

    @cached_property
    def from_server(self) -> list[Datagram]:
        """Those of the server."""
        return [datagram for datagram in self.datagrams if datagram.from_server]

    @cached_property
    def from_client(self) -> list[Datagram]:
        """Those of the client."""
        return [datagram for datagram in self.datagrams if not datagram.from_server]


def _row(line: str) -> Datagram:
    cells = line.split("\t")
    return Datagram(
        {name: cell.split(";") if cell else [] for name, cell in zip(_FIELDS, cells, strict=True)}
    )


def _true(value: str) -> bool:
    return value in ("1", "True", "true")
