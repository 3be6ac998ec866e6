"""The error tree: the type says who is at fault, `scope` and `status` how far it reaches.

Knows nothing about wire codes: `tercel.quic.http3.errors` maps these types to HTTP/3 error codes.
"""

from enum import Enum


class Scope(Enum):
    """What a protocol error terminates."""

    STREAM = "stream"
    CONNECTION = "connection"


class ResetReason(Enum):
    """Why this side ends an exchange early.

    HTTP/3 sends it as an error code (RFC 9114 8.1); HTTP/1.1 can only close the connection.
    """

    NO_ERROR = "no error"
    INTERNAL_ERROR = "internal error"
    REQUEST_CANCELLED = "request cancelled"
    REQUEST_REJECTED = "request rejected"
    REQUEST_INCOMPLETE = "request incomplete"
    MESSAGE_ERROR = "malformed message"
    EXCESSIVE_LOAD = "excessive load"


class ServerError(Exception):
    """Anything tercel raises on purpose."""


class ConfigurationError(ServerError):
    """A wrong argument, file or certificate.

    Raised before any socket opens; the message is one line that says what to do.
    """


class ApplicationFailed(ServerError):
    """The application's own code failed before anything was served; `__cause__` is its error.

    `report` is its traceback, from the application's first frame on; empty when there is none.
    """

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report


class LocalProtocolError(ServerError):
    """The application broke the rules of an HTTP message or of its interface."""


class RemoteProtocolError(ServerError):
    """The peer broke the rules of the protocol.

    `status` is the status code to answer with, if that is still possible (RFC 9110 15.5).
    """

    status: int = 400
    scope: Scope = Scope.CONNECTION
    request_line: bytes | None = None
    """What is known of the method and target of the request that it ends, for the access log."""


class MalformedMessage(RemoteProtocolError):
    """A message that cannot be trusted (RFC 9112 2.2, RFC 9114 4.1.2)."""

    scope = Scope.STREAM


class IncompleteMessage(MalformedMessage):
    """A message that ended before it was complete (RFC 9110 6.1)."""


class UnsupportedTransferCoding(MalformedMessage):
    """A Transfer-Encoding other than chunked (RFC 9112 6.1)."""

    status = 501


class UnsupportedVersion(MalformedMessage):
    """A major HTTP version that this transport does not speak (RFC 9110 15.6.6)."""

    status = 505


class TargetTooLong(MalformedMessage):
    """A request target over `max_target_bytes` (RFC 9110 15.5.15)."""

    status = 414


class FieldsTooLarge(RemoteProtocolError):
    """A field section over its limit in bytes or in lines (RFC 6585 5)."""

    status = 431
    scope = Scope.STREAM


class ContentTooLarge(RemoteProtocolError):
    """Content over `max_content_bytes` (RFC 9110 15.5.14)."""

    status = 413
    scope = Scope.STREAM


class ExpectationFailed(RemoteProtocolError):
    """An Expect other than 100-continue (RFC 9110 10.1.1)."""

    status = 417
    scope = Scope.STREAM


class MethodNotAllowed(RemoteProtocolError):
    """A method that this server never passes to an application (RFC 9110 9.3.8)."""

    status = 405
    scope = Scope.STREAM


class TooEarly(RemoteProtocolError):
    """A request in early data that must not be replayed (RFC 8470 5.2)."""

    status = 425
    scope = Scope.STREAM


class TunnelRefused(RemoteProtocolError):
    """CONNECT to another host, which only a proxy serves (RFC 9110 9.3.6)."""

    status = 400
    scope = Scope.STREAM


class MisdirectedRequest(RemoteProtocolError):
    """A target that this connection does not serve (RFC 9110 7.4, 15.5.20)."""

    status = 421
    scope = Scope.STREAM


class NotImplementedByServer(RemoteProtocolError):
    """A request that needs a feature this server does not have (RFC 9110 15.6.2)."""

    status = 501
    scope = Scope.STREAM


class RequestTimeout(RemoteProtocolError):
    """The request did not arrive in time (RFC 9110 15.5.9)."""

    status = 408
    scope = Scope.STREAM


class StreamAborted(ServerError, OSError):
    """The peer gave up this exchange, or its connection is gone.

    An OSError, as ASGI asks of a server whose `send` is called after a disconnect.
    """


class ConnectionClosed(StreamAborted):
    """The connection ended under the exchange."""
