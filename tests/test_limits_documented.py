"""docs/limits.md says of every limit what it is, and what the code says it is."""

import importlib
import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest

from tercel.quic.transport.abuse_limits import EARNED, LIMITS, Flood
from tercel.shared.settings import HTTP1, MESSAGES, OVERLOAD, QUIC, WEBSOCKET, Settings


def number(text):
    """What a cell says: 65536, 0.5 or 2^22 packets."""
    base, _, power = text.removesuffix(" packets").partition("^")
    return float(base) ** float(power or 1)


TEXT = (Path(__file__).parent.parent / "docs" / "limits.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", TEXT, re.MULTILINE))
# A line of the page: its constants, their file, their values; a power is that of packets.
CONSTANTS = [
    (re.findall(r"`(\w+)`", names), file, [number(value) for value in values.split(", ")])
    for names, file, values in re.findall(
        r"^\| ((?:`\w+`, )+)`([\w/]+\.py)` \| ([^|]*) \|", TEXT, re.MULTILINE
    )
]
# Names of protocols and the like are no limits; numbers are, whatever their group.
LISTED = [
    field
    for field in fields(Settings)
    if field.metadata["minimum"] is not None
    or field.metadata["group"] in (MESSAGES, OVERLOAD, QUIC)
    or (field.metadata["group"] in (HTTP1, WEBSOCKET) and field.type in (int, float))
]


@pytest.mark.parametrize("field", LISTED, ids=lambda field: field.name)
def test_every_limit_is_listed_with_its_default(field):
    match field.default:
        case None | ():
            expected = ""
        case bool(value):
            expected = "on" if value else "off"
        case float(value):
            expected = f"{value:g}"
        case value:
            expected = str(value)
    assert field.name in ROWS, f"docs/limits.md does not list {field.name}"
    assert ROWS[field.name].strip() == expected


@pytest.mark.parametrize("flood", Flood, ids=lambda flood: flood.name)
def test_every_budget_is_listed_with_its_limits(flood):
    burst, rate = LIMITS[flood]
    units = ("a request", "an answer", "a packet", "a KiB")
    earned = ", ".join(
        f"{Fraction(each)} {unit}" for each, unit in zip(EARNED[flood], units, strict=True) if each
    )
    assert f"| `{flood.name}` | {burst} | {rate:g} | {earned} |" in TEXT


def test_no_limit_is_listed_that_is_none():
    names = {field.name for field in fields(Settings)} | {flood.name for flood in Flood}
    listed = {name for name in ROWS if name.islower() or name in Flood.__members__}
    assert listed <= names


@pytest.mark.parametrize(("names", "file", "values"), CONSTANTS, ids=lambda item: str(item))
def test_every_constant_is_where_it_is_said_to_be_with_its_value(names, file, values):
    module = importlib.import_module("tercel." + file.removesuffix(".py").replace("/", "."))
    assert [getattr(module, name) for name in names] == values
