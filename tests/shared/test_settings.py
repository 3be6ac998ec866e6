"""Settings: each option once, with a range."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings

FIELDS = dataclasses.fields(Settings)
NAMES = [spec.name for spec in FIELDS]


def option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_defaults_are_valid_and_local() -> None:
    settings = Settings()
    assert settings.bind == ("localhost:4433",)
    assert settings.http == "3"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().backlog = 1  # type: ignore[misc]


@pytest.mark.parametrize("spec", FIELDS, ids=NAMES)
def test_option_has_a_group_and_a_help_that_is_a_sentence(spec: dataclasses.Field[Any]) -> None:
    assert spec.metadata["group"]
    assert re.match(r"[A-Z].*\.$", spec.metadata["help"])


@pytest.mark.parametrize("spec", FIELDS, ids=NAMES)
def test_default_is_within_the_range(spec: dataclasses.Field[Any]) -> None:
    choices, minimum = spec.metadata["choices"], spec.metadata["minimum"]
    assert not choices or spec.default in choices
    assert minimum is None or spec.default >= minimum


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith(("_bytes", "_timeout"))])
def test_size_and_time_has_a_least_value(name: str) -> None:
    spec = next(spec for spec in FIELDS if spec.name == name)
    assert spec.metadata["minimum"] is not None


LEAST = [(s.name, s.metadata["minimum"]) for s in FIELDS if s.metadata["minimum"] is not None]


@pytest.mark.parametrize(("name", "minimum"), LEAST)
def test_number_below_its_least_value_is_refused_by_its_option(name: str, minimum: float) -> None:
    message = rf"^{option_name(name)} is {minimum} or more, not "
    kind = type(Settings.__dataclass_fields__[name].default)
    for value in (kind(minimum - 1), *([float("nan")] if kind is float else [])):
        with pytest.raises(ConfigurationError, match=message):
            Settings(**{name: value})
    if name != "connection_window_bytes":
        assert getattr(Settings(**{name: minimum}), name) == minimum


CHOICES = [(s.name, s.metadata["choices"]) for s in FIELDS if s.metadata["choices"]]


@pytest.mark.parametrize(("name", "choices"), CHOICES)
def test_value_that_is_no_choice_is_refused_by_its_option(
    name: str, choices: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option_name(name)} is one of .*, not 'other'"):
        Settings(**{name: "other"})
    for choice in choices:
        assert getattr(Settings(**{name: choice}), name) == choice


def test_connection_window_holds_at_least_one_stream_window() -> None:
    with pytest.raises(ConfigurationError, match="--connection-window-bytes must not be less"):
        Settings(stream_window_bytes=65_536, connection_window_bytes=65_535)
    Settings(stream_window_bytes=65_536, connection_window_bytes=65_536)


def test_root_path_starts_with_a_slash() -> None:
    with pytest.raises(ConfigurationError, match=r"^--root-path starts with a slash: /api$"):
        Settings(root_path="api")
    assert Settings(root_path="/api").root_path == "/api"
    with pytest.raises(ConfigurationError, match="root-path-in-target needs --root-path"):
        Settings(root_path_in_target=True)


@pytest.mark.parametrize("size", [1, 1_048_575])
def test_a_budget_in_which_nothing_could_be_served_is_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match="max-buffered-bytes is 0 or 1048576 or more"):
        Settings(max_buffered_bytes=size)
    assert Settings(max_buffered_bytes=1_048_576).max_buffered_bytes == 1_048_576


@pytest.mark.parametrize("name", ["advertise_port", "max_datagram_bytes"])
def test_number_above_its_greatest_value_is_refused_by_its_option(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option_name(name)} is .* or less, not 65536$"):
        Settings(**{name: 65_536})


@pytest.mark.parametrize("spec", FIELDS, ids=NAMES)
def test_value_of_another_type_is_refused_by_its_option(spec: dataclasses.Field[Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option_name(spec.name)} is "):
        Settings(**{spec.name: object()})


@pytest.mark.parametrize("name", [spec.name for spec in FIELDS if spec.default is None])
def test_empty_text_is_refused_where_nothing_would_do(name: str) -> None:
    message = f"^{option_name(name)} is empty: give a .*, or leave it out$"
    with pytest.raises(ConfigurationError, match=message):
        Settings(**{name: ""})
    assert getattr(Settings(**{name: None}), name) is None


def test_program_may_give_one_text_for_a_list_a_path_and_a_number_for_a_version() -> None:
    settings = Settings(bind="127.0.0.1:1", header=["a: b"], cert=Path("x.pem"), http=1)  # type: ignore[arg-type]
    assert settings.bind == ("127.0.0.1:1",)
    assert settings.header == ("a: b",)
    assert settings.cert == "x.pem"
    assert settings.http == "1"
