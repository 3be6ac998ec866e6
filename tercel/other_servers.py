"""The options of other servers by the names that they have there.

An option with the same meaning is accepted. Another is an error that names tercel's way, or says
that there is none. `docs/coming-from-other-servers.md` has the same table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tercel.shared.sockets import HostPort, parse_host_port

_META = "tercel.other_servers"
_DEFAULT_ADDRESS = parse_host_port(Settings().bind[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """One option, or several that get the same answer."""

    options: tuple[str, ...]
    servers: str
    """Which servers have it."""
    setting: str = ""
    """The setting that means the same."""
    value: Any = None
    """What the setting becomes, where the option is a flag."""
    accepted: tuple[str, ...] = ()
    """Values that ask for what is the case anyway; an empty one stands for a flag."""
    advice: str = ""
    """What to do instead."""


def _same(setting: str, *options: str, servers: str) -> Foreign:
    return Foreign(options=options, servers=servers, setting=setting)


def _none(*options: str, servers: str, advice: str, accepted: tuple[str, ...] = ()) -> Foreign:
    return Foreign(options=options, servers=servers, advice=advice, accepted=accepted)


_PROXY = (
    "X-Forwarded-* fields are not read; where a proxy stands in front, let a middleware of the "
    "application read them"
)
_RELOAD = (
    "there is no reloader yet; 'watchfiles \"tercel main:app\" .' starts tercel anew when a file "
    "changes"
)
_WORKERS = "several workers are not there yet; leave it out, or give 1"
_RECYCLING = "there are no workers that could be restarted; leave it out"
_LOGS = "the log goes to standard error, and --log-level says how much; redirect it with '2> FILE'"
_LOG_FORMAT = "the format of log lines is fixed; leave it out, and see --access-log and --log-level"
_MUTUAL_TLS = "client certificates are not asked for yet; leave it out"
_TLS = "TLS 1.2 and 1.3 are served with OpenSSL's choice of ciphers; leave it out"
_SERVICE = "that is for a service manager: systemd's User=, Group=, UMask=, PIDFile= and the like"
_DIRECTORY = "use --app-dir, which names the directory to import the application from"
_THREADS = "requests run on one event loop; leave it out"
_STATIC = "files are the application's to serve; leave it out"
_PREFIX = (
    "use --root-path where a proxy strips it from requests; with --root-path-in-target where the "
    "proxy leaves it in them"
)
_ENVIRONMENT = (
    "set the variables before tercel starts, or give tercel's own settings in a file by --config"
)

FOREIGN: tuple[Foreign, ...] = (
    _same("cert", "--ssl-certfile", servers="Uvicorn"),
    _same("cert", "--certfile", servers="Hypercorn, Gunicorn"),
    _same("cert", "--ssl-certificate", servers="Granian"),
    _same("key", "--ssl-keyfile", servers="Uvicorn, Granian"),
    _same("key", "--keyfile", servers="Hypercorn, Gunicorn"),
    _same("key_password", "--ssl-keyfile-password", servers="Uvicorn, Granian"),
    _same("key_password", "--keyfile-password", servers="Hypercorn"),
    _same("bind", "-b", servers="Hypercorn, Gunicorn"),
    _same("plain_bind", "--insecure-bind", servers="Hypercorn"),
    _same("max_concurrency", "--limit-concurrency", servers="Uvicorn"),
    _same("max_fields", "--limit-request-fields", servers="Gunicorn"),
    _same("keep_alive_timeout", "--timeout-keep-alive", servers="Uvicorn"),
    _same("keep_alive_timeout", "--keep-alive", servers="Hypercorn, Gunicorn"),
    _same("graceful_timeout", "--timeout-graceful-shutdown", servers="Uvicorn"),
    _same("ws_max_message_bytes", "--ws-max-size", servers="Uvicorn"),
    _same("ws_ping_interval", "--websocket-ping-interval", servers="Hypercorn"),
    _same("access_log", "--access-logs", "--no-access-logs", servers="Sanic"),
    Foreign(options=("--no-server-header",), servers="Uvicorn", setting="server_name", value=""),
    _none("--server-header", servers="Uvicorn", accepted=("",), advice="leave it out"),
    _none("--no-proxy-headers", servers="Uvicorn", accepted=("",), advice="leave it out"),
    _none("--no-use-colors", servers="Uvicorn", accepted=("",), advice="leave it out"),
    _none("--single-process", servers="Sanic", accepted=("",), advice="leave it out"),
    _none("--no-motd", servers="Sanic", accepted=("",), advice="leave it out"),
    _none(
        "--interface",
        servers="Uvicorn, Granian",
        accepted=("auto", "asgi", "asgi3"),
        advice="only ASGI 3 and Sanic applications are served; Granian's asginl is --lifespan off",
    ),
    _none(
        "--ws",
        servers="Uvicorn",
        accepted=("auto", "websockets"),
        advice="WebSockets are served by websockets, and always; leave it out",
    ),
    _none("--url-path-prefix", servers="Granian", advice=_PREFIX),
    _none("--no-ws", servers="Granian", advice="WebSockets are always served; leave it out"),
    _none(
        "--ws-per-message-deflate",
        servers="Uvicorn",
        accepted=("true", "True", "1"),
        advice="use --ws-compression or --no-ws-compression",
    ),
    _none("--workers", "-w", servers="all five", accepted=("1",), advice=_WORKERS),
    _none("--fast", servers="Sanic", advice=_WORKERS),
    _none(
        "--worker-class",
        "-k",
        servers="Hypercorn, Gunicorn",
        accepted=("asyncio",),
        advice="use --loop, which chooses uvloop or asyncio",
    ),
    _none(
        "--access-logfile",
        "--error-logfile",
        "--log-file",
        servers="Hypercorn, Gunicorn",
        accepted=("-",),
        advice=_LOGS,
    ),
    _none("--log-config", "--log-config-json", servers="all but Sanic", advice=_LOGS),
    _none(
        "--access-logformat",
        "--access-log-format",
        "--access-log-fmt",
        "--use-colors",
        servers="Uvicorn, Hypercorn, Gunicorn, Granian",
        advice=_LOG_FORMAT,
    ),
    _none("--no-log", servers="Granian", advice="use --log-level critical"),
    _none("--fd", servers="Uvicorn", advice="sockets are not inherited yet; use --bind or --unix"),
    _none(
        "--uds-permissions",
        servers="Granian",
        advice="the permissions of a unix socket cannot be given by that name; see --unix",
    ),
    _none(
        "--quic-bind",
        servers="Hypercorn",
        advice="leave it out: --bind serves HTTP/3 on the UDP port of the same number",
    ),
    _none(
        "--reload",
        "--reload-dir",
        "--reload-include",
        "--reload-exclude",
        "--reload-delay",
        "--reload-paths",
        "--auto-reload",
        "--dev",
        servers="all five",
        advice=_RELOAD,
    ),
    _none(
        "--proxy-headers",
        "--forwarded-allow-ips",
        "--proxy-protocol",
        servers="Uvicorn, Gunicorn",
        advice=_PROXY,
    ),
    _none(
        "--limit-max-requests",
        "--limit-max-requests-jitter",
        "--max-requests",
        "--max-requests-jitter",
        "--timeout-worker-healthcheck",
        "--workers-lifetime",
        "--workers-kill-timeout",
        "--respawn-failed-workers",
        servers="Uvicorn, Hypercorn, Gunicorn, Granian",
        advice=_RECYCLING,
    ),
    _none(
        "--threads",
        "--blocking-threads",
        "--runtime-threads",
        "--runtime-mode",
        "--task-impl",
        servers="Gunicorn, Granian",
        advice=_THREADS,
    ),
    _none(
        "--worker-connections",
        servers="Gunicorn",
        advice="use --max-connections, or --max-concurrency for requests",
    ),
    _none("--backpressure", servers="Granian", advice="use --max-concurrency"),
    _none(
        "--timeout",
        "-t",
        "--read-timeout",
        servers="Gunicorn, Hypercorn",
        advice="use --header-timeout, --content-timeout and --send-timeout",
    ),
    _none(
        "--h11-max-incomplete-event-size",
        "--limit-request-field_size",
        servers="Uvicorn, Gunicorn",
        advice="use --max-field-section-bytes",
    ),
    _none("--limit-request-line", servers="Gunicorn", advice="use --max-target-bytes"),
    _none(
        "--ssl-ca-certs",
        "--ssl-cert-reqs",
        "--ssl-ca",
        "--ssl-client-verify",
        "--ssl-crl",
        "--ca-certs",
        "--cert-reqs",
        "--verify-mode",
        "--verify-flags",
        servers="Uvicorn, Granian, Hypercorn, Gunicorn",
        advice=_MUTUAL_TLS,
    ),
    _none(
        "--ssl-version",
        "--ssl-ciphers",
        "--ssl-protocol-min",
        "--ciphers",
        servers="Uvicorn, Granian, Hypercorn, Gunicorn",
        advice=_TLS,
    ),
    _none("--tls", servers="Sanic", advice="use --cert and --key, which name the files"),
    _none(
        "--tls-strict-host",
        servers="Sanic",
        advice="a program can give tercel.serve several certificates; on the command line there "
        "is one",
    ),
    _none(
        "--env-file",
        "--env",
        "--env-files",
        servers="Uvicorn, Gunicorn, Granian",
        advice=_ENVIRONMENT,
    ),
    _none(
        "--chdir", "--working-dir", "--pythonpath", servers="Gunicorn, Granian", advice=_DIRECTORY
    ),
    _none(
        "--user",
        "--group",
        "--umask",
        "--pid",
        "--pid-file",
        "--daemon",
        "--process-name",
        servers="Hypercorn, Gunicorn, Granian",
        advice=_SERVICE,
    ),
    _none("--static-path-mount", "--static-path-route", servers="Granian", advice=_STATIC),
    _none(
        "--debug",
        servers="Hypercorn, Sanic",
        advice="use --log-level debug; the application has a debug mode of its own",
    ),
)


def aliases(setting: str) -> list[str]:
    """What else an option is called that means what `setting` does."""
    return [
        name
        for entry in FOREIGN
        if entry.setting == setting and entry.value is None
        for name in entry.options
    ]


def foreign_options() -> list[click.Parameter]:
    """The options that are no aliases; `--help` does not show them."""
    places = [
        click.Option(["--host"], hidden=True, expose_value=False, callback=_keep),
        click.Option(
            ["--port"],
            hidden=True,
            expose_value=False,
            callback=_keep,
            type=click.IntRange(0, 65_535),
        ),
        click.Option(["--uds"], hidden=True, expose_value=False, callback=_keep),
    ]
    return [*places, *(_option(entry, name) for entry, name in _not_aliases())]


def with_foreign(ctx: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of the settings, changed by the options of other servers that were given.

    Raises ConfigurationError for such that contradict tercel's own.
    """
    kept = dict(ctx.meta.get(_META, {}))
    host, port, uds = (kept.pop(name, None) for name in ("host", "port", "uds"))
    if host is None and port is None and uds is None:
        return {**values, **kept}
    if ctx.get_parameter_source("bind") is ParameterSource.COMMANDLINE:
        raise ConfigurationError(
            "--host, --port and --uds say where to serve, and so does --bind: give one of them"
        )
    kept["bind"] = ()
    if host is not None or port is not None:
        address = HostPort(
            _DEFAULT_ADDRESS.host if host is None else host,
            _DEFAULT_ADDRESS.port if port is None else port,
        )
        kept["bind"] = (str(address),)
    if uds is not None:
        kept["unix"] = uds
    return {**values, **kept}


def _not_aliases() -> Iterator[tuple[Foreign, str]]:
    for entry in FOREIGN:
        if not entry.setting or entry.value is not None:
            yield from ((entry, name) for name in entry.options)


def _option(entry: Foreign, name: str) -> click.Option:
    def take(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is None:
            return
        if entry.setting:
            _kept(ctx)[entry.setting] = entry.value
        elif value not in entry.accepted:
            given = f"{name} {value}" if entry.accepted else name
            raise ConfigurationError(f"{given}: {entry.advice}")

    flag = bool(entry.setting) or "" in entry.accepted
    return click.Option(
        [name, f"foreign{name.replace('-', '_')}"],
        hidden=True,
        expose_value=False,
        # A rejected option is reported before other errors, with a value or without one.
        is_eager=True,
        is_flag=flag,
        flag_value="",
        default=None,
        type=click.STRING,
        callback=take,
    )


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name is not None:
        _kept(ctx)[param.name] = value


def _kept(ctx: click.Context) -> dict[str, Any]:
    kept: dict[str, Any] = ctx.meta.setdefault(_META, {})
    return kept
