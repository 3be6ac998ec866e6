"""All settings: one frozen dataclass, each option declared once, validated once.

Every field is a command-line option, a `TERCEL_*` environment variable and a key of the
configuration file; `tercel.options` makes them from the metadata here. Units: a name that ends in
`_bytes` is bytes, one that ends in `_timeout` is seconds; everything else is a plain count or
text. Zero means "no limit" only where the help says so.
"""

import os
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from tercel.shared.errors import ConfigurationError

SERVING = "Serving"
APPLICATION = "Application"
TLS = "Certificates"
PROCESS = "Process and logs"
MESSAGES = "Limits of a message"
OVERLOAD = "Overload"
HTTP1 = "HTTP/1.1"
QUIC = "HTTP/3 and QUIC"
WEBSOCKET = "WebSocket"

# Below it nothing could be served. 0 stands for a value that depends on the machine.
_LEAST_BUFFERED_BYTES = 1_048_576


def option(
    default: Any,
    group: str,
    help: str,
    *,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    separator: str | None = None,
) -> Any:
    """Declare one option. `minimum` and `maximum` are the range of a number.

    `separator` separates the items of a list in an environment variable; None is white space or a
    comma.
    """
    metadata = {
        "group": group,
        "help": help,
        "metavar": metavar,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "separator": separator,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's configuration. Raises ConfigurationError for a value out of its range."""

    # fmt: off
    bind: tuple[str, ...] = option(
        ("localhost:4433",), SERVING, "Serve HTTP/3 on this UDP port and HTTP/1.1 over TLS on the "
        "TCP port of the same number. Repeatable. IPv6 is written [::1]:4433; localhost is "
        "127.0.0.1 and ::1; an empty value binds none.", metavar="HOST:PORT")
    plain_bind: tuple[str, ...] = option(
        (), SERVING, "Also serve cleartext HTTP/1.1 on this TCP port. Repeatable.",
        metavar="HOST:PORT")
    unix: str | None = option(
        None, SERVING, "Also serve cleartext HTTP/1.1 on this unix socket.", metavar="PATH")
    unix_mode: str | None = option(
        None, SERVING, "Permission bits of the unix socket, in octal: 660 lets its owner and group "
        "connect. Default: 777 minus the umask.", metavar="MODE")
    unix_owner: str | None = option(
        None, SERVING, "Owner of the unix socket: a user name or number.", metavar="USER")
    unix_group: str | None = option(
        None, SERVING, "Group of the unix socket: a group name or number.", metavar="GROUP")
    http: str = option(
        "3", SERVING, "Highest HTTP version to serve: 3 serves HTTP/3 with HTTP/1.1 as the "
        "fallback, 1 serves HTTP/1.1 only.", choices=("3", "1"))
    fallback: bool = option(
        True, SERVING, "Serve HTTP/1.1 over TLS alongside HTTP/3.")
    backlog: int = option(
        2048, SERVING, "Length of the queue of TCP connections that wait to be accepted.",
        minimum=1)
    server_name: str = option(
        "tercel", SERVING, "Value of the Server response field; an empty value omits the field.",
        metavar="TEXT")
    date_header: bool = option(
        True, SERVING, "Send the Date response field (RFC 9110 6.6.1).")
    header: tuple[str, ...] = option(
        (), SERVING, "Add this field to every response in which the application does not send it. "
        "Repeatable; in the environment variable, one per line.", metavar="NAME:VALUE",
        separator="\n")
    advertise_port: int = option(
        0, SERVING, "UDP port that Alt-Svc advertises for HTTP/3, if a port mapping makes it "
        "differ from the bound port. 0 advertises the bound port.", metavar="PORT", minimum=0,
        maximum=65_535)

    cert: str | None = option(
        None, TLS, "PEM file with the certificate chain, leaf first. Without it, a loopback "
        "address gets a development certificate.", metavar="FILE")
    key: str | None = option(
        None, TLS, "PEM file with the private key. Default: the --cert file.", metavar="FILE")
    key_password: str | None = option(
        None, TLS, "Password of the private key. Prefer the environment variable "
        "TERCEL_KEY_PASSWORD.", metavar="TEXT")

    factory: bool = option(
        False, APPLICATION, "MODULE:ATTRIBUTE is a function that returns the application.")
    app_dir: str = option(
        ".", APPLICATION, "Directory to import MODULE from.", metavar="DIRECTORY")
    root_path: str = option(
        "", APPLICATION, "Path that the application is mounted under (ASGI root_path), for a proxy "
        "that strips it from requests: it is prepended to each path.", metavar="PATH")
    root_path_in_target: bool = option(
        False, APPLICATION, "The proxy does not strip --root-path from requests: nothing is "
        "prepended to their paths, and paths outside it get 404.")
    pathsend: bool = option(
        False, APPLICATION, "Offer the http.response.pathsend extension to the application. "
        "Frameworks then send files by path, which bypasses middleware that reads or changes "
        "response bodies.")
    lifespan: str = option(
        "auto", APPLICATION, "Run the ASGI lifespan protocol. If the application does not support "
        "it, on refuses to start and auto continues without it.", choices=("auto", "on", "off"))
    lifespan_timeout: float = option(
        60.0, APPLICATION, "Timeout for the startup and for the shutdown of the application.",
        metavar="SECONDS", minimum=0.001)

    loop: str = option(
        "auto", PROCESS, "Event loop; auto uses uvloop if it is installed.",
        choices=("auto", "asyncio", "uvloop"))
    log_level: str = option(
        "info", PROCESS, "Lowest severity to log.",
        choices=("critical", "error", "warning", "info", "debug"))
    access_log: bool = option(
        True, PROCESS, "Log one line per request.")
    graceful_timeout: float = option(
        15.0, PROCESS, "Time for running requests to finish when the server stops.",
        metavar="SECONDS", minimum=0)
    blocked_loop_timeout: float = option(
        1.0, PROCESS, "Log where the application blocks the event loop for longer than this, which "
        "delays all clients; 0 disables it.", metavar="SECONDS", minimum=0)
    keylog_file: str | None = option(
        None, PROCESS, "Append TLS secrets to this file, for Wireshark. Never use it in "
        "production.", metavar="FILE")
    qlog_dir: str | None = option(
        None, PROCESS, "Write one qlog file per QUIC connection to this directory.",
        metavar="DIRECTORY")

    max_field_section_bytes: int = option(
        65_536, MESSAGES, "Maximum size of a header or trailer section; each field counts as its "
        "name, its value and 32 bytes (RFC 9114 4.2.2).", metavar="BYTES", minimum=1024)
    max_fields: int = option(
        128, MESSAGES, "Maximum number of field lines in a header or trailer section.", minimum=1)
    max_target_bytes: int = option(
        16_384, MESSAGES, "Maximum size of a request target.", metavar="BYTES", minimum=64)
    max_content_bytes: int = option(
        0, MESSAGES, "Maximum size of a request's content; 0 is no limit. Content is streamed, "
        "never stored, so its size costs no memory.", metavar="BYTES", minimum=0)
    header_timeout: float = option(
        10.0, MESSAGES, "Timeout from the first byte of a request to the end of its header "
        "section, and for the TLS handshake on TCP.", metavar="SECONDS", minimum=0.001)
    content_timeout: float = option(
        60.0, MESSAGES, "Maximum pause between two parts of a request's content while the "
        "application waits for it.", metavar="SECONDS", minimum=0.001)
    min_content_rate: int = option(
        16, MESSAGES, "Minimum average rate of a request's content, in bytes per second, while the "
        "application waits for it; content_timeout is the grace period. 0 is no limit.",
        metavar="BYTES", minimum=0)
    send_timeout: float = option(
        60.0, MESSAGES, "Abort a response when the client accepts no data for this long.",
        metavar="SECONDS", minimum=0.001)
    max_unsent_bytes: int = option(
        262_144, MESSAGES, "Unsent response bytes per exchange above which the application's send "
        "waits.", metavar="BYTES", minimum=1024)

    max_connections: int = option(
        100_000, OVERLOAD, "Maximum number of open connections, TCP and QUIC together; further "
        "ones are not accepted. 0 is no limit.", minimum=0)
    max_connections_per_ip: int = option(
        0, OVERLOAD, "Maximum number of open connections from one IPv4 address or one IPv6 /64 "
        "network, counted once the address is validated; 0 is no limit. Behind a proxy or a "
        "carrier's NAT many clients share an address.", minimum=0)
    max_concurrency: int = option(
        0, OVERLOAD, "Maximum number of requests that the application handles at one time, "
        "including WebSockets and requests whose client has gone; further ones get 503 with "
        "Retry-After. 0 is no limit.", minimum=0)
    max_request_rate: int = option(
        0, OVERLOAD, "Maximum requests per second on one connection; further ones get 429 with "
        "Retry-After. 0 is no limit.", minimum=0)
    max_buffered_bytes: int = option(
        0, OVERLOAD, "Maximum bytes of responses, requests and WebSocket messages buffered for all "
        "connections together. Near the limit, windows shrink; then idle connections that hold "
        "data are closed, the largest first. 0 is a quarter of the memory of the machine or the "
        "control group.", metavar="BYTES", minimum=0)

    keep_alive_timeout: float = option(
        60.0, HTTP1, "Close an idle connection after this time; 0 closes after each response.",
        metavar="SECONDS", minimum=0)
    max_receive_buffer_bytes: int = option(
        65_536, HTTP1, "Received bytes that the application has not read yet, pipelined requests "
        "included, above which reading from the connection pauses.", metavar="BYTES", minimum=4096)
    max_drain_bytes: int = option(
        65_536, HTTP1, "Maximum unread request content that is read and discarded to keep a "
        "connection open; with more, the connection is closed.", metavar="BYTES", minimum=0)

    retry: str = option(
        "auto", QUIC, "Validate a client's address with a Retry packet (RFC 9000 8.1.2) before "
        "keeping any state for it. This costs the client a round trip; auto does so only under "
        "load.", choices=("auto", "always", "never"))
    retry_half_open: int = option(
        256, QUIC, "Number of half-open QUIC connections from which --retry auto validates "
        "addresses.", minimum=0)
    retry_initial_rate: int = option(
        100, QUIC, "New QUIC connections per second above which --retry auto validates addresses.",
        minimum=0)
    token_key: str | None = option(
        None, QUIC, "File with the keys for Retry tokens, address validation tokens, session "
        "tickets and stateless resets: lines of 64 hexadecimal digits. The first key seals; every "
        "key opens. Servers that share it accept each other's tokens and tickets. Without it, a "
        "key is generated for the lifetime of the process.", metavar="FILE")
    preferred_address: tuple[str, ...] = option(
        (), QUIC, "IP address and UDP port that clients are asked to migrate to after the "
        "handshake (RFC 9000 9.6), served in addition to --bind. Repeatable: one for IPv4, one for "
        "IPv6.", metavar="HOST:PORT")
    early_data: bool = option(
        False, QUIC, "Accept requests in 0-RTT, before the handshake is complete. They may be "
        "replays, so only safe methods are accepted; they carry Early-Data: 1 (RFC 8470).")
    max_half_open_connections: int = option(
        2048, QUIC, "Maximum number of QUIC connections whose handshake has not completed; about "
        "half of them for one validated address.", minimum=1)
    handshake_timeout: float = option(
        10.0, QUIC, "Timeout for a QUIC handshake.", metavar="SECONDS", minimum=0.001)
    idle_timeout: float = option(
        60.0, QUIC, "Close a QUIC connection after this time without traffic (max_idle_timeout).",
        metavar="SECONDS", minimum=1)
    unused_timeout: float = option(
        3600.0, QUIC, "Close a QUIC connection that has traffic but no request for this long; 0 is "
        "no limit.", metavar="SECONDS", minimum=0)
    quic_keep_alive_pings: bool = option(
        True, QUIC, "Send a PING when a QUIC connection with an unanswered request is about to "
        "reach its idle timeout (RFC 9000 10.1.2).")
    max_concurrent_streams: int = option(
        128, QUIC, "Maximum number of concurrent requests on one QUIC connection.", minimum=1)
    stream_window_bytes: int = option(
        1_048_576, QUIC, "Flow control window of a stream: request content in flight or unread.",
        metavar="BYTES", minimum=16_384)
    connection_window_bytes: int = option(
        16_777_216, QUIC, "Flow control window of a QUIC connection: request content in flight or "
        "unread.", metavar="BYTES", minimum=16_384)
    max_unacknowledged_bytes: int = option(
        8_388_608, QUIC, "Response bytes kept per QUIC connection until the client acknowledges "
        "them; each exchange is always allowed its share.", metavar="BYTES", minimum=65_536)
    congestion_control: str = option(
        "cubic", QUIC, "Congestion control algorithm: cubic (RFC 9438) or reno (RFC 9002 7).",
        choices=("cubic", "reno"))
    max_datagram_bytes: int = option(
        1452, QUIC, "Largest UDP payload to send; how much of it a path carries is found out by "
        "probes (RFC 8899). 1200 is what every path carries, and needs none; 1452 fits IPv6 on "
        "Ethernet.", metavar="BYTES", minimum=1200,
        # STREAM frames have two bytes of length, here and in aioquic. Jumbo frames have 9,000.
        maximum=16_384)
    quic_fast_path: bool = option(
        True, QUIC, "Handle common packets with tercel's own code instead of aioquic's, for a "
        "fraction of the CPU time.")
    udp_buffer_bytes: int = option(
        4_194_304, QUIC, "Size of the kernel's send and receive buffers of a UDP socket, each.",
        metavar="BYTES", minimum=65_536)

    ws_max_message_bytes: int = option(
        16_777_216, WEBSOCKET, "Maximum size of a message after decompression.", metavar="BYTES",
        minimum=1)
    ws_message_timeout: float = option(
        60.0, WEBSOCKET, "Maximum pause within a message. The message must also arrive at "
        "min_content_rate on average, with this as the grace period. 0 waits forever.",
        metavar="SECONDS", minimum=0)
    ws_max_queue: int = option(
        32, WEBSOCKET, "Received messages that the application has not read yet, above which "
        "reading from the client pauses.", minimum=1)
    ws_ping_interval: float = option(
        20.0, WEBSOCKET, "Interval between keepalive pings; 0 sends none.", metavar="SECONDS",
        minimum=0)
    ws_ping_timeout: float = option(
        20.0, WEBSOCKET, "Timeout for the answer to a ping; 0 waits forever.", metavar="SECONDS",
        minimum=0)
    ws_close_timeout: float = option(
        10.0, WEBSOCKET, "Timeout for the client to complete the closing handshake.",
        metavar="SECONDS", minimum=0.001)
    ws_compression: bool = option(
        True, WEBSOCKET, "Offer permessage-deflate (RFC 7692).")
    ws_origins: tuple[str, ...] = option(
        (), WEBSOCKET, "Accept WebSockets only from pages of this origin. Repeatable; without it, "
        "every origin is accepted.", metavar="ORIGIN")
    # fmt: on

    def __post_init__(self) -> None:
        for spec in fields(self):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))
        if self.root_path and not self.root_path.startswith("/"):
            raise ConfigurationError(f"--root-path starts with a slash: /{self.root_path}")
        if 0 < self.max_buffered_bytes < _LEAST_BUFFERED_BYTES:
            raise ConfigurationError(
                f"--max-buffered-bytes is 0 or {_LEAST_BUFFERED_BYTES} or more, "
                f"not {self.max_buffered_bytes}"
            )
        if self.root_path_in_target and not self.root_path:
            raise ConfigurationError("--root-path-in-target needs --root-path")
        if self.connection_window_bytes < self.stream_window_bytes:
            raise ConfigurationError(
                "--connection-window-bytes must not be less than --stream-window-bytes"
            )


