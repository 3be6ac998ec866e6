"""Parses a ClientHello (RFC 8446 4.1.2) in one pass.

Sans-I/O. Does not validate: a message that is malformed or unusual is not parsed at all, and is
left to a parser that knows every alert.
"""

from struct import Struct, error, unpack_from
from typing import NamedTuple

_CLIENT_HELLO = 1
_LEGACY_VERSION = 0x0303
# Type, length, legacy version, random, length of the legacy session ID.
_HEAD = Struct("!B3sH32sB")
_EXTENSION = Struct("!HH")
_PSK_TAIL = Struct("!I")

# Extensions (RFC 8446 4.2, RFC 7301).
_SERVER_NAME = 0
_SUPPORTED_GROUPS = 10
_SIGNATURE_ALGORITHMS = 13
_ALPN = 16
_PRE_SHARED_KEY = 41
_EARLY_DATA = 42
_SUPPORTED_VERSIONS = 43
_PSK_KEY_EXCHANGE_MODES = 45
_KEY_SHARE = 51
_KNOWN = frozenset(
    (
        _SERVER_NAME,
        _SUPPORTED_GROUPS,
        _SIGNATURE_ALGORITHMS,
        _ALPN,
        _PRE_SHARED_KEY,
        _EARLY_DATA,
        _SUPPORTED_VERSIONS,
        _PSK_KEY_EXCHANGE_MODES,
        _KEY_SHARE,
    )
)


class OfferedSession(NamedTuple):
    """A session that a client offers to resume (RFC 8446 4.2.11)."""

    ticket: bytes
    binder: bytes
    binders_at: int
    """Offset of the list of binders, which the binder does not cover."""


class ClientHello(NamedTuple):
    """The fields of a ClientHello that a server needs."""

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    versions: tuple[int, ...]
    key_shares: list[tuple[int, bytes]]
    """Groups with public keys, in the client's order."""
    alpn: list[str]
    psk_modes: bytes
    server_name: str
    """The host name (SNI); empty if there is none."""
    session: OfferedSession | None
    early_data: bool
    others: list[tuple[int, bytes]]
    """Unknown extensions, in their order."""


def read_client_hello(data: bytes) -> ClientHello | None:
    """Parse the message `data`; None unless it is plain and has all that TLS 1.3 needs."""
    try:
        return _read(data)
    except (error, IndexError, KeyError, UnicodeDecodeError, _UnusualError):
        return None


class _UnusualError(Exception):
    """The message is to be left to another parser."""


def _read(data: bytes) -> ClientHello:
    kind, length, version, random, size = _HEAD.unpack_from(data)
    _expect(kind == _CLIENT_HELLO and int.from_bytes(length, "big") == len(data) - 4)
    _expect(version == _LEGACY_VERSION)
    position = _HEAD.size + size
    session_id = data[_HEAD.size : position]
    suites_end = position + 2 + int.from_bytes(data[position : position + 2], "big")
    cipher_suites = _numbers(data[position + 2 : suites_end])
    # One compression method, which is none (RFC 8446 4.1.2).
    _expect(data[suites_end : suites_end + 2] == b"\1\0")
    position = suites_end + 2
    _expect(int.from_bytes(data[position : position + 2], "big") == len(data) - position - 2)
    known, others = _extensions(data, position + 2)
    if _SUPPORTED_GROUPS in known:
        _numbers(_block(known[_SUPPORTED_GROUPS], 2))
    early = known.get(_EARLY_DATA)
    _expect(not early)
    session = None
    if _PRE_SHARED_KEY in known:
        session = _offered_session(known[_PRE_SHARED_KEY], len(data))
    return ClientHello(
        random,
        session_id,
        cipher_suites,
        _numbers(_block(known[_SIGNATURE_ALGORITHMS], 2)),
        _numbers(_block(known[_SUPPORTED_VERSIONS], 1)),
        _key_shares(_block(known[_KEY_SHARE], 2)),
        _names(_block(known[_ALPN], 2)),
        _block(known[_PSK_KEY_EXCHANGE_MODES], 1) if _PSK_KEY_EXCHANGE_MODES in known else b"",
        _host_name(known[_SERVER_NAME]) if _SERVER_NAME in known else "",
        session,
        early is not None,
        others,
    )


def _extensions(data: bytes, position: int) -> tuple[dict[int, bytes], list[tuple[int, bytes]]]:
    """The known extensions, each once, and the unknown ones."""
    known: dict[int, bytes] = {}
    others: list[tuple[int, bytes]] = []
    stop = len(data)
    while position < stop:
        kind, size = _EXTENSION.unpack_from(data, position)
        position += 4 + size
        content = data[position - size : position]
        if kind not in _KNOWN:
            others.append((kind, content))
        elif kind not in known:
            known[kind] = content
            # RFC 8446 4.2.11: pre_shared_key is the last.
            _expect(kind != _PRE_SHARED_KEY or position == stop)
        else:
            raise _UnusualError
    _expect(position == stop)
    return known, others


def _expect(plain: bool) -> None:
    if not plain:
        raise _UnusualError


def _block(content: bytes, width: int) -> bytes:
    """The content after a length of `width` bytes, which extends to the end."""
    if len(content) < width or int.from_bytes(content[:width], "big") != len(content) - width:
        raise _UnusualError
    return content[width:]


def _numbers(content: bytes) -> tuple[int, ...]:
    """A list of two-byte numbers."""
    _expect(not len(content) & 1)
    return unpack_from(f"!{len(content) // 2}H", content)


def _key_shares(content: bytes) -> list[tuple[int, bytes]]:
    shares = []
    position = 0
    while position < len(content):
        group, size = _EXTENSION.unpack_from(content, position)
        position += 4 + size
        _expect(position <= len(content))
        shares.append((group, content[position - size : position]))
    return shares


def _names(content: bytes) -> list[str]:
    """The names of application protocols (RFC 7301 3.1)."""
    names = []
    position = 0
    while position < len(content):
        end = position + 1 + content[position]
        _expect(end <= len(content))
        names.append(content[position + 1 : end].decode("ascii"))
        position = end
    return names


def _host_name(content: bytes) -> str:
    """The only name of a server name list (RFC 6066 3)."""
    entry = _block(content, 2)
    _expect(entry[:1] == b"\0")
    return _block(entry[1:], 2).decode("ascii")


def _offered_session(content: bytes, message_size: int) -> OfferedSession:
    """A single PSK identity with its binder."""
    identities_end = 2 + int.from_bytes(content[:2], "big")
    ticket_end = 4 + int.from_bytes(content[2:4], "big")
    # Behind the ticket is its age.
    _expect(ticket_end + _PSK_TAIL.size == identities_end)
    binder = _block(_block(content[identities_end:], 2), 1)
    return OfferedSession(
        content[4:ticket_end], binder, message_size - len(content) + identities_end
    )
