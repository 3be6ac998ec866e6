"""Binds the sockets that the settings ask for: all before anything starts, or none.

Knows addresses and whether TLS protects them, but not what runs on the sockets.
"""

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.sockets import (
    UMASK_ACCESS,
    BoundSockets,
    HostPort,
    UnixAccess,
    bind_everywhere,
    listen_unix,
    parse_host_port,
    parse_unix_access,
    remove_unix_socket,
)

_INTERNET = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The sockets of one address."""

    sockets: BoundSockets
    secure: bool
    host: str = ""
    """As it was given; empty for a unix socket."""
    unix: str | None = None
    """The path of a unix socket."""
    owns_path: bool = False
    """Whether that file is this server's to remove."""
    preferred: bool = False
    """Whether it is a preferred address, to which HTTP/3 clients are asked to migrate."""

    @property
    def alternative(self) -> bool:
        """Whether HTTP/1.1 here can point clients to HTTP/3 on the same port (RFC 7838)."""
        return bool(self.sockets.tcp and self.sockets.udp)

    def release(self) -> None:
        """Close the sockets; the file of a unix socket goes, too, unless it is the caller's."""
        self.sockets.close()
        if self.owns_path:
            remove_unix_socket(self.unix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The addresses to bind."""

    secure: tuple[HostPort, ...]
    plain: tuple[HostPort, ...] = ()
    unix: str | None = None
    unix_access: UnixAccess = UMASK_ACCESS
    unix_secure: bool = False
    sock: socket.socket | None = None
    """A socket of the caller's, in place of a first address."""
    sock_secure: bool = False
    http3: bool
    fallback: bool = True
    backlog: int = 100
    reuse_port: bool = False
    preferred: tuple[HostPort, ...] = ()
    """The preferred addresses of QUIC, all of them IP addresses."""

    @property
    def has_tls(self) -> bool:
        """Whether a certificate is needed."""
        return bool(self.secure or self.unix_secure or self.sock_secure)

    @property
    def has_quic(self) -> bool:
        """Whether a UDP socket is among them."""
        return self.http3 and bool(self.secure or self.sock_secure)

    @property
    def secure_addresses(self) -> tuple[HostPort, ...]:
        """The addresses that need a certificate, the one of the caller's socket included."""
        if self.sock is None or not self.sock_secure or self.sock.family not in _INTERNET:
            return self.secure
        return (_address_of(self.sock), *self.secure)


def plan_for(settings: Settings) -> Plan:
    """What `settings` ask for. Raises ConfigurationError for an address that is none."""
    plan = Plan(
        secure=tuple(map(parse_host_port, settings.bind)),
        plain=tuple(map(parse_host_port, settings.plain_bind)),
        unix=settings.unix,
        unix_access=unix_access(settings),
        http3=settings.http == "3",
        fallback=settings.fallback,
        backlog=settings.backlog,
        preferred=preferred_addresses(settings),
    )
    if not (plan.secure or plan.plain or plan.unix):
        raise ConfigurationError("nothing to serve on: give --bind, --plain-bind or --unix")
    if plan.unix is None and plan.unix_access != UMASK_ACCESS:
        raise ConfigurationError(
            "--unix-mode, --unix-owner and --unix-group are for a unix socket: give --unix, too"
        )
    return plan


def unix_access(settings: Settings) -> UnixAccess:
    """Who may connect to the unix socket. Raises ConfigurationError for what says nobody."""
    return parse_unix_access(settings.unix_mode, settings.unix_owner, settings.unix_group)


def preferred_addresses(settings: Settings) -> tuple[HostPort, ...]:
    """The preferred addresses in `settings`. Raises ConfigurationError for what can be none."""
    addresses = tuple(map(parse_host_port, settings.preferred_address))
    families = set()
    for address in addresses:
        try:
            ip = ipaddress.ip_address(address.host)
        except ValueError:
            ip = None
        if ip is None or ip.is_unspecified or not address.port:
            raise ConfigurationError(
                f"--preferred-address {address} is told to clients as it is: give an IP address "
                "and a port of this machine"
            )
        families.add(ip.version)
    if len(families) < len(addresses):
        raise ConfigurationError("--preferred-address: give one IPv4 and one IPv6 address at most")
    return addresses


def bind(plan: Plan) -> list[Binding]:
    """Bind everything in `plan`; TCP sockets do not listen yet.

    Raises ConfigurationError, and then leaves no socket open that it has opened.
    """
    _require_apart(plan)
    bindings: list[Binding] = []
    try:
        for address in plan.secure:
            tcp = plan.fallback or not plan.http3
            sockets = bind_everywhere(
                address,
                tcp=tcp,
                udp=plan.http3,
                reuse_port=plan.reuse_port,
                succeed=plan.fallback,
            )
            bindings.append(Binding(sockets=sockets, secure=True, host=address.host))
        for address in plan.plain:
            sockets = bind_everywhere(address, tcp=True, udp=False, reuse_port=plan.reuse_port)
            bindings.append(Binding(sockets=sockets, secure=False, host=address.host))
        if plan.unix is not None:
            sock = listen_unix(plan.unix, plan.unix_access, backlog=plan.backlog)
            sockets = BoundSockets([sock], [])
            bindings.append(
                Binding(sockets=sockets, secure=plan.unix_secure, unix=plan.unix, owns_path=True)
            )
        for address in plan.preferred if plan.has_quic else ():
            sockets = bind_everywhere(
                address, tcp=False, udp=True, reuse_port=plan.reuse_port, succeed=plan.fallback
            )
            bindings.append(
                Binding(sockets=sockets, secure=True, host=address.host, preferred=True)
            )
        if plan.sock is not None:
            # Last: an earlier failure must not close the caller's socket.
            bindings.append(_beside(plan.sock, plan))
    except BaseException:
        for binding in bindings:
            binding.release()
        raise
    return bindings


def _beside(sock: socket.socket, plan: Plan) -> Binding:
    """The caller's socket, and the one on the same port of the other kind if there is to be one."""
    datagram = sock.type is socket.SOCK_DGRAM
    sock.setblocking(False)
    if sock.family not in _INTERNET:
        if plan.http3:
            raise ConfigurationError("sock is no internet socket: HTTP/3 needs one, for UDP")
        path = sock.getsockname() or None
        return Binding(sockets=BoundSockets([sock], []), secure=plan.sock_secure, unix=path)
    if datagram and not plan.http3:
        raise ConfigurationError("sock is a UDP socket, and version=1 needs TCP: give version=3")
    if not datagram and plan.http3 and not plan.fallback:
        raise ConfigurationError("sock is a TCP socket, and without the fallback only UDP serves")
    address = _address_of(sock)
    bound = BoundSockets([], [sock]) if datagram else BoundSockets([sock], [])
    if plan.http3 and plan.fallback:
        other = bind_everywhere(
            address, tcp=datagram, udp=not datagram, reuse_port=plan.reuse_port, succeed=True
        )
        bound.tcp += other.tcp
        bound.udp += other.udp
    return Binding(sockets=bound, secure=plan.sock_secure, host=address.host)


def _address_of(sock: socket.socket) -> HostPort:
    return HostPort(*sock.getsockname()[:2])


_TCP, _UDP = frozenset((socket.SOCK_STREAM,)), frozenset((socket.SOCK_DGRAM,))
_Host = ipaddress.IPv4Address | ipaddress.IPv6Address | str
_Place = tuple[str, HostPort, frozenset[socket.SocketKind]]


def _require_apart(plan: Plan) -> None:
    """Raise ConfigurationError where two addresses would take the same port from each other.

    The system would call it a port in use by another program, or say so only when the second
    socket listens.
    """
    taken: list[_Place] = []
    for place in _places(plan):
        option, address, kinds = place
        for other_option, other, other_kinds in taken:
            if not (kinds & other_kinds and _overlap(address, other)):
                continue
            if address == other and option == other_option:
                raise ConfigurationError(f"{option} {address} is given twice: leave one out")
            raise ConfigurationError(
                f"{option} {address} is served by {other_option} {other} already: leave one out, "
                "or choose another port"
            )
        taken.append(place)


def _places(plan: Plan) -> Iterator[_Place]:
    tcp = _TCP if plan.fallback or not plan.http3 else frozenset()
    udp = _UDP if plan.http3 else frozenset()
    yield from (("--bind", address, tcp | udp) for address in plan.secure)
    yield from (("--plain-bind", address, _TCP) for address in plan.plain)
    yield from (("--preferred-address", address, udp) for address in plan.preferred)


def _overlap(one: HostPort, other: HostPort) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    return any(_meet(a, b) for a in _hosts(one.host) for b in _hosts(other.host))


def _meet(one: _Host, other: _Host) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.version == other.version and (
        one == other or one.is_unspecified or other.is_unspecified
    )


def _hosts(host: str) -> list[_Host]:
    """The addresses that a host stands for, as far as known without a name lookup."""
    if not host:
        return [ipaddress.IPv4Address(0), ipaddress.IPv6Address(0)]
    if host.lower().removesuffix(".") == "localhost":
        return [ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return [host.lower()]
