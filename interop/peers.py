"""Who plays: the implementations, and how each of them is told what a test case wants."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from interop.cases import Case
from interop.endpoint.contract import UNSUPPORTED
from interop.lab import REPOSITORY
from interop.tools import about, find_tool, tool

Command = Sequence[str]
# Takes a test case and its URLs.
Commands = Callable[[Case, Sequence[str]], Sequence[Command]]

_PYTHON = sys.executable
_ENDPOINT = ("sh", str(REPOSITORY / "interop" / "run_endpoint.sh"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """An implementation of the client role."""

    name: str
    title: str
    """Name and QUIC stack, for people."""
    commands: Commands
    """What to run, one after the other."""
    tool: str = ""
    """The external program it needs."""
    tool_has: str = ""
    """What that program has to say of itself, if not all of its builds can do this."""
    module: str = ""
    """The Python module it needs."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Why it cannot pass a test case that it does not refuse itself, by the case's name."""
    http3_only: bool = False
    """Whether it has no hq-interop, which all other test cases use."""

    def missing(self) -> str | None:
        """What is not here; None if it can run."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"the Python package {self.module} is not installed"
        return _missing(self.tool, self.tool_has)


@dataclass(frozen=True, kw_only=True, eq=False)
class Server:
    """An implementation of the server role."""

    name: str
    title: str
    command: Callable[[Case, Path], Command | None]
    """What to run; the path is where its log directory is now. None if not supported."""
    tool: str = ""

    def missing(self) -> str | None:
        """What is not here; None if it can run."""
        return _missing(self.tool)


def _missing(program: str, has: str = "") -> str | None:
    if program and find_tool(program) is None:
        return f"{program} is not installed"
    if has and has not in about(program):
        return f"{program} is installed, but without {has}"
    return None


# Answers for a program that would not know that it cannot do something.
_REFUSES = ("sh", "-c", f"exit {UNSUPPORTED}")

# -- ngtcp2 ---------------------------------------------------------------------------------------

_NGTCP2_OPTIONS = (
    *("--download=/downloads", "--quiet"),
    *("--exit-on-all-streams-close", "--qlog-dir=/logs/qlog"),
)
_NGTCP2_CASE_OPTIONS = {
    "chacha20": ("--ciphers=TLS_CHACHA20_POLY1305_SHA256",),
    "keyupdate": ("--key-update=100ms",),
    "versionnegotiation": ("--version=0x1a2a3a4a",),
    "v2": ("--available-versions=v2,v1", "--preferred-versions=v2,v1"),
}
_NGTCP2_SESSION = ("--session-file=/logs/session.pem", "--tp-file=/logs/parameters.txt")


def _ngtcp2(case: Case, urls: Sequence[str]) -> Sequence[Command]:
    program = tool("osslclient" if case.client_testcase == "http3" else "osslhqclient")
    options = (*_NGTCP2_OPTIONS, *_NGTCP2_CASE_OPTIONS.get(case.client_testcase, ()))

    def command(urls: Sequence[str], *more: str) -> Command:
        parts = urlsplit(urls[0])
        return (*program, *options, *more, parts.hostname or "", str(parts.port), *urls)

    match case.client_testcase:
        case "resumption":
            return (
                command(urls[:1], *_NGTCP2_SESSION, "--wait-for-ticket"),
                command(urls[1:], *_NGTCP2_SESSION, "--disable-early-data"),
            )
        case "zerortt":
            return (
                command(urls[:1], *_NGTCP2_SESSION, "--wait-for-ticket"),
                command(urls[1:], *_NGTCP2_SESSION),
            )
        case "multiconnect":
            return [command([url]) for url in urls]
        case _:
            return (command(urls),)


# Its ciphers are GnuTLS's priorities.
_GTLS_CHACHA20 = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"


def _ngtcp2_http3(case: Case, urls: Sequence[str]) -> Sequence[Command]:
    """ngtcp2 with GnuTLS as distributions have it: it speaks HTTP/3 whatever the test case."""
    options = ["--download=/downloads", "--quiet", "--exit-on-all-streams-close"]
    options += ["--qlog-dir=/logs/qlog"]
    match case.client_testcase:
        case "chacha20":
            options.append(f"--ciphers={_GTLS_CHACHA20}")
        case "keyupdate":
            options.append("--key-update=100ms")
        case "versionnegotiation":
            options.append("--version=0x1a2a3a4a")
        case "v2":
            if "--available-versions" not in about("gtlsclient", "--help"):
                return (_REFUSES,)  # it has a draft of version 2
            options += ["--available-versions=v2,v1", "--preferred-versions=v2,v1"]
        case "resumption":
            options += [*_NGTCP2_SESSION, "--disable-early-data"]
        case "zerortt":
            options += _NGTCP2_SESSION
    flights: Sequence[Sequence[str]] = (urls,)
    if case.client_testcase in ("resumption", "zerortt"):
        flights = (urls[:1], urls[1:])
    elif case.client_testcase == "multiconnect":
        flights = [[url] for url in urls]
    parts = urlsplit(urls[0])
    program = (*tool("gtlsclient"), *options, parts.hostname or "", str(parts.port))
    return [(*program, *flight) for flight in flights]


_NGTCP2_IS_SILENT = (
    "a client that only receives, and sends no PING, cannot be reached once its NAT forgot it"
)

# -- others ---------------------------------------------------------------------------------------


def _quic_go(case: Case, urls: Sequence[str]) -> Sequence[Command]:
    return ((*tool("quicgo-client"), *urls),)


def _endpoint(case: Case, urls: Sequence[str]) -> Sequence[Command]:
    return (_ENDPOINT,)


def _curl(program: str) -> Commands:
    def commands(case: Case, urls: Sequence[str]) -> Sequence[Command]:
        options = ("-sS", "--fail", "--http3-only", "--cacert", "/certs/ca.pem", "--parallel")
        outputs = [part for url in urls for part in ("-o", f"/downloads/{_name(url)}", url)]
        return ((*tool(program), *options, *outputs),)

    return commands


def _library(name: str) -> Commands:
    def commands(case: Case, urls: Sequence[str]) -> Sequence[Command]:
        return ((_PYTHON, "-m", "interop.clients.libraries", name, *urls),)

    return commands


def _browser(name: str) -> Commands:
    def commands(case: Case, urls: Sequence[str]) -> Sequence[Command]:
        return ((_PYTHON, "-m", f"interop.clients.{name}", *tool(name), *urls),)

    return commands


def _name(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


CLIENTS = (
    Client(name="ngtcp2", title="ngtcp2", commands=_ngtcp2, tool="osslhqclient"),
    Client(
        name="quic-go",
        title="quic-go",
        commands=_quic_go,
        tool="quicgo-client",
        lacks={"connectionmigration": "quic-go's client does not use a preferred address"},
    ),
    Client(
        name="ngtcp2-http3",
        title="ngtcp2 by HTTP/3",
        commands=_ngtcp2_http3,
        tool="gtlsclient",
        lacks={"rebind-port": _NGTCP2_IS_SILENT, "rebind-addr": _NGTCP2_IS_SILENT},
    ),
    Client(name="tercel", title="tercel's client (aioquic)", commands=_endpoint),
    Client(
        name="curl",
        title="curl (ngtcp2)",
        commands=_curl("curl"),
        tool="curl",
        tool_has="HTTP3",
        http3_only=True,
    ),
    Client(
        name="curl-openssl",
        title="curl (OpenSSL)",
        commands=_curl("curl-openssl"),
        tool="curl-openssl",
        tool_has="HTTP3",
        http3_only=True,
    ),
    Client(
        name="pycurl",
        title="pycurl",
        commands=_library("pycurl"),
        module="pycurl",
        http3_only=True,
    ),
    Client(
        name="curl_cffi",
        title="curl_cffi",
        commands=_library("curl_cffi"),
        module="curl_cffi",
        http3_only=True,
    ),
    Client(
        name="niquests",
        title="niquests (qh3)",
        commands=_library("niquests"),
        module="niquests",
        http3_only=True,
    ),
    Client(
        name="impit",
        title="impit (quinn)",
        commands=_library("impit"),
        module="impit",
        http3_only=True,
    ),
    Client(
        name="chromium",
        title="Chromium",
        commands=_browser("chromium"),
        tool="chromium",
        http3_only=True,
    ),
    Client(
        name="firefox",
        title="Firefox",
        commands=_browser("firefox"),
        tool="firefox-esr",
        http3_only=True,
    ),
)


# -- servers --------------------------------------------------------------------------------------

_NGINX = """\
daemon off;
master_process off;
pid /logs/nginx.pid;
error_log /logs/nginx.log info;
events {{ }}
http {{
    access_log off;
    keepalive_requests 10000;
    client_body_temp_path /logs/client_body;
    proxy_temp_path /logs/proxy;
    fastcgi_temp_path /logs/fastcgi;
    uwsgi_temp_path /logs/uwsgi;
    scgi_temp_path /logs/scgi;
    server {{
        listen 443 quic;
        listen [::]:443 quic;
        http3 on;
        http3_hq on;
        quic_retry {retry};
        quic_active_connection_id_limit 8;
        ssl_early_data {early_data};
        ssl_certificate /certs/cert.pem;
        ssl_certificate_key /certs/priv.key;
        root /www;
    }}
}}
"""


def _tercel_server(case: Case, logs: Path) -> Command:
    return _ENDPOINT


def _nginx(case: Case, logs: Path) -> Command | None:
    if case.server in ("v2", "ecn", "connectionmigration"):
        return None  # it has none of these
    text = _NGINX.format(
        retry="on" if case.server == "retry" else "off",
        early_data="on" if case.server == "zerortt" else "off",
    )
    (logs / "nginx.conf").write_text(text)
    return (*tool("nginx"), "-p", "/logs", "-c", "/logs/nginx.conf")


def _quic_go_server(case: Case, logs: Path) -> Command:
    return tool("quicgo-server")


def _ngtcp2_server(case: Case, logs: Path) -> Command:
    program = tool("gtlsserver" if case.server == "http3" else "osslhqserver")
    options = {
        "retry": ("-V",),
        "chacha20": ("--ciphers=TLS_CHACHA20_POLY1305_SHA256",),
        "v2": ("--preferred-versions=v2,v1",),
        "connectionmigration": (
            "--preferred-ipv4-addr=193.167.100.110:443",
            "--preferred-ipv6-addr=[fd00:cafe:cafe:100::110]:443",
        ),
    }
    return (
        *program,
        *("--htdocs=/www", "--no-quic-dump", "--no-http-dump", "--qlog-dir=/logs/qlog"),
        *options.get(case.server, ()),
        *("*", "443", "/certs/priv.key", "/certs/cert.pem"),
    )


SERVERS = (
    Server(name="tercel", title="tercel", command=_tercel_server),
    Server(name="nginx", title="nginx", command=_nginx, tool="nginx"),
    Server(name="ngtcp2", title="ngtcp2", command=_ngtcp2_server, tool="osslhqserver"),
    Server(name="quic-go", title="quic-go", command=_quic_go_server, tool="quicgo-server"),
)

_TITLES = {peer.name: peer.title for peer in (*SERVERS, *CLIENTS)} | {"tercel": "tercel"}


def title(name: str) -> str:
    """What the report calls an implementation."""
    return _TITLES.get(name, name)
