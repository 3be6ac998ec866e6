"""Command-line options, environment variables and file keys, all made from the Settings fields.

Knows what a setting looks like, not what it does.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any

import click
from click.core import ParameterSource

from tercel.other_servers import aliases, foreign_options
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings, is_list, mistyped

ENVIRONMENT_PREFIX = "TERCEL_"
OTHER = "Other"

# What else is read from the environment.
_OTHER_VARIABLES = ("CONFIG", "DATA_DIR")
# From this similarity on, a name is treated as a mistyped one.
_LIKENESS = 0.75

_FIELDS: dict[str, Field[Any]] = {field.name: field for field in fields(Settings)}
_UNITS = ("SECONDS", "BYTES")
# What an option takes, by the field's type; else text.
_KINDS: "dict[Any, click.ParamType[Any]]" = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
}


class GroupedOption(click.Option):
    """An option that `--help` shows under the heading `group`.

    `aliases` are taken as well, and neither help nor errors tell of them. Of a flag those that
    begin with --no- turn it off.
    """

    def __init__(
        self, *args: Any, group: str = OTHER, aliases: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        self.aliases = aliases

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser know all names."""
        super().add_to_parser(parser, ctx)
        for alias in self.aliases:
            action: dict[str, Any] = {"action": "append" if self.multiple else "store", "nargs": 1}
            if self.is_flag:
                action = {"action": "store_const", "const": not alias.startswith("--no-")}
            parser.add_option(obj=self, opts=[alias], dest=self.name, **action)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Name a wrong value's source where it was given: not always the command line."""
        source = ctx.get_parameter_source(self.name or "") if ctx is not None else None
        if source is ParameterSource.ENVIRONMENT:
            return f"the environment's {self.envvar}"
        return super().get_error_hint(ctx)


class Command(click.Command):
    """A command that reports every usage error in one line."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments, and print what they ask for."""
        try:
            return super().make_context(*args, **kwargs)
        except click.NoSuchOption as error:
            # Not the options of other servers, which are many and resemble everything.
            close = get_close_matches(
                error.option_name, self._shown_options(), n=1, cutoff=_LIKENESS
            )
            raise click.NoSuchOption(
                error.option_name, possibilities=close, ctx=error.ctx
            ) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to standard output ({error.strerror or error}): send it elsewhere"
            ) from error

    def _shown_options(self) -> list[str]:
        options = [param for param in self.params if isinstance(param, click.Option)]
        return [
            name
            for option in options
            if not option.hidden
            for name in (*option.opts, *option.secondary_opts)
        ]


class GroupedCommand(Command):
    """A command whose `--help` groups its options, in the order of their first members.

    Those of no group come last.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        others: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                group = getattr(param, "group", OTHER)
                (others if group == OTHER else groups.setdefault(group, [])).append(record)
        groups[OTHER] = others
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def settings_options() -> list[click.Parameter]:
    """One option for each field of Settings, `--config`, and those of other servers."""
    own = [_option(field) for field in _FIELDS.values()]
    return [*own, _config_option(), *foreign_options()]


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings that the parsed options stand for; other keys of `values` are left alone.

    Raises ConfigurationError for a value out of its range.
    """
    given = {name: values[name] for name in _FIELDS if name in values}
    for name, value in given.items():
        if is_list(_FIELDS[name]):
            # `--bind ''` is how a list is emptied on the command line.
            given[name] = tuple(item for item in value if item)
    return Settings(**given)


def check_environment(environment: Mapping[str, str]) -> list[str]:
    """Look for TERCEL_* variables that are no settings; the result is what to warn of.

    Raises ConfigurationError for one whose name is nearly a setting's. Others may be somebody
    else's: Kubernetes makes TERCEL_PORT and TERCEL_SERVICE_HOST for a service called tercel.
    """
    known = {*(name.upper() for name in _FIELDS), *_OTHER_VARIABLES}
    warnings = []
    for variable in sorted(environment):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in known:
            continue
        close = get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        if close:
            raise ConfigurationError(
                f"unknown environment variable {variable}: did you mean "
                f"{ENVIRONMENT_PREFIX}{close[0]}?"
            )
        warnings.append(f"{variable} in the environment is no setting; it has no effect")
    return warnings


def read_config(path: str) -> dict[str, Any]:
    """The settings in the TOML file at `path`.

    Raises ConfigurationError for a file that cannot be read, a key that is no setting and a value
    of another type than the setting's.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigurationError(
            f"cannot read the configuration file {path}: {reason}: check --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    return {name: _checked(name, value, path) for name, value in document.items()}


def _option(field: Field[Any]) -> GroupedOption:
    name = field.name.replace("_", "-")
    declaration = f"--{name}/--no-{name}" if field.type is bool else f"--{name}"
    kind = _KINDS.get(field.type, click.STRING)
    if field.metadata["choices"]:
        kind = click.Choice(field.metadata["choices"])
    elif is_list(field):
        kind = _Item(field.metadata["separator"])
    return GroupedOption(
        [declaration, field.name],
        group=field.metadata["group"],
        aliases=aliases(field.name),
        type=kind,
        multiple=is_list(field),
        default=field.default,
        envvar=ENVIRONMENT_PREFIX + field.name.upper(),
        metavar=None if field.metadata["choices"] else field.metadata["metavar"] or None,
        help=field.metadata["help"] + _default_text(field),
    )


def _config_option() -> GroupedOption:
    return GroupedOption(
        ["--config"],
        metavar="FILE",
        envvar=f"{ENVIRONMENT_PREFIX}CONFIG",
        # Eager, so that its values stand before the other options look for their defaults.
        is_eager=True,
        expose_value=False,
        callback=_apply_config,
        help="TOML file with settings: the options' names with underscores are its keys. The "
        f"environment ({ENVIRONMENT_PREFIX}* in upper case) overrides it, and options override "
        "both.",
    )


def _apply_config(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.default_map = read_config(path)


def _default_text(field: Field[Any]) -> str:
    default: Any = field.default
    if default in (None, "", ()):
        return ""
    if field.type is bool:
        default = "on" if default else "off"
    elif is_list(field):
        default = " ".join(default)
    elif isinstance(default, float):
        default = f"{default:g}"
    unit = field.metadata["metavar"]
    return f"  [default: {default}{' ' + unit.lower() if unit in _UNITS else ''}]"


def _checked(name: str, value: Any, path: str) -> Any:
    if name not in _FIELDS:
        close = get_close_matches(name.replace("-", "_"), _FIELDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "tercel --help lists the names"
        raise ConfigurationError(f"{path}: unknown key {name!r}: {hint}")
    field = _FIELDS[name]
    # `http = 3` is the natural spelling of the choice "3".
    if field.metadata["choices"] and type(value) is int:
        value = str(value)
    if wanted := mistyped(field, value):
        raise ConfigurationError(f"{path}: {name} is {wanted}, not {value!r}")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ConfigurationError(f"{path}: {name} is one of {', '.join(choices)}, not {value!r}")
    return value


class _Item(click.types.StringParamType):
    """One value of a list; in an environment variable several stand in a row."""

    def __init__(self, separator: str | None) -> None:
        self._separator = separator

    def split_envvar_value(self, rv: str) -> list[str]:
        """The values in an environment variable."""
        if self._separator is not None:
            return rv.strip().split(self._separator)
        return rv.replace(",", " ").split()
