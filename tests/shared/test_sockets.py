import errno
import grp
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tercel.shared import sockets
from tercel.shared.errors import ConfigurationError
from tercel.shared.sockets import (
    UMASK_ACCESS,
    AddressInUse,
    HostPort,
    UnixAccess,
    bind_datagram_socket,
    bind_everywhere,
    bind_socket,
    bind_stream_socket,
    bind_unix_socket,
    configure_socket,
    listen_unix,
    parse_host_port,
    parse_unix_access,
    remove_unix_socket,
    unacknowledged_bytes,
)
from tests.support.descriptors import no_socket_left_open

LOOPBACK = HostPort("127.0.0.1", 0)


needs_ipv6 = pytest.mark.skipif(
    not Path("/proc/net/if_inet6").exists() or not Path("/proc/net/if_inet6").read_text(),
    reason="this machine has no IPv6",
)


# -- addresses as text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:4433", "127.0.0.1", 4433),
        ("[::1]:4433", "::1", 4433),
        ("localhost:0", "localhost", 0),
        (" example.org:65535 ", "example.org", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == HostPort(host, port)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("4433", "HOST:PORT"),
        (":4433", "HOST:PORT"),
        ("", "HOST:PORT"),
        ("localhost:", "0 to 65535"),
        ("localhost:65536", "0 to 65535"),
        ("localhost:-1", "0 to 65535"),
        ("localhost:+1", "0 to 65535"),
        ("localhost:4_433", "0 to 65535"),
        ("localhost:٤٤", "0 to 65535"),
        ("localhost:" + "9" * 5000, "0 to 65535"),
        ("localhost:https", "0 to 65535"),
        ("::1:4433", "brackets"),
    ],
)
def test_what_is_no_address_is_told_how_to_be_one(text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        parse_host_port(text)


@pytest.mark.parametrize("text", ["127.0.0.1:4433", "[::1]:4433"])
def test_an_address_prints_as_it_is_written(text: str) -> None:
    assert str(parse_host_port(text)) == text


# -- TCP and UDP ----------------------------------------------------------------------------------


def test_bind_socket_listens() -> None:
    with closing(bind_socket("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=50).close()


def test_a_stream_socket_that_is_only_bound_refuses_connections() -> None:
    with closing(bind_stream_socket(LOOPBACK)) as server, pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.getsockname(), timeout=50)


def test_a_datagram_socket_receives() -> None:
    with (
        closing(bind_datagram_socket("127.0.0.1", 0)) as server,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client,
    ):
        client.sendto(b"hello", server.getsockname())
        server.settimeout(50)
        assert server.recv(100) == b"hello"


def test_sockets_do_not_block() -> None:
    for sock in (bind_socket("127.0.0.1", 0), bind_datagram_socket("127.0.0.1", 0)):
        with closing(sock):
            assert sock.getblocking() is False


@needs_ipv6
def test_ipv6_and_ipv4_wildcards_stand_beside_each_other() -> None:
    with (
        closing(bind_socket("0.0.0.0", 0)) as four,
        closing(bind_socket("::", four.getsockname()[1])) as six,
    ):
        assert six.family is socket.AF_INET6


@pytest.mark.parametrize(
    ("kind", "bind"), [("TCP", bind_socket), ("UDP", bind_datagram_socket)], ids=["TCP", "UDP"]
)
def test_a_port_in_use_is_told_with_its_address_and_protocol(kind: str, bind: object) -> None:
    assert callable(bind)
    with closing(bind("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with no_socket_left_open(), pytest.raises(AddressInUse) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value).startswith(f"127.0.0.1:{port} ({kind}) is in use")
    assert "\n" not in str(caught.value)


def test_an_address_of_another_machine_is_told() -> None:
    # RFC 5737: 192.0.2.0/24 is for documentation, no machine has it.
    with no_socket_left_open(), pytest.raises(ConfigurationError, match="not an address of this"):
        bind_socket("192.0.2.1", 0)


def test_a_host_that_cannot_be_found_is_told() -> None:
    # RFC 6761 6.4: names in .invalid never resolve.
    with pytest.raises(ConfigurationError, match=r"cannot find the host 'no\.such\.invalid'"):
        bind_socket("no.such.invalid", 0)


def test_a_name_that_cannot_be_encoded_is_told() -> None:
    with pytest.raises(ConfigurationError, match="not a host name"):
        bind_socket("a" * 70 + ".example", 0)


def test_a_port_out_of_range_is_told() -> None:
    with pytest.raises(ConfigurationError, match="0 to 65535"):
        bind_socket("127.0.0.1", 65_536)


def test_a_low_port_without_permission_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with no_socket_left_open(), pytest.raises(ConfigurationError, match="CAP_NET_BIND_SERVICE"):
        bind_socket("127.0.0.1", 443)


def test_two_sockets_share_a_port_only_with_reuse_port() -> None:
    with closing(bind_datagram_socket("127.0.0.1", 0, reuse_port=True)) as first:
        port = first.getsockname()[1]
        with closing(bind_datagram_socket("127.0.0.1", port, reuse_port=True)) as second:
            assert second.getsockname() == first.getsockname()


# -- one address on TCP and UDP -------------------------------------------------------------------


def test_tcp_and_udp_get_the_same_free_port() -> None:
    bound = bind_everywhere(LOOPBACK, tcp=True, udp=True)
    try:
        assert bound.port > 0
        assert {sock.getsockname()[1] for sock in (*bound.tcp, *bound.udp)} == {bound.port}
    finally:
        bound.close()


def test_another_free_port_is_tried_when_the_first_is_free_on_one_side_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = sockets._bind
    taken: list[int] = []

    def udp_taken_at_first(place, address, kind, *rest, **more):  # type: ignore[no-untyped-def]
        if kind is socket.SOCK_DGRAM and not taken:
            taken.append(place[1][1])
            raise AddressInUse("taken")
        return real(place, address, kind, *rest, **more)

    monkeypatch.setattr(sockets, "_bind", udp_taken_at_first)
    bound = bind_everywhere(LOOPBACK, tcp=True, udp=True)
    try:
        assert taken
        assert len(bound.tcp) == len(bound.udp) == 1
    finally:
        bound.close()


def test_a_taken_tcp_port_leaves_no_udp_socket_open() -> None:
    with closing(bind_socket("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with no_socket_left_open(), pytest.raises(AddressInUse, match="TCP"):
            bind_everywhere(HostPort("127.0.0.1", port), tcp=True, udp=True)


def test_a_name_with_two_addresses_is_bound_at_both_on_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    bound = bind_everywhere(HostPort("both.example", 0), tcp=True, udp=False)
    try:
        assert [sock.getsockname() for sock in bound.tcp] == [
            ("127.0.0.1", bound.port),
            ("127.0.0.2", bound.port),
        ]
    finally:
        bound.close()


def test_an_address_that_the_machine_lacks_is_left_out_when_another_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    bound = bind_everywhere(HostPort("half.example", 0), tcp=True, udp=True)
    try:
        assert [sock.getsockname()[0] for sock in bound.tcp] == ["127.0.0.1"]
        assert [sock.getsockname()[0] for sock in bound.udp] == ["127.0.0.1"]
    finally:
        bound.close()


# -- unix sockets ---------------------------------------------------------------------------------


def test_a_unix_socket_listens_with_its_mode(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(bind_unix_socket(path, mode=0o600)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)
    assert os.listdir(tmp_path) == ["s"]


def test_everybody_may_connect_to_a_unix_socket_by_default(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(bind_unix_socket(path)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_unix_socket_has_what_the_umask_leaves(tmp_path: Path, umask: None) -> None:
    path = str(tmp_path / "s")
    with closing(listen_unix(path, UMASK_ACCESS)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o750


@pytest.mark.parametrize("text", ["660", "0660", "0o660"])
def test_the_mode_of_a_unix_socket_is_octal(text: str, tmp_path: Path, umask: None) -> None:
    path = str(tmp_path / "s")
    with closing(listen_unix(path, parse_unix_access(text, None, None))):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_nobody_can_connect_to_a_unix_socket_before_its_mode_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    chmod = os.chmod

    def tried(path: str, mode: int) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            outcomes.append(client.connect_ex(path))
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", tried)
    with closing(listen_unix(str(tmp_path / "s"), UnixAccess(mode=0o600))):
        assert outcomes == [errno.ECONNREFUSED]


def test_own_names_and_numbers_are_users_and_groups() -> None:
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    named = parse_unix_access(None, user.pw_name, group.gr_name)
    numbered = parse_unix_access(None, str(user.pw_uid), str(group.gr_gid))
    assert named == numbered == UnixAccess(owner=user.pw_uid, group=group.gr_gid)


NOBODY = 65534


def outcome_as(user: int, group: int, path: str) -> int:
    """What `connect` gives a process of that user and group; 0 is success."""
    code = (
        f"import os, socket, sys; os.setgroups([]); os.setgid({group}); os.setuid({user}); "
        f"sys.exit(socket.socket(socket.AF_UNIX).connect_ex({path!r}))"
    )
    return subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_unix_socket_lets_its_owner_and_its_group_connect_and_nobody_else() -> None:
    # Not tmp_path: nobody else may look into that.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = f"{directory}/s"
        with closing(listen_unix(path, UnixAccess(mode=0o660, owner=NOBODY, group=12345))):
            status = os.stat(path)
            assert (status.st_uid, status.st_gid) == (NOBODY, 12345)
            assert outcome_as(NOBODY, NOBODY, path) == 0
            assert outcome_as(4242, 12345, path) == 0
            assert outcome_as(4242, 4242, path) == errno.EACCES
        with closing(listen_unix(path, UnixAccess(mode=0o666))):
            assert outcome_as(4242, 4242, path) == 0


def test_a_unix_socket_that_may_not_be_given_away_is_one_line_and_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    with no_socket_left_open(), pytest.raises(ConfigurationError, match="cannot be given") as told:
        listen_unix(str(tmp_path / "s"), UnixAccess(owner=0))
    assert "\n" not in str(told.value)
    assert os.listdir(tmp_path) == []


def test_a_dead_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    bind_unix_socket(path).close()
    assert os.path.exists(path)
    with closing(bind_unix_socket(path)), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(path)


def test_a_live_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(bind_unix_socket(path)), closing(socket.socket(socket.AF_UNIX)) as client:
        with no_socket_left_open(), pytest.raises(AddressInUse, match="in use"):
            bind_unix_socket(path)
        client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="Existing file is not a socket"):
        bind_unix_socket(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("alive", [False, True])
def test_a_symbolic_link_is_no_socket_whatever_it_leads_to(tmp_path: Path, alive: bool) -> None:
    path, target = tmp_path / "s", tmp_path / "target"
    path.symlink_to(target)
    with closing(bind_unix_socket(str(target))) as sock:
        if not alive:
            sock.close()
        with no_socket_left_open(), pytest.raises(FileExistsError, match="not a socket"):
            bind_unix_socket(str(path))
        remove_unix_socket(str(path))
    assert path.is_symlink()
    assert target.exists()


UNIX_FAULTS = {
    "a file": (lambda folder: (folder / "s").touch(), "s"),
    "a directory": (lambda folder: (folder / "s").mkdir(), "s"),
    "a link to nothing": (lambda folder: (folder / "s").symlink_to("nothing"), "s"),
    "no directory": (lambda folder: None, "missing/s"),
    "a file for a directory": (lambda folder: (folder / "file").touch(), "file/s"),
    "too long a path": (lambda folder: None, "s" * 120),
}


@pytest.mark.parametrize(("prepare", "name"), UNIX_FAULTS.values(), ids=UNIX_FAULTS)
def test_errors_for_a_unix_path_are_the_exceptions_that_sanic_raises(
    tmp_path: Path, prepare: Callable[[Path], object], name: str
) -> None:
    sanic = pytest.importorskip("sanic.server.socket")
    prepare(tmp_path)
    with pytest.raises(OSError) as theirs:
        sanic.bind_unix_socket(str(tmp_path / name))
    with no_socket_left_open(), pytest.raises(ConfigurationError) as ours:
        bind_unix_socket(str(tmp_path / name))
    assert isinstance(ours.value, theirs.type)


def test_errors_of_the_system_keep_their_errno(tmp_path: Path) -> None:
    with closing(bind_socket("127.0.0.1", 0)) as sock, pytest.raises(OSError) as caught:
        bind_socket("127.0.0.1", sock.getsockname()[1])
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.errno == errno.EADDRINUSE
    assert "in use by another program" in str(caught.value)


def test_a_unix_socket_in_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with no_socket_left_open(), pytest.raises(FileNotFoundError, match="does not exist"):
        bind_unix_socket(str(tmp_path / "missing" / "s"))


def test_a_path_that_is_too_long_for_a_unix_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="98 bytes is the longest"):
        bind_unix_socket(str(tmp_path / ("s" * 100)))


def test_remove_unix_socket_removes_a_dead_one_only(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(bind_unix_socket(path)):
        remove_unix_socket(path)
        assert os.path.exists(path)
    remove_unix_socket(path)
    assert not os.path.exists(path)
    remove_unix_socket(path)
    remove_unix_socket(None)


def test_remove_unix_socket_leaves_other_files(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    remove_unix_socket(str(path))
    assert path.read_text() == "precious"


# -- configure_socket -----------------------------------------------------------------------------


def test_configure_socket_binds_the_host_and_port_once() -> None:
    settings = {"sock": None, "unix": None, "host": "127.0.0.1", "port": 0, "backlog": 5}
    sock = configure_socket(settings)
    assert sock is not None
    with closing(sock):
        assert settings["sock"] is sock
        assert settings["host"] is None
        assert sock.get_inheritable()
        assert configure_socket(settings) is sock


def test_configure_socket_prefers_a_unix_path(tmp_path: Path) -> None:
    sock = configure_socket({"unix": str(tmp_path / "s"), "host": "127.0.0.1", "port": 0})
    assert sock is not None
    with closing(sock):
        assert sock.family is socket.AF_UNIX


def test_configure_socket_binds_nothing_for_version_3() -> None:
    settings = {"host": "127.0.0.1", "port": 0, "version": 3}
    assert configure_socket(settings) is None
    assert settings["host"] == "127.0.0.1"


def test_configure_socket_without_an_address_has_nothing_to_do() -> None:
    assert configure_socket({"host": None, "port": None}) is None


@needs_ipv6
def test_localhost_is_bound_at_both_loopback_addresses_whatever_the_hosts_file_says() -> None:
    with closing(bind_everywhere(HostPort("localhost", 0), tcp=True, udp=True)) as bound:
        hosts = {sock.getsockname()[0] for sock in (*bound.tcp, *bound.udp)}
        ports = {sock.getsockname()[1] for sock in (*bound.tcp, *bound.udp)}
    assert hosts == {"127.0.0.1", "::1"}
    assert len(ports) == 1


@needs_ipv6
def test_an_empty_host_is_all_interfaces_of_both_families() -> None:
    with closing(bind_everywhere(HostPort("", 0), tcp=True, udp=True)) as bound:
        hosts = {sock.getsockname()[0] for sock in (*bound.tcp, *bound.udp)}
        ports = {sock.getsockname()[1] for sock in (*bound.tcp, *bound.udp)}
    assert hosts == {"0.0.0.0", "::"}
    assert len(ports) == 1


# -- what the peer has ------------------------------------------------------------------------


def test_what_a_peer_does_not_read_is_unacknowledged_until_it_does() -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        assert unacknowledged_bytes(near) == 0
        near.sendall(b"unread")
        assert unacknowledged_bytes(near) != 0
        far.recv(100)
        assert unacknowledged_bytes(near) == 0


def test_a_closed_socket_tells_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert unacknowledged_bytes(sock) is None
    assert unacknowledged_bytes(None) is None  # what a closed transport of uvloop has
