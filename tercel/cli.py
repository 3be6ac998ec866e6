"""The command line: `tercel [OPTIONS] [MODULE:ATTRIBUTE]` and `tercel certs`.

Turns arguments into Settings, and errors into one line and an exit code. Does not decide what is
served, or how.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from tercel.banner import trust
from tercel.certs.selfsigned import (
    DEFAULT_NAMES,
    DevelopmentCertificates,
    default_directory,
    describe,
)
from tercel.entry import serve_in_foreground
from tercel.options import (
    Command,
    GroupedCommand,
    check_environment,
    settings_from,
    settings_options,
)
from tercel.other_servers import with_foreign
from tercel.shared.errors import ApplicationFailed, ConfigurationError, ServerError
from tercel.shared.logs import log_to, logger
from tercel.shared.process import prepare_process, write_out
from tercel.shared.settings import Settings
from tercel.shared.sockets import HostPort, parse_host_port
from tercel.version import __version__

log = logger("tercel.server")

_ERROR = 2
_INTERRUPTED = 130

_SERVE_HELP = """Serve an ASGI application over HTTP/3, with HTTP/1.1 as the fallback.

MODULE:ATTRIBUTE names the application; without it, a demo application is served.

`tercel certs` shows the development certificates and creates certificates for other names; see
`tercel certs --help`.
"""

_CERTS_HELP = """Show the development certificates and how to make clients trust them.

Certificates that are missing or old are created.

Without --name, this is the certificate that `tercel` uses on loopback addresses. To serve with
another one, pass its file as --cert.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `arguments` exclude the program's name. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # An application is MODULE:ATTRIBUTE, with a colon, so one word cannot mean both.
    if given[:1] == ["certs"]:
        command, given, name = _certs_command(), given[1:], "tercel certs"
    else:
        command, name = _serve_command(), "tercel"
    try:
        prepare_process()
        command.main(given, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message())
    except ApplicationFailed as error:
        return _fail(str(error), error.report)
    except ServerError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    return 0


def _serve_command() -> click.Command:
    return GroupedCommand(
        "tercel",
        params=[
            click.Argument(["application"], required=False, metavar="[MODULE:ATTRIBUTE]"),
            *settings_options(),
            _version_option(),
        ],
        callback=_serve,
        help=_SERVE_HELP,
        context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    )


def _certs_command() -> click.Command:
    name = click.Option(
        ["--name", "names"],
        multiple=True,
        metavar="NAME",
        help="DNS name or IP address to create a certificate for. Repeatable: one certificate "
        "covers all of them and is stored under the first.",
    )
    return Command("certs", params=[name], callback=_certs, help=_CERTS_HELP)


def _version_option() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            click.echo(f"tercel {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )


def _serve(application: str | None, **values: Any) -> None:
    ctx = click.get_current_context()
    warnings = check_environment(os.environ)
    settings = settings_from(with_foreign(ctx, values))
    log_to(sys.stderr, settings.log_level)
    for warning in warnings:
        log.warning("%s", warning)
    if application is not None:
        serve_in_foreground(application, settings)
    elif settings.factory:
        raise ConfigurationError("--factory without MODULE:ATTRIBUTE: name the function, too")
    else:
        from tercel.shared.apps.demo import app

        name = "its demo application (no MODULE:ATTRIBUTE was given)"
        serve_in_foreground(app, settings, name=name)


def _certs(names: tuple[str, ...]) -> None:
    development = DevelopmentCertificates(default_directory())
    names = names or DEFAULT_NAMES
    credential = development.ensure(names)
    url = f"https://{HostPort(names[0], parse_host_port(Settings().bind[0]).port)}"
    try:
        write_out("\n".join((*describe(development, credential), *trust(development, url))))
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to standard output ({error.strerror}): send it elsewhere"
        ) from error


def _fail(message: str, report: str = "") -> int:
    # Flushed before it: what was printed so far comes first wherever both end.
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        click.echo(f"tercel: error: {' '.join(message.split())}", err=True)
        if report:
            click.echo(report.rstrip("\n"), err=True)
    return _ERROR
