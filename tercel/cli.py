"""The command line: `tercel [OPTIONS] [MODULE:ATTRIBUTE]` and `tercel certs`.

Turns words into Settings, and errors into one line and an exit code. What is served, and how, is
decided elsewhere.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from tercel.banner import banner
from tercel.certs.selfsigned import (
    DEFAULT_NAMES,
    DevelopmentCertificates,
    default_directory,
    describe,
)
from tercel.options import GroupedCommand, settings_from, settings_options
from tercel.serve import Composition, serve_composed
from tercel.shared.apps.loader import load_application
from tercel.shared.collector import settle_collector
from tercel.shared.errors import ApplicationFailed, ConfigurationError, ServerError
from tercel.shared.logs import LineFormatter, LogQueue
from tercel.shared.loop import loop_factory, run
from tercel.shared.settings import Settings
from tercel.version import __version__

_ERROR = 2
_INTERRUPTED = 130

_SERVE_HELP = """Serve an ASGI application over HTTP/3, with HTTP/1.1 as the fallback.

MODULE:ATTRIBUTE names the application; without it, a demo application is served.

`tercel certs` shows the development certificates, and makes some for further names; see `tercel
certs --help`.
"""

_CERTS_HELP = """Show the development certificates, and make what is missing or old.

Without --name it is the one that `tercel` serves with on loopback addresses. To serve with
another, give its file as --cert.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `arguments` are without the program's name. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # An application is MODULE:ATTRIBUTE, with a colon, so one word cannot mean both.
    if given[:1] == ["certs"]:
        command, given, name = _certs_command(), given[1:], "tercel certs"
    else:
        command, name = _serve_command(), "tercel"
    try:
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
        help="A DNS name or IP address to make a certificate for. Repeatable: one certificate "
        "for all of them, kept under the first.",
    )
    return click.Command("certs", params=[name], callback=_certs, help=_CERTS_HELP)


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
    settings = settings_from(values)
    _configure_logging(settings)
    # Before there is a loop: an application may run one of its own while it is imported.
    loop_factory(settings.loop)
    app = _application(application, settings)

    def announce(composition: Composition) -> None:
        click.echo(banner(composition, application))
        settle_collector()

    run(serve_composed(app, settings, announce=announce), settings.loop)


def _certs(names: tuple[str, ...]) -> None:
    development = DevelopmentCertificates(default_directory())
    credential = development.ensure(names or DEFAULT_NAMES)
    for line in describe(development, credential):
        click.echo(line)


def _application(name: str | None, settings: Settings) -> Any:
    if name is not None:
        return load_application(name, app_dir=settings.app_dir, factory=settings.factory)
    if settings.factory:
        raise ConfigurationError("--factory without MODULE:ATTRIBUTE: name the function, too")
    from tercel.shared.apps.demo import app

    return app


def _configure_logging(settings: Settings) -> None:
    """tercel's own loggers write to standard error; an application's are its own business.

    The last lines are written when the process ends.
    """
    logger = logging.getLogger("tercel")
    handler = logging.StreamHandler()
    handler.setFormatter(
        LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    )
    if logging.lastResort is not None:
        # What asyncio and libraries log where the application has set up nothing.
        logging.lastResort.setFormatter(LineFormatter())
    logger.handlers[:] = [LogQueue(handler)]
    logger.setLevel(settings.log_level.upper())
    logger.propagate = False


def _fail(message: str, report: str = "") -> int:
    # Flushed before it: what was printed so far comes first wherever both end.
    sys.stdout.flush()
    click.echo(f"tercel: error: {' '.join(message.split())}", err=True)
    if report:
        click.echo(report.rstrip("\n"), err=True)
    return _ERROR
