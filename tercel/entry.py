"""run() and Server: how a program starts a server. The command line uses the same code.

They turn keyword settings into a running server, which `serve` composes.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Self

from tercel.banner import banner
from tercel.serve import Composition, compose, serve_composed
from tercel.shared.apps.loader import described, resolve_application
from tercel.shared.collector import settle_collector
from tercel.shared.errors import ConfigurationError, ServerError
from tercel.shared.goodbye import get_goodbye
from tercel.shared.logs import flush_log, log_to
from tercel.shared.loop import loop_factory
from tercel.shared.loop import run as run_loop
from tercel.shared.process import announce, prepare_process, tell_terminal
from tercel.shared.settings import Settings
from tercel.shared.signals import in_main_thread

_NAMES = [field.name for field in fields(Settings)]
_OPTION = re.compile(r"--(no-)?([a-z][a-z0-9-]*)")


def run(app: Any, *, settings: Settings | None = None, **options: Any) -> None:
    """Serve `app` until SIGINT, SIGTERM or SIGHUP stops it; to be called in the main thread.

    `app` is an ASGI 3 or Sanic application, or names one as "MODULE:ATTRIBUTE". `options` are
    settings by their names, and go before those in `settings`; both default to those of the
    command line, HTTP/3 with HTTP/1.1 as the fallback on localhost among them. What the command
    line prints and logs is printed and logged here, too; logging that the program has set up before
    stays as it is.

    Raises ConfigurationError for a wrong setting and ApplicationFailed when the application does
    not start.
    """
    with _speaking_of_keywords():
        _require_own_thread()
        prepare_process()
        chosen = _settings(settings, options)
        if not logging.getLogger("tercel").hasHandlers():
            log_to(sys.stderr, chosen.log_level)
        serve_in_foreground(app, chosen)


class Server:
    """A server inside a running event loop: `async with Server(app) as server`.

    `app`, `settings` and `options` are those of `run`. It serves inside the block and is stopped at
    its end, gracefully. It prints nothing, sets up no logging, and takes no signals except in
    `serve_forever`.

    Raises ConfigurationError for a wrong setting, where it is made, and where it starts for what is
    found out before sockets open, ApplicationFailed when the application does not start.
    """

    def __init__(self, app: Any, *, settings: Settings | None = None, **options: Any) -> None:
        with _speaking_of_keywords():
            self._settings = _settings(settings, options)
            self._app = resolve_application(app, self._settings)
        self._composition: Composition | None = None

    async def __aenter__(self) -> Self:
        if self._composition is not None:
            raise ServerError("this server has been started: make a new one to serve again")
        with _speaking_of_keywords():
            loop = asyncio.get_running_loop()
            self._composition = compose(self._app, self._settings, loop=loop)
            await self._composition.server
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def addresses(self) -> list[str]:
        """Where clients reach it: `127.0.0.1:4433`, `[::1]:4433` or the path of a unix socket.

        Each once, though HTTP/3 and HTTP/1.1 share it.
        """
        return list(dict.fromkeys(self._started().server.addresses))

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._composition is not None and self._composition.server.is_serving()

    async def serve_forever(self) -> None:
        """Return when the server has stopped; SIGINT, SIGTERM and SIGHUP stop it gracefully.

        To be called in the main thread, which is where Python receives signals.
        """
        if not in_main_thread():
            raise ConfigurationError(
                "serve_forever() receives signals, which only the main thread does: await "
                "wait_closed() in this one"
            )
        await self._started().server.run()

    async def wait_closed(self) -> None:
        """Return when the server has stopped. Takes no signals."""
        await self._started().server.wait_closed()

    async def close(self) -> None:
        """Stop: requests finish within `graceful_timeout`, then all ends, the application last."""
        await self._started().server.close()

    def _started(self) -> Composition:
        if self._composition is None:
            raise ServerError("this server has not been started: use it with 'async with'")
        return self._composition


def serve_in_foreground(app: Any, settings: Settings, *, name: str | None = None) -> None:
    """Serve `app` in a loop of its own, with a banner that calls it `name`, until it is stopped.

    The process has been prepared, and logging.
    """
    # Before there is a loop: an application may run one of its own while it is imported.
    loop_factory(settings.loop)
    application = resolve_application(app, settings)
    name = name or (app if isinstance(app, str) else described(application))

    def serving(composition: Composition) -> None:
        identity = composition.identity
        development = None if identity is None else identity.development
        introduce = development is not None and development.introduce()
        announce(banner(composition, name, introduce=introduce))
        settle_collector()

    run_loop(serve_composed(application, settings, announce=serving), settings.loop)
    # After the last line of the log, and not part of it.
    flush_log()
    tell_terminal(get_goodbye())


def _require_own_thread() -> None:
    """Raise ConfigurationError where run() could neither run a loop nor receive signals."""
    if not in_main_thread():
        raise ConfigurationError(
            "run() receives signals, which only the main thread does: call it there, or use "
            "'async with tercel.Server(app)' in a loop of this thread"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        "run() makes a loop of its own, and one is running: use 'async with tercel.Server(app)'"
    )


def _settings(settings: Settings | None, options: Mapping[str, Any]) -> Settings:
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigurationError(f"settings is a tercel.Settings, not {described(settings)}")
    for name in options:
        if name not in _NAMES:
            close = get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean {close[0]}?" if close else "help(tercel.Settings) lists the names"
            raise ConfigurationError(f"unknown setting {name!r}: {hint}")
    return replace(settings or Settings(), **options)


@contextmanager
def _speaking_of_keywords() -> Iterator[None]:
    """Messages name settings as options of the command line; a program knows their keywords."""
    try:
        yield
    except ServerError as error:
        error.args = (_OPTION.sub(_keyword, str(error)), *error.args[1:])
        raise


def _keyword(option: re.Match[str]) -> str:
    name = option[2].replace("-", "_")
    if name not in _NAMES:
        return option[0]
    return f"{name}=False" if option[1] else name
