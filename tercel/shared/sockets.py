"""Sockets for the server: addresses as text, binding, and binding errors.

Every failure is a ConfigurationError with a one-line message that says what to do; if the system
refused, it is also the OSError with that errno. Knows nothing about protocols or TLS, and nothing
here accepts a connection.
"""

import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tercel.shared.errors import ConfigurationError
from tercel.shared.succession import bind_as_successor

if sys.platform == "linux":
    import fcntl
    import termios
if sys.platform != "win32":
    import grp
    import pwd

# How many ports the kernel may offer before one is free for TCP and for UDP.
_PORT_ATTEMPTS = 32
# sun_path of unix(7) has 108 bytes, the last of which ends it; macOS has 104.
_MAX_PATH_BYTES = 107 if sys.platform == "linux" else 103
_MODE = re.compile(r"(?:0o?)?[0-7]{3}")
# What stands for itself where a user's or group's name may.
_ID = re.compile(r"[0-9]{1,9}")
# A unix socket is bound under a temporary name of this many characters more, then renamed.
_TEMPORARY_SUFFIX = 9
# tcpi_bytes_acked in Linux's struct tcp_info, which only ever grows at its end (tcp(7)).
_BYTES_ACKED_AT, _BYTES_ACKED_END = 120, 128


class SocketError(ConfigurationError, OSError):
    """The system refused to open a socket; `errno` says why, as for the calls of `socket`."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class AddressInUse(SocketError):
    """Another socket uses the port or the path."""


class NotPermitted(SocketError, PermissionError):
    """This user may not open the socket."""


class FolderMissing(SocketError, FileNotFoundError):
    """The directory of a unix socket does not exist."""


class PathTaken(SocketError, FileExistsError):
    """The path of a unix socket has a file that is not a socket."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Address to bind: a host name or an IP address without brackets, and a port; 0 is any.

    An empty host is all interfaces.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str) -> HostPort:
    """Parse `HOST:PORT` or `[IPV6]:PORT`. Raises ConfigurationError."""
    if "," in text:
        raise ConfigurationError(f"{text!r} is more than one address: give each by itself")
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host:
        raise ConfigurationError(
            f"{text!r} is not an address: write HOST:PORT, 127.0.0.1:4433 for example"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(f"{text!r}: write an IPv6 address in brackets, [::1]:4433")
    # str.isdigit alone takes digits of other scripts, int() alone signs and underscores.
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigurationError(f"{text!r}: the port is a number from 0 to 65535")
    return HostPort(host, int(port))


def bind_socket(
    host: str, port: int, *, backlog: int = 100, reuse_port: bool = False
) -> socket.socket:
    """A TCP socket that listens on `host`, an IP address or a name, and `port`.

    A name is bound at the first address that it has. `backlog` is how many connections may wait
    to be accepted. Raises ConfigurationError.
    """
    sock = bind_stream_socket(HostPort(host, port), reuse_port=reuse_port)
    return _listen(sock, backlog)


def bind_stream_socket(address: HostPort, *, reuse_port: bool = False) -> socket.socket:
    """A TCP socket that is bound and does not listen yet. Raises ConfigurationError."""
    return _bind(_resolve(address)[0], address, socket.SOCK_STREAM, reuse_port)


def bind_datagram_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A UDP socket bound to `host`, an IP address or a name, and `port`.

    A name is bound at the first address that it has. Raises ConfigurationError.
    """
    address = HostPort(host, port)
    return _bind(_resolve(address)[0], address, socket.SOCK_DGRAM, reuse_port)


@dataclass(slots=True)
class BoundSockets:
    """The sockets of one address, all on one port number."""

    tcp: list[socket.socket]
    udp: list[socket.socket]

    @property
    def port(self) -> int:
        """The port number of all these sockets."""
        port: int = (self.udp or self.tcp)[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Close all of them."""
        for sock in (*self.tcp, *self.udp):
            sock.close()


def bind_everywhere(
    address: HostPort,
    *,
    tcp: bool,
    udp: bool,
    reuse_port: bool = False,
    succeed: bool = False,
) -> BoundSockets:
    """Bind each IP address of `address`, on TCP, on UDP or on both.

    The sockets do not listen yet. Port 0 selects one number, the same for all. With `succeed`, a
    UDP port may still belong to a server that is shutting down. Raises ConfigurationError, and then
    leaves no socket open.
    """
    # TCP first: nobody listens where a server stops, so that it tells such a one from a program
    # that lets others have its UDP port for reasons of its own.
    kinds = [socket.SOCK_STREAM] * tcp + [socket.SOCK_DGRAM] * udp
    places = _resolve(address)
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return _bind_all(places, address, kinds, reuse_port, succeed=succeed)
        except AddressInUse:
            # With port 0 the kernel chose a number that is free for one kind; it need not be
            # free for the other.
            if address.port or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAccess:
    """Who may connect to a unix socket: users that may write to its file (unix(7))."""

    mode: int | None = None
    """Permission bits; None is 0777 minus the umask."""
    owner: int = -1
    """A user ID; -1 is the process's own."""
    group: int = -1
    """A group ID; -1 is the process's own."""


UMASK_ACCESS = UnixAccess()
"""The default access of files of this process."""


def parse_unix_access(mode: str | None, owner: str | None, group: str | None) -> UnixAccess:
    """The values of --unix-mode, --unix-owner and --unix-group. Raises ConfigurationError."""
    if mode is not None and not _MODE.fullmatch(mode):
        raise ConfigurationError(f"--unix-mode {mode} is not three octal digits: write 660")
    return UnixAccess(
        mode=None if mode is None else int(mode, 8),
        owner=-1 if owner is None else _user_id(owner),
        group=-1 if group is None else _group_id(group),
    )


def _user_id(name: str) -> int:
    try:
        return int(name) if _ID.fullmatch(name) else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError(
            f"--unix-owner {name}: there is no such user: give a name or a number of this machine"
        ) from None


def _group_id(name: str) -> int:
    try:
        return int(name) if _ID.fullmatch(name) else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(
            f"--unix-group {name}: there is no such group: give a name or a number of this machine"
        ) from None


def bind_unix_socket(
    path: str | os.PathLike[str], *, mode: int = 0o666, backlog: int = 100
) -> socket.socket:
    """A unix socket that listens at `path` with the permission bits `mode`.

    Otherwise as `listen_unix`.
    """
    return listen_unix(path, UnixAccess(mode=mode), backlog=backlog)


def listen_unix(
    path: str | os.PathLike[str], access: UnixAccess, *, backlog: int = 100
) -> socket.socket:
    """A unix socket that listens at `path` for those who have `access`.

    A dead socket of an earlier run is replaced atomically, so that a client finds the old or the
    new one. A live socket raises AddressInUse; a file of another type, a symbolic link for example,
    FileExistsError; a missing directory FileNotFoundError. All are ConfigurationErrors.
    """
    path = os.fspath(path)
    _require_replaceable(path)
    if len(os.fsencode(path)) + _TEMPORARY_SUFFIX > _MAX_PATH_BYTES:
        longest = _MAX_PATH_BYTES - _TEMPORARY_SUFFIX
        raise SocketError(f"unix socket {path}: a path of {longest} bytes is the longest")
    temporary = f"{path}.{secrets.token_hex(4)}"
    sock = _RenamedUnixSocket(path)
    try:
        sock.bind(temporary)
        # Nobody can connect before it listens.
        _restrict(path, temporary, access)
        sock.listen(backlog)
        os.rename(temporary, path)
    except (OSError, ConfigurationError) as error:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, ConfigurationError):
            raise
        raise _path_error(path, error) from error
    sock.setblocking(False)
    return sock


