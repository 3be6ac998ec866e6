"""The opening handshake (RFC 6455 4.2, RFC 7692, RFC 9220): from request head to open WebSocket.

The same for an Upgrade on HTTP/1.1 and for an extended CONNECT, which has no key. Knows no I/O.
"""

import base64
import binascii
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidOrigin
from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
from websockets.headers import parse_subprotocol
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.utils import accept_key

from tercel.shared.errors import LocalProtocolError, RemoteProtocolError, Scope
from tercel.shared.logs import logger
from tercel.shared.messages import Fields, RequestHead, checked_fields, field_values
from tercel.shared.settings import Settings

VERSION = b"13"

# websockets logs every frame's payload at DEBUG and every end at INFO; neither is for our log.
_websockets_log = logger("tercel.websocket.protocol")
_websockets_log.setLevel(logging.WARNING)

# Fields that the handshake sets, so an application may not send them.
_OWN_FIELDS = frozenset(
    (
        b"connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"upgrade",
    )
)


class HandshakeRefused(RemoteProtocolError):
    """A request for a WebSocket that cannot be granted: answer with `status` and `fields`."""

    scope = Scope.STREAM

    def __init__(self, message: str, *, status: int = 400, fields: Fields | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.fields: Fields = fields or []


@dataclass(slots=True)
class Negotiated:
    """The result of the opening handshake."""

    status: int
    """101 for an Upgrade, 200 for an extended CONNECT."""
    fields: Fields
    """The response's fields, `upgrade` and `connection` included where they belong."""
    protocol: ServerProtocol
    """In its state OPEN, for `WebsocketImplProtocol`."""


def negotiate(
    head: RequestHead, settings: Settings, subprotocols: Sequence[str] | None = None
) -> Negotiated:
    """Open a WebSocket at once, with the first of `subprotocols` that the client offers.

    Without `subprotocols` none is chosen. Raises HandshakeRefused, also when there are some and
    the client offers none of them.
    """
    return Handshake(head, settings).choose(subprotocols)


class Handshake:
    """A request for a WebSocket that may be granted. Raises HandshakeRefused if it may not be."""

    def __init__(self, head: RequestHead, settings: Settings) -> None:
        self._head = head
        self._headers = _headers(head)
        self.protocol = ServerProtocol(
            origins=cast(list[Origin | None], list(settings.ws_origins)) or None,
            extensions=enable_server_permessage_deflate(None) if settings.ws_compression else None,
            state=State.OPEN,
            max_size=settings.ws_max_message_bytes,
            logger=_websockets_log,
        )
        self._fields: Fields = []
        self._check_version()
        if head.method != b"CONNECT":
            self._check_upgrade()
        elif field_values(head.fields, b"sec-websocket-key"):
            # RFC 8441 5: neither the key nor its answer means anything here. Clients that send
            # the key all the same (urllib3-future does) require the answer.
            self._fields.append((b"sec-websocket-accept", self._accept_value()))
        self.subprotocols: list[str] = []
        """The subprotocols that the client offers, in its order."""
        try:
            self.protocol.origin = self.protocol.process_origin(self._headers)
            for value in self._headers.get_all("Sec-WebSocket-Protocol"):
                self.subprotocols += parse_subprotocol(value)
            extensions, self.protocol.extensions = self.protocol.process_extensions(self._headers)
        except InvalidOrigin as error:
            raise HandshakeRefused(str(error), status=403) from error
        except InvalidHandshake as error:
            raise HandshakeRefused(str(error)) from error
        if extensions is not None:
            self._fields.append((b"sec-websocket-extensions", extensions.encode("ascii")))

    def choose(self, subprotocols: Sequence[str] | None = None) -> Negotiated:
        """Accept with the first of `subprotocols` that is offered. Raises HandshakeRefused."""
        self.protocol.available_subprotocols = cast(list[Subprotocol], list(subprotocols or ()))
        try:
            chosen = self.protocol.process_subprotocol(self._headers)
        except InvalidHandshake as error:
            raise HandshakeRefused(str(error)) from error
        return self.accept(chosen)

    def accept(self, subprotocol: str | None = None, fields: Fields | None = None) -> Negotiated:
        """Accept with `subprotocol` and with further response `fields`.

        Raises LocalProtocolError for a subprotocol that is not offered, and for fields that the
        handshake itself sets.
        """
        response = list(self._fields)
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                # RFC 6455 4.1: a client fails the connection for what it did not ask for.
                raise LocalProtocolError(f"subprotocol {subprotocol!r} is not offered")
            response.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        self.protocol.subprotocol = cast(Subprotocol | None, subprotocol)
        for name, value in checked_fields(fields or ()):
            if name in _OWN_FIELDS:
                raise LocalProtocolError(f"field {name!r} is the handshake's own")
            response.append((name, value))
        status = 200 if self._head.method == b"CONNECT" else 101
        return Negotiated(status=status, fields=response, protocol=self.protocol)

    def _check_version(self) -> None:
        # RFC 6455 4.2.2: name the supported version.
        if field_values(self._head.fields, b"sec-websocket-version") != [VERSION]:
            raise HandshakeRefused(
                "not version 13 of the WebSocket protocol",
                status=426,
                fields=[(b"sec-websocket-version", VERSION), *self._upgrade_fields()],
            )

    def _check_upgrade(self) -> None:
        if self._head.method != b"GET":
            raise HandshakeRefused(
                "a WebSocket is opened with GET", status=405, fields=[(b"allow", b"GET")]
            )
        # Connection and Upgrade were parsed with the head (RFC 9110 7.8).
        if self._head.protocol != b"websocket":
            raise HandshakeRefused(
                "no upgrade to websocket", status=426, fields=self._upgrade_fields()
            )
        self._fields += self._upgrade_fields()
        self._fields.append((b"sec-websocket-accept", self._accept_value()))

    def _accept_value(self) -> bytes:
        keys = field_values(self._head.fields, b"sec-websocket-key")
        try:
            valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
        except binascii.Error:
            valid = False
        if not valid:
            raise HandshakeRefused("Sec-WebSocket-Key is not one value of 16 bytes in base64")
        return accept_key(keys[0].decode("ascii")).encode("ascii")

    def _upgrade_fields(self) -> Fields:
        # RFC 9114 4.2: such fields do not exist in HTTP/3.
        if self._head.method == b"CONNECT":
            return []
        return [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]


def _headers(head: RequestHead) -> Headers:
    """The fields of the handshake, as the library wants them; any byte is a character."""
    return Headers(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in head.fields
        if name == b"origin" or name.startswith(b"sec-websocket-")
    )
