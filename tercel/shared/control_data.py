"""The control data of requests (RFC 9110 6.2): valid and supported methods, schemes and targets.

One grammar for every HTTP version, so that all of them reject the same requests. Knows neither
request lines nor pseudo-header fields.
"""

import re
from ipaddress import AddressValueError, IPv6Address

from tercel.shared.errors import (
    MalformedMessage,
    MethodNotAllowed,
    MisdirectedRequest,
    NotImplementedByServer,
    RemoteProtocolError,
    TunnelRefused,
)
from tercel.shared.messages import RequestHead

# What an application may be asked with: of the methods that are registered (RFC 9110 16.1.1) or in
# wide use those that llhttp knows, so that each HTTP version serves the same.
SERVED_METHODS = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR "
    b"MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT "
    b"SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
KNOWN_METHODS = SERVED_METHODS | {b"CONNECT", b"TRACE"}

_SCHEMES = (b"https", b"http")

# RFC 9112 3.2: no blank, no control character and no fragment in a target of any form.
TARGET_CHARACTER = rb"[\x21\x22\x24-\x7e]"
_PATH = re.compile(rb"/" + TARGET_CHARACTER + rb"*+")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*+)://([^/?]*+)(.*+)")

# RFC 3986 3.2.2 and 3.2.3: an address in brackets or a name, and perhaps a port, which may be empty
# and has no more than five digits that count. The host is not empty, because a URI without one is
# not valid (RFC 9110 4.2.1), and there is no userinfo (RFC 9110 4.2.4).
_AUTHORITY = re.compile(
    rb"(?:\[[^\]]++\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++)(?::0*+[0-9]{0,5}+)?+"
)
_LATER_ADDRESS = re.compile(rb"[Vv][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++")
_PORT = re.compile(rb".*:0*+[1-9][0-9]*+")


def check_authority(authority: bytes) -> None:
    """Raise MalformedMessage unless `authority` is a host and optional port (RFC 9110 7.2)."""
    if not _AUTHORITY.fullmatch(authority) or (authority[:1] == b"[" and not _has_ip(authority)):
        raise MalformedMessage("invalid authority or Host")


def check_tunnel(authority: bytes) -> None:
    """Raise MalformedMessage unless `authority` may be the target of CONNECT (RFC 9110 9.3.6)."""
    check_authority(authority)
    if not _PORT.fullmatch(authority):
        raise MalformedMessage("CONNECT to no port")


def check_path(path: bytes, method: bytes) -> None:
    """Raise MalformedMessage unless `path` is path and query, or the asterisk of OPTIONS."""
    if path == b"*":
        if method != b"OPTIONS":
            raise MalformedMessage("target * without OPTIONS")  # RFC 9112 3.2.4
    elif not _PATH.fullmatch(path):
        raise MalformedMessage("the target's path is invalid")


def parse_scheme(scheme: bytes) -> bytes:
    """`scheme` in lower case (RFC 3986 3.1). Raises MalformedMessage for one that is not HTTP's."""
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise MalformedMessage("a scheme other than http and https")
    return scheme


def split_absolute(target: bytes, method: bytes) -> tuple[bytes, bytes, bytes]:
    """Scheme and authority of a target in absolute-form, and its path and query (RFC 9112 3.2.2).

    Raises MalformedMessage for anything else than an http or https URI with a host.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise MalformedMessage("the target is neither a path nor a URI")
    scheme, authority, path = parse_scheme(match[1]), match[2], match[3]
    check_authority(authority)
    if not path and method == b"OPTIONS":
        path = b"*"  # RFC 9112 3.2.4
    elif path[:1] != b"/":
        path = b"/" + path
    return scheme, authority, path


def check_served(head: RequestHead, scheme: bytes) -> None:
    """Raise the error that answers a well-formed request which no application can serve here.

    `scheme` is the connection's: https where TLS protects it.
    """
    method = head.method
    if method not in SERVED_METHODS and (method, head.protocol) != (b"CONNECT", b"websocket"):
        raise _method_fault(head)
    if head.scheme != scheme:
        # RFC 9110 7.4: https needs a connection that proves whose it is. And what came over one
        # that does must not pass for http.
        raise MisdirectedRequest("the target's scheme is not the connection's")


def _method_fault(head: RequestHead) -> RemoteProtocolError:
    # RFC 9110 9.1: methods are case-sensitive, so `get` is unknown.
    if head.method == b"TRACE":
        return MethodNotAllowed("TRACE is not served")
    if head.method == b"CONNECT" and head.protocol is None:
        return TunnelRefused("CONNECT is not served")
    return NotImplementedByServer(f"method {head.method!r}, protocol {head.protocol!r}")


def _has_ip(authority: bytes) -> bool:
    """Whether the brackets contain an IP literal: IPv6, or of a later version."""
    address = authority[1:].partition(b"]")[0]
    if _LATER_ADDRESS.fullmatch(address):
        return True
    if b"%" in address:  # a zone (RFC 4007), which means something to one host only
        return False
    try:
        IPv6Address(address.decode("latin-1"))
    except AddressValueError:
        return False
    return True