def _restrict(path: str, file: str, access: UnixAccess) -> None:
    """Give `file`, which will be renamed to `path`, the owner, group and mode of `access`."""
    if access.owner != -1 or access.group != -1:
        try:
            os.chown(file, access.owner, access.group)
        except OSError as error:
            raise ConfigurationError(
                f"unix socket {path} cannot be given to another user or group "
                f"({error.strerror or error}): start as root, or choose a group that this "
                "process is in"
            ) from error
    if access.mode is not None:
        os.chmod(file, access.mode)


class _RenamedUnixSocket(socket.socket):
    """A unix socket that reports its path; the kernel reports the name that it was bound to."""

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path

    def getsockname(self) -> str:
        return self._path


def remove_unix_socket(path: str | os.PathLike[str] | None) -> None:
    """Remove the socket file at `path` unless a process listens on it. None does nothing."""
    if not path:
        return
    path = os.fspath(path)
    if _is_socket(path) and not _is_live(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def unacknowledged_bytes(sock: Any) -> int | None:
    """How many bytes the kernel holds for a stream socket that its peer has not received.

    None if the system does not report it, or the socket is closed: on uvloop, `sock` is None then.
    """
    if sys.platform != "linux" or sock is None:
        return None
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ: tcp(7)
    except (OSError, ValueError):
        return None
    return int.from_bytes(answer, sys.byteorder)


def accepted_bytes(sock: Any) -> int | None:
    """How many bytes the kernel has accepted for a TCP socket since it was opened.

    None if the system does not report it, or the socket is closed or not TCP.
    """
    kept = unacknowledged_bytes(sock)
    if kept is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_END)
    except (OSError, ValueError):
        return None
    if len(info) < _BYTES_ACKED_END:
        return None
    return kept + int.from_bytes(info[_BYTES_ACKED_AT:_BYTES_ACKED_END], sys.byteorder)


