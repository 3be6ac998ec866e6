"""The options of other servers: what is taken, and what an error says of the rest."""

import re
from typing import Any

import click
import pytest

from tercel.options import GroupedCommand, settings_from, settings_options
from tercel.other_servers import FOREIGN, with_foreign
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings


def parsed(*arguments: str) -> Settings:
    """The settings that the command line makes of `arguments`."""

    @click.pass_context
    def take(ctx: click.Context, **values: Any) -> Settings:
        return settings_from(with_foreign(ctx, values))

    command = GroupedCommand("tercel", params=settings_options(), callback=take)
    settings = command.main([*arguments], prog_name="tercel", standalone_mode=False)
    assert isinstance(settings, Settings)
    return settings


def changed(*arguments: str) -> dict[str, Any]:
    """The settings that are not the defaults."""
    settings, defaults = parsed(*arguments), Settings()
    return {
        name: getattr(settings, name)
        for name in Settings.__dataclass_fields__
        if getattr(settings, name) != getattr(defaults, name)
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--host 0.0.0.0 --port 8000", {"bind": ("0.0.0.0:8000",)}),
        ("--host ::1 --port 8000", {"bind": ("[::1]:8000",)}),
        ("--port 8000", {"bind": ("localhost:8000",)}),
        ("--host 127.0.0.1", {"bind": ("127.0.0.1:4433",)}),
        ("--uds /run/a", {"unix": "/run/a", "bind": ()}),
        ("--uds /run/a --port 1", {"unix": "/run/a", "bind": ("localhost:1",)}),
        ("--ssl-certfile c --ssl-keyfile k", {"cert": "c", "key": "k"}),
        ("--certfile c --keyfile k", {"cert": "c", "key": "k"}),
        ("--ssl-certificate c --ssl-keyfile-password p", {"cert": "c", "key_password": "p"}),
        ("-b 127.0.0.1:1 -b 127.0.0.1:2", {"bind": ("127.0.0.1:1", "127.0.0.1:2")}),
        ("--insecure-bind 127.0.0.1:1", {"plain_bind": ("127.0.0.1:1",)}),
        ("--limit-concurrency 7", {"max_concurrency": 7}),
        ("--timeout-keep-alive 7", {"keep_alive_timeout": 7.0}),
        ("--keep-alive=7", {"keep_alive_timeout": 7.0}),
        ("--timeout-graceful-shutdown 7", {"graceful_timeout": 7.0}),
        ("--ws-max-size 7 --ws-max-queue 8", {"ws_max_message_bytes": 7, "ws_max_queue": 8}),
        ("--websocket-ping-interval 7", {"ws_ping_interval": 7.0}),
        ("--no-access-logs", {"access_log": False}),
        ("--no-access-log", {"access_log": False}),
        ("--no-server-header", {"server_name": ""}),
        ("--no-date-header --header a:b", {"date_header": False, "header": ("a:b",)}),
        ("--workers 1", {}),
        ("-w 1 -k asyncio", {}),
        ("--interface asgi3 --ws auto --lifespan on", {"lifespan": "on"}),
        ("--no-use-colors --no-proxy-headers --server-header --single-process", {}),
        ("--access-logfile - --error-logfile -", {}),
        ("--log-level debug --factory", {"log_level": "debug", "factory": True}),
    ],
)  # fmt: skip
def test_option_that_means_the_same_is_taken(arguments: str, expected: dict[str, Any]) -> None:
    assert changed(*arguments.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--workers 4", "--workers 4: several workers are not there yet"),
        ("--reload", "--reload: there is no reloader yet"),
        ("--reload-dir src", "--reload-dir: there is no reloader yet"),
        ("--fd 3", "--fd: sockets are not inherited yet; use --bind or --unix"),
        ("--log-config log.json", "--log-level"),
        ("--limit-max-requests 1000", "there are no workers that could be restarted"),
        ("--proxy-headers", "X-Forwarded-"),
        ("--forwarded-allow-ips *", "X-Forwarded-"),
        ("--interface wsgi", "--interface wsgi: only ASGI 3 and Sanic"),
        ("--ws none", "--ws none: WebSockets are served"),
        ("--quic-bind 0.0.0.0:443", "--bind serves HTTP/3"),
        ("--env-file .env", "--config"),
        ("--worker-class uvicorn.workers.UvicornWorker", "use --loop"),
        ("--timeout 30", "--header-timeout"),
        ("--access-logfile a.log", "redirect it"),
        ("--ssl-ca-certs ca.pem", "client certificates"),
        ("--port 1 --bind localhost:2", "give one of them"),
        ("--uds s --bind localhost:2", "give one of them"),
    ],
)
def test_option_that_means_nothing_here_is_told_what_to_use(arguments: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        parsed(*arguments.split())


@pytest.mark.parametrize("value", ["", " value"], ids=["alone", "with a value"])
@pytest.mark.parametrize(
    "name", [n for e in FOREIGN if e.advice and not e.accepted for n in e.options]
)
def test_what_is_refused_is_refused_with_a_value_and_without(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        parsed(*f"{name}{value}".split())


def test_no_option_of_another_server_hides_one_of_tercel_s() -> None:
    foreign = [name for entry in FOREIGN for name in entry.options]
    assert len(foreign) == len(set(foreign))
    own = {f"--{name.replace('_', '-')}" for name in Settings.__dataclass_fields__}
    assert own.isdisjoint(foreign)


@pytest.mark.parametrize("entry", FOREIGN, ids=lambda entry: entry.options[0])
def test_advice_names_only_options_that_there_are(entry: Any) -> None:
    known = {
        "--help",
        "--config",
        *(opt for p in settings_options() for opt in (*p.opts, *p.secondary_opts)),
    }
    assert set(re.findall(r"--[a-z][a-z-]+", entry.advice)) <= known


def test_mistake_in_a_value_is_told_by_tercel_s_name() -> None:
    with pytest.raises(click.UsageError) as caught:
        parsed("--timeout-keep-alive", "soon")
    assert "'--keep-alive-timeout': 'soon'" in caught.value.format_message()


@pytest.mark.parametrize(
    ("typed", "suggested"), [("--no-acces-log", ["--no-access-log"]), ("--worker", [])]
)
def test_only_tercel_s_own_options_are_suggested(typed: str, suggested: list[str]) -> None:
    with pytest.raises(click.NoSuchOption) as caught:
        parsed(typed)
    assert list(caught.value.possibilities or []) == suggested


def test_help_shows_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    command = GroupedCommand("tercel", params=settings_options())
    command.main(["--help"], prog_name="tercel", standalone_mode=False)
    shown = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", capsys.readouterr().out))
    assert shown.isdisjoint(name for entry in FOREIGN for name in entry.options)