def is_list(spec: "Field[Any]") -> bool:
    """Whether the setting is a list."""
    return isinstance(spec.default, tuple)


def mistyped(spec: "Field[Any]", value: Any) -> str:
    """A description of the expected type, if `value` has another one; else empty."""
    if is_list(spec):
        fits = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return "" if fits else "a list of texts"
    if value is None and spec.default is None:
        return ""
    # type(), not isinstance: a bool is an int to isinstance, but not to whoever wrote it.
    if type(value) in _accepted_types(spec):
        return ""
    return _TYPE_NAMES.get(spec.type, "a text")


_TYPE_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def _accepted_types(spec: "Field[Any]") -> Iterator[type]:
    if spec.type in (bool, int):
        yield spec.type
    elif spec.type is float:
        yield from (float, int)
    else:
        yield str


def _checked(spec: "Field[Any]", value: Any) -> Any:
    """`value` in the setting's type. Raises ConfigurationError if it is invalid."""
    name = "--" + spec.name.replace("_", "-")
    metadata = spec.metadata
    value = _in_its_form(spec, value)
    if metadata["choices"] and value not in metadata["choices"]:
        choices = ", ".join(metadata["choices"])
        raise ConfigurationError(f"{name} is one of {choices}, not {value!r}")
    if wanted := mistyped(spec, value):
        raise ConfigurationError(f"{name} is {wanted}, not {value!r}")
    if metadata["minimum"] is not None and not value >= metadata["minimum"]:
        raise ConfigurationError(f"{name} is {metadata['minimum']} or more, not {value}")
    if metadata["maximum"] is not None and not value <= metadata["maximum"]:
        raise ConfigurationError(f"{name} is {metadata['maximum']} or less, not {value}")
    if value == "" and spec.default is None:
        raise ConfigurationError(
            f"{name} is empty: give a {metadata['metavar'].lower()}, or leave it out"
        )
    return value


def _in_its_form(spec: "Field[Any]", value: Any) -> Any:
    """Convert what a program may pass: a path object, one text for a list, 3 for "3"."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if is_list(spec):
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value
    if spec.metadata["choices"] and type(value) is int:
        return str(value)
    return value
