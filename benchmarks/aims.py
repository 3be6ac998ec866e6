"""What is aimed at: for each scenario how much more a peer has to cost than tercel, or a limit.

Judged by medians of one run, and told in the report beside the figures.
"""

import statistics
from dataclasses import dataclass
from typing import Any

_NAMES = {"nginx": "nginx + uvicorn", "aioquic": "aioquic's own"}


@dataclass(frozen=True)
class Aim:
    """In the scenario `title` the CPU of `peer` is at least `least` times tercel's."""

    http: str
    title: str
    peer: str
    least: float


@dataclass(frozen=True)
class Flat:
    """In the scenario `title` tercel's CPU is at most `most` times that in `beside`."""

    http: str
    title: str
    beside: str
    most: float


def _each(http: str, titles: tuple[str, ...], **least: float) -> list[Aim]:
    return [Aim(http, title, peer, ratio) for title in titles for peer, ratio in least.items()]


_ECHO = "WebSocket echo, messages of changing sizes, 32 connections"

AIMS: list[Aim] = [
    *_each("3", ("pages, 4 connections, 32 in flight",), hypercorn=14, nginx=1.6, peregrine=0.8),
    *_each("3", ("pages, 100 connections",), hypercorn=10, nginx=0.7),
    *_each("3", ("5 MB down", "5 MB up", "100 MB down", "100 MB up"), hypercorn=6),
    *_each("3", ("full handshake", "resumed handshake"), aioquic=1.5),
    *_each("1-plain", ("pages, 32 connections",), uvicorn=1.3, granian=1.1),
    *_each("1", ("pages, 32 connections",), uvicorn=1.3, granian=1.1),
    *_each("1-plain", (_ECHO,), uvicorn=1.2),
    *_each("1", (_ECHO,), uvicorn=1.2),
]

FLAT = [
    Flat("3", "GET beside 1,000 open idle streams", "GET beside none", 1.3),
    Flat("3", "pages, 1,000 connections", "pages, 100 connections", 1.3),
]

MOST_KIB = {
    ("3", "1,000 idle connections"): 60.0,
    ("3", "1 GiB to an application that reads slowly"): 16_384.0,
    ("3", "1 GiB to a client that reads slowly"): 16_384.0,
    ("1", "1 GiB to an application that reads slowly"): 16_384.0,
    ("1", "1 GiB to a client that reads slowly"): 16_384.0,
}


def of_scenario(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Each aim of the scenario `row`, and whether it is met; `rows` are those beside it."""
    key = row["http"], row["title"]
    told = []
    own = _median(row, "tercel")
    for aim in AIMS:
        if (aim.http, aim.title) == key and aim.peer in row["servers"]:
            cost = _median(row, aim.peer)
            ratio = cost / own if cost and own else None
            name = _NAMES.get(aim.peer, aim.peer)
            told.append(_told(f"{name} ≥ {aim.least:g}", ratio, ratio and ratio >= aim.least))
    for flat in FLAT:
        if (flat.http, flat.title) == key:
            beside = next((r for r in rows if r["title"] == flat.beside), {})
            cost = _median(beside, "tercel")
            ratio = own / cost if cost and own else None
            words = f"≤ {flat.most:g} of {flat.beside}"
            told.append(_told(words, ratio, ratio and ratio <= flat.most))
    return "; ".join(told)


def of_memory(row: dict[str, Any]) -> str:
    """The aim of a row of the memory table, and whether it is met."""
    most = MOST_KIB.get((row["http"], row["title"]))
    values = row["kib"].get("tercel")
    if most is None:
        return ""
    kib = statistics.median(values) if values else None
    return _told(f"≤ {most:,.0f} KiB", None, kib is not None and kib <= most if values else None)


def _told(words: str, ratio: float | None, met: object) -> str:
    if ratio is None and met is None:
        return f"{words}: not measured"
    shown = "" if ratio is None else f" {ratio:.2f}"
    return f"{words}:{shown} {'met' if met else '**not met**'}"


def _median(row: dict[str, Any], name: str) -> float | None:
    figures = row.get("servers", {}).get(name)
    return statistics.median(figures["cpu_us"]) if figures and figures["cpu_us"] else None
