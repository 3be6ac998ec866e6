"""The preferred address of a server (RFC 9000 9.6, 18.2), to which clients migrate.

Uses private names of aioquic.
"""

import os
import socket
from collections.abc import Sequence
from typing import Any

from aioquic.quic.connection import QuicConnectionId
from aioquic.quic.events import ConnectionIdIssued

from tercel.quic.transport.migration import MigratingConnection
from tercel.quic.transport.varint import encode_varint

_PREFERRED_ADDRESS = 0x0D
# RFC 9000 5.1.1: its connection ID has this sequence number.
_SEQUENCE_NUMBER = 1
_RESET_TOKEN_BYTES = 16
_NO_ADDRESS = {socket.AF_INET: bytes(4 + 2), socket.AF_INET6: bytes(16 + 2)}


def encode_preferred_address(sockets: Sequence[socket.socket]) -> bytes:
    """Encode the addresses of bound `sockets`, at most one of each family, for the parameter.

    Empty if there are none.
    """
    if not sockets:
        return b""
    packed = dict(_NO_ADDRESS)
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        family = socket.AddressFamily(sock.family)
        packed[family] = socket.inet_pton(family, host) + port.to_bytes(2, "big")
    return packed[socket.AF_INET] + packed[socket.AF_INET6]


class PreferredAddressConnection(MigratingConnection):
    """A server's QUIC connection that sends its client a `preferred_address`, unless that is empty.

    The value is made by `encode_preferred_address`.
    """

    __slots__ = ("_preferred_address",)

    def __init__(self, *, preferred_address: bytes = b"", **options: Any) -> None:
        super().__init__(**options)
        self._preferred_address = preferred_address

    def _serialize_transport_parameters(self) -> bytes:
        parameters = super()._serialize_transport_parameters()
        if not self._preferred_address:
            return parameters
        cid = os.urandom(self._configuration.connection_id_length)
        issued = QuicConnectionId(
            cid=cid,
            sequence_number=_SEQUENCE_NUMBER,
            stateless_reset_token=self.reset_token_of(cid),
            was_sent=True,
        )
        self._host_cids.append(issued)
        self._host_cid_seq = _SEQUENCE_NUMBER + 1
        self._events.append(ConnectionIdIssued(connection_id=issued.cid))
        value = b"".join(
            (
                self._preferred_address,
                bytes((len(issued.cid),)),
                issued.cid,
                issued.stateless_reset_token,
            )
        )
        return parameters + encode_varint(_PREFERRED_ADDRESS) + encode_varint(len(value)) + value

    def reset_token_of(self, cid: bytes) -> bytes:
        """The stateless reset token for a connection ID."""
        return os.urandom(_RESET_TOKEN_BYTES)