def configure_socket(server_settings: dict[str, Any]) -> socket.socket | None:
    """The socket that `server_settings` ask for, open and listening.

    Reads the keys sock, unix, host, port, backlog and reuse_port of the arguments of `serve`, and
    stores the bound socket under `sock`, so that the same settings do not bind twice; host and port
    become None then. An existing socket is returned as it is, and for version 3 none is bound:
    `serve` binds those of UDP and TCP together. Raises ConfigurationError.
    """
    sock: socket.socket | None = server_settings.get("sock")
    if sock is not None or server_settings.get("version") == 3:
        return sock
    backlog = server_settings.get("backlog", 100)
    unix = server_settings.get("unix")
    if unix:
        sock = bind_unix_socket(unix, backlog=backlog)
    elif server_settings.get("host") is not None and server_settings.get("port") is not None:
        reuse_port = bool(server_settings.get("reuse_port"))
        host, port = server_settings["host"], server_settings["port"]
        sock = bind_socket(host, port, backlog=backlog, reuse_port=reuse_port)
    else:
        return None
    sock.set_inheritable(True)  # worker processes are handed it
    server_settings.update(sock=sock, host=None, port=None)
    return sock


_Place = tuple[socket.AddressFamily, Any]


def _resolve(address: HostPort) -> list[_Place]:
    """The families and socket addresses that `address` stands for, each once."""
    if not 0 <= address.port <= 65535:
        raise ConfigurationError(f"{address}: the port is a number from 0 to 65535")
    if not address.host:
        # As for asyncio: all interfaces, of both families.
        return [
            (socket.AF_INET, ("0.0.0.0", address.port)),  # noqa: S104
            (socket.AF_INET6, ("::", address.port, 0, 0)),
        ]
    if address.host.lower().removesuffix(".") == "localhost":
        # RFC 6761 6.3: both loopback addresses, whatever the hosts file says. Browsers take ::1
        # first, and do not come back to 127.0.0.1 when QUIC fails there.
        return [
            (socket.AF_INET, ("127.0.0.1", address.port)),
            (socket.AF_INET6, ("::1", address.port, 0, 0)),
        ]
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise ConfigurationError(
            f"{address}: cannot find the host {address.host!r} ({reason}): check its spelling, "
            "or give an IP address"
        ) from error
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def _bind_all(
    places: list[_Place],
    address: HostPort,
    kinds: list[socket.SocketKind],
    reuse_port: bool,
    *,
    succeed: bool,
) -> BoundSockets:
    bound = BoundSockets([], [])
    missing: list[ConfigurationError] = []
    with _closing_on_error(bound):
        for place in places:
            for kind in kinds:
                at = place if not (bound.tcp or bound.udp) else _with_port(place, bound.port)
                try:
                    sock = _bind(at, address, kind, reuse_port, succeed=succeed)
                except _AddressNotAvailable as error:
                    # localhost may name ::1 on a machine without IPv6: one that works is enough.
                    missing.append(error)
                    break
                (bound.udp if kind is socket.SOCK_DGRAM else bound.tcp).append(sock)
    if not (bound.tcp or bound.udp):
        raise missing[0]
    return bound


