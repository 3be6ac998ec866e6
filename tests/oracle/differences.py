"""The differences between aioquic's server and tercel's that are allowed, each with its reason.

Two kinds. A `Normaliser` takes something out of both transcripts that RFC 9000 leaves to each
server. A `Divergence` is one answer to one input: it says what both servers do and who is right;
where the connection is another one afterwards, the comparison ends with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.conversation import Sent, Step
from tests.oracle.frames import Frame, ranges_of


@dataclass(frozen=True, slots=True)
class View:
    """What is compared of a step."""

    packets: tuple[Sent, ...]
    events: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What does not count in any step."""

    name: str
    section: str
    reason: str
    apply: Callable[[View], View]


@dataclass(frozen=True, slots=True)
class Divergence:
    """One answer of two that differ."""

    name: str
    section: str
    right: str
    """`tercel`, `aioquic`, or `both` where the RFC allows either."""
    reason: str
    explains: Callable[[Step, Step], bool]
    """Whether this is what happened, given aioquic's step and tercel's."""
    ends: bool = True
    """Whether the connections are too different afterwards to be compared."""


# -- what is left to each server ------------------------------------------------------------------


def _frames(change: Callable[[Frame], Frame | None]) -> Callable[[View], View]:
    """A normaliser by frames; None drops a frame, and a packet that has none left."""

    def apply(view: View) -> View:
        packets = []
        for packet in view.packets:
            changed = tuple(new for frame in packet.frames if (new := change(frame)) is not None)
            if changed:
                packets.append(replace(packet, frames=changed))
        return replace(view, packets=tuple(packets))

    return apply


def _without(**names: tuple[str, ...]) -> Callable[[View], View]:
    """Drop fields of frames."""

    def change(frame: Frame) -> Frame:
        dropped = names.get(frame.name)
        if not dropped:
            return frame
        return replace(frame, fields=tuple(pair for pair in frame.fields if pair[0] not in dropped))

    return _frames(change)


def _dropping(*names: str) -> Callable[[View], View]:
    return _frames(lambda frame: None if frame.name in names else frame)


def _untimed(view: View) -> View:
    return replace(view, packets=tuple(replace(packet, time=0) for packet in view.packets))


def _repacked(view: View) -> View:
    """One packet for each way that packets went, with all that they had."""
    ways: dict[tuple[Any, ...], list[Frame]] = {}
    for packet in view.packets:
        way = packet.type, packet.to, packet.address, packet.key_phase, packet.time
        ways.setdefault(way, []).extend(packet.frames)
    packets = tuple(Sent(*way, frames=_merged(content)) for way, content in ways.items())
    return replace(view, packets=tuple(sorted(packets, key=str)))


def _merged(content: Iterable[Frame]) -> tuple[Frame, ...]:
    """Frames in a fixed order, with the data of a stream and acknowledgements joined."""
    others = set()
    acknowledged: set[int] = set()
    ecn = None
    data: dict[tuple[str, int], dict[int, Any]] = {}
    ends = set()
    for frame in content:
        if frame.name == "ACK":
            for first, last in frame["ranges"]:
                acknowledged.update(range(first, last + 1))
            ecn = dict(frame.fields).get("ecn") or ecn
        elif frame.name in ("STREAM", "CRYPTO"):
            fields = dict(frame.fields)
            key = frame.name, fields.get("stream_id", 0)
            data.setdefault(key, {}).update(enumerate(fields["data"], fields["offset"]))
            if fields.get("fin"):
                ends.add(key)
        else:
            others.add(frame)
    merged = list(others)
    if acknowledged:
        merged.append(Frame("ACK", (("ranges", ranges_of(acknowledged)), ("ecn", ecn))))
    for (name, stream_id), known in data.items():
        content_of = bytes(known[offset] for offset in sorted(known))
        fields = (("stream_id", stream_id), ("offsets", ranges_of(known)), ("data", content_of))
        merged.append(Frame(name, (*fields, ("fin", (name, stream_id) in ends))))
    return tuple(sorted(merged, key=str))


def _without_tls(frame: Frame) -> Frame:
    """CRYPTO with no more of it than where it begins: the rest is random, or of random size."""
    if frame.name != "CRYPTO":
        return frame
    fields = dict(frame.fields)
    if "offsets" in fields:
        runs = fields["offsets"]
        return Frame("CRYPTO", (("from", runs[0][0]), ("runs", len(runs))))
    return Frame("CRYPTO", (("offset", fields["offset"]),))


NORMALISERS = (
    Normaliser(
        "random",
        "5.1, 8.2, 10.3",
        "connection IDs, reset tokens and challenges are random; TLS messages have random parts",
        _without(
            NEW_CONNECTION_ID=("connection_id", "reset_token"),
            PATH_CHALLENGE=("data",),
            NEW_TOKEN=("token",),
        ),
    ),
    Normaliser(
        "reason phrases",
        "19.19",
        "a reason phrase is for people",
        _without(CONNECTION_CLOSE=("reason",), APPLICATION_CLOSE=("reason",)),
    ),
    Normaliser(
        "padding",
        "19.1",
        "packet sizes are the server's choice within 14.1, which every transcript is checked for",
        _dropping("PADDING"),
    ),
    Normaliser(
        "time",
        "13.2.1, RFC 9002 7.7",
        "within a step, a server may delay acknowledgements and pace what it sends",
        lambda view: _without(ACK=("delay",))(_untimed(view)),
    ),
    Normaliser(
        "ECN counts",
        "13.4.1",
        "tercel reports the marks it has seen, aioquic never does",
        _without(ACK=("delay", "ecn")),
    ),
    Normaliser(
        "credit",
        "4.2",
        "aioquic doubles a window when half of it was received, tercel moves it by what was "
        "consumed; tests of their own hold what tercel announces",
        _dropping("MAX_DATA", "MAX_STREAM_DATA"),
    ),
    Normaliser(
        "packets",
        "12.2, 13",
        "how frames are divided among the packets of a step, and their order",
        _repacked,
    ),
    Normaliser(
        "TLS",
        "7.4",
        "the size of a TLS message differs with the transport parameters",
        _frames(_without_tls),
    ),
)


# -- answers that differ --------------------------------------------------------------------------


def closes(step: Step) -> tuple[int, ...] | None:
    """Code and frame type of the CONNECTION_CLOSE of a step; None if there is none."""
    for packet in step.packets:
        for frame in packet.frames:
            if frame.name == "CONNECTION_CLOSE":
                return frame["code"], frame["frame_type"]
            if frame.name == "APPLICATION_CLOSE":
                return (frame["code"],)
    return None


def said(step: Step, *names: str) -> list[Frame]:
    """The client's frames of these names in a step."""
    return [
        frame
        for _, content in step.said
        for frame in content
        if not isinstance(frame, bytes) and frame.name in names
    ]


DIVERGENCES: tuple[Divergence, ...] = ()