@contextlib.contextmanager
def _closing_on_error(bound: BoundSockets) -> Iterator[None]:
    try:
        yield
    except BaseException:
        bound.close()
        raise


def _with_port(place: _Place, port: int) -> _Place:
    family, (host, _, *rest) = place
    return family, (host, port, *rest)


class _AddressNotAvailable(SocketError):
    """The machine does not have the address, or not its family."""


def _bind(
    place: _Place,
    address: HostPort,
    kind: socket.SocketKind,
    reuse_port: bool,
    *,
    succeed: bool = False,
) -> socket.socket:
    family, where = place
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise _AddressNotAvailable(
            f"{address}: this machine has no {family.name}", error.errno
        ) from error
    try:
        _prepare(sock, reuse_port)
        if succeed and kind is socket.SOCK_DGRAM and not reuse_port:
            bind_as_successor(sock, where)
        else:
            sock.bind(where)
    except OSError as error:
        sock.close()
        raise _bind_error(address, kind, error) from error
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _prepare(sock: socket.socket, reuse_port: bool) -> None:
    if sock.type is socket.SOCK_STREAM and os.name == "posix":
        # Connections of an earlier run that linger in TIME_WAIT must not keep the port. On
        # Windows the option means that two servers may share it, and on UDP so it does here.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family is socket.AF_INET6:
        # [::] and 0.0.0.0 can then stand beside each other, the same on every system.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigurationError("reuse_port: this system has no SO_REUSEPORT")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _listen(sock: socket.socket, backlog: int) -> socket.socket:
    try:
        sock.listen(backlog)
    except OSError as error:
        host, port = sock.getsockname()[:2]
        sock.close()
        raise _bind_error(HostPort(host, port), socket.SOCK_STREAM, error) from error
    return sock


def _bind_error(address: HostPort, kind: socket.SocketKind, error: OSError) -> ConfigurationError:
    protocol = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    where = f"{address} ({protocol})"
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"{where} is in use by another program: stop that, or choose another port",
            error.errno,
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return _AddressNotAvailable(
            f"{where}: {address.host} is not an address of this machine: give one that is, or "
            "0.0.0.0 for all",
            error.errno,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        advice = "no permission to open it: choose another port"
        if 0 < address.port < 1024:
            advice = (
                "no permission: ports below 1024 need root or CAP_NET_BIND_SERVICE; "
                "choose a port from 1024 on"
            )
        return NotPermitted(f"{where}: {advice}", error.errno)
    return SocketError(f"{where} cannot be opened: {error.strerror or error}", error.errno)


def _require_replaceable(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FolderMissing(
            f"Socket folder does not exist: {folder}: create it, or choose another path",
            errno.ENOENT,
        )
    try:
        taken = os.path.lexists(path)
        replaceable = taken and _is_socket(path)
        live = replaceable and _is_live(path)
    except OSError as error:
        raise _path_error(path, error) from error
    if taken and not replaceable:
        raise PathTaken(
            f"Existing file is not a socket: {path}: move it away, or choose another path",
            errno.EEXIST,
        )
    if live:
        raise AddressInUse(
            f"unix socket {path} is in use by another program: stop that, or choose another path",
            errno.EADDRINUSE,
        )


def _is_socket(path: str) -> bool:
    """Whether a socket is at `path` itself; a symbolic link to one does not count."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_live(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its queue is full, or it belongs to somebody else: not ours to replace.
            return True
    return True


def _path_error(path: str, error: OSError) -> SocketError:
    kind = NotPermitted if isinstance(error, PermissionError) else SocketError
    reason = error.strerror or error
    return kind(f"unix socket {path} cannot be opened: {reason}: choose another path", error.errno)
