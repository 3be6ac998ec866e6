"""The differences between aioquic's server and tercel's that are allowed, each with its reason.

Two kinds. A `Normaliser` takes something out of both transcripts that RFC 9000 leaves to each
server. A `Divergence` is one answer to one input: it says what both servers do and who is right.
The connections are others afterwards, so the comparison ends with it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.oracle.conversation import HOME, Sent, Step
from tests.oracle.frames import Frame, ranges_of
from tests.oracle.packets import PacketType


@dataclass(frozen=True, slots=True)
class View:
    """What is compared of a step."""

    packets: tuple[Sent, ...]
    events: tuple[Any, ...]
    acknowledged: Mapping[PacketType, frozenset[int]] = field(default_factory=dict, compare=False)
    """The client's packets that were acknowledged before."""
    credited: bool = field(default=False, compare=False)
    """Whether one of the servers has sent MAX_DATA or MAX_STREAM_DATA by now."""


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


def numbers_in(frame: Frame) -> frozenset[int]:
    """The packet numbers that an ACK acknowledges."""
    runs = (range(first, last + 1) for first, last in frame["ranges"])
    return frozenset(number for run in runs for number in run)


def _newly(view: View) -> View:
    """Acknowledgements without what was acknowledged before."""
    packets = []
    for packet in view.packets:
        known = view.acknowledged[packet.type]
        changed = tuple(
            replace(
                frame, fields=(("ranges", ranges_of(numbers_in(frame) - known)), *frame.fields[1:])
            )
            if frame.name == "ACK"
            else frame
            for frame in packet.frames
        )
        packets.append(replace(packet, frames=changed))
    return replace(view, packets=tuple(packets))


def _without_ping_of_an_ack(view: View) -> View:
    packets = tuple(
        replace(packet, frames=packet.frames[:1])
        if [frame.name for frame in packet.frames] == ["ACK", "PING"]
        else packet
        for packet in view.packets
    )
    return replace(view, packets=packets)


def _without_ping_of_a_challenge(view: View) -> View:
    packets = tuple(
        replace(packet, frames=tuple(frame for frame in packet.frames if frame.name != "PING"))
        if any(frame.name == "PATH_CHALLENGE" for frame in packet.frames)
        else packet
        for packet in view.packets
    )
    return replace(view, packets=packets)


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
    acknowledged: set[int] | None = None
    ecn = None
    data: dict[tuple[str, int], dict[int, Any]] = {}
    ends = set()
    for frame in content:
        if frame.name == "ACK":
            acknowledged = (acknowledged or set()) | numbers_in(frame)
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
    if acknowledged is not None:
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


CREDIT = ("MAX_DATA", "MAX_STREAM_DATA")

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
        _dropping(*CREDIT),
    ),
    Normaliser(
        "probes for credit",
        "RFC 9002 6.2",
        "which server has credit in flight, and probes for its acknowledgement, differs with that",
        lambda view: _dropping("PING")(view) if view.credited else view,
    ),
    Normaliser(
        "acknowledged before",
        "13.2.3, 13.2.4",
        "how long an ACK repeats ranges depends on when the client has acknowledged ACKs",
        _newly,
    ),
    Normaliser(
        "PING with an ACK",
        "13.2.4",
        "when an ACK elicits one for itself is the server's choice: aioquic asks by the packet's "
        "number, tercel also after many packets that were not answered",
        _without_ping_of_an_ack,
    ),
    Normaliser(
        "PING with a challenge",
        "8.2.1",
        "tercel lets a challenge go beyond the congestion window as a probe, which has a PING",
        _without_ping_of_a_challenge,
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


FLOW_CONTROL_ERROR, FRAME_ENCODING_ERROR, CONNECTION_ID_LIMIT_ERROR = 0x03, 0x07, 0x09
STREAM_LIMIT_ERROR, STREAM_STATE_ERROR, TRANSPORT_PARAMETER_ERROR = 0x04, 0x05, 0x08
PROTOCOL_VIOLATION, CRYPTO_BUFFER_EXCEEDED, KEY_UPDATE_ERROR = 0x0A, 0x0D, 0x0E


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


def _acknowledges_unsent(stock: Step, tercel: Step) -> bool:
    return closes(tercel) in ((PROTOCOL_VIOLATION, 0x02), (PROTOCOL_VIOLATION, 0x03)) and any(
        numbers_in(frame) - tercel.observed[kind]
        for kind, content in tercel.said
        for frame in content
        if not isinstance(frame, bytes) and frame.name == "ACK"
    )


def _idle_time_out_of_0(stock: Step, tercel: Step) -> bool:
    return (
        tercel.parameters["max_idle_timeout"] == 0
        and [event[0] for event in stock.events] == ["terminated"]
        and not tercel.events
    )


def _moves_in_the_handshake(stock: Step, tercel: Step) -> bool:
    moved = any(address != HOME for address in tercel.received_bytes)
    return moved and not tercel.handshake_completed and not (tercel.packets or tercel.events)


def _goes_on_after_an_error(stock: Step, tercel: Step) -> bool:
    same = closes(stock) == closes(tercel) is not None
    return same and tercel.arrived > 1 and stock.events[: len(tercel.events)] == tercel.events


DIVERGENCES = (
    Divergence(
        "datagrams behind an error",
        "10.2",
        "both",
        "aioquic reads on until it has sent CONNECTION_CLOSE, tercel drops what is behind",
        _goes_on_after_an_error,
    ),
    Divergence(
        "acknowledgement of what was not sent",
        "13.1",
        "tercel",
        "SHOULD be a PROTOCOL_VIOLATION if it is detected; aioquic ignores it",
        _acknowledges_unsent,
    ),
    Divergence(
        "largest offset of CRYPTO",
        "19.6",
        "both",
        "beyond 2^62-1, FRAME_ENCODING_ERROR and CRYPTO_BUFFER_EXCEEDED are both right",
        lambda stock, tercel: (
            closes(stock) == (FRAME_ENCODING_ERROR, 0x06)
            and closes(tercel) == (CRYPTO_BUFFER_EXCEEDED, 0x06)
            and any(
                frame["offset"] + len(frame["data"]) >= 1 << 62 for frame in said(tercel, "CRYPTO")
            )
        ),
    ),
    Divergence(
        "two errors in one STREAM frame",
        "11, 19.8",
        "both",
        "which error counts when the stream is wrong and the offset is beyond 2^62-1, too, is open",
        lambda stock, tercel: (
            (closes(stock) or ())[:1] == (FRAME_ENCODING_ERROR,)
            and (closes(tercel) or ())[:1] in ((STREAM_LIMIT_ERROR,), (STREAM_STATE_ERROR,))
            and any(
                frame["offset"] + len(frame["data"]) >= 1 << 62 for frame in said(tercel, "STREAM")
            )
        ),
    ),
    Divergence(
        "size of the CRYPTO buffer",
        "7.5",
        "both",
        "at least 4096 bytes; tercel keeps 64 KiB, aioquic 512 KiB of each level",
        lambda stock, tercel: (
            closes(stock) is None
            and closes(tercel) == (CRYPTO_BUFFER_EXCEEDED, 0x06)
            and any(
                frame["offset"] + len(frame["data"]) > 65_536 for frame in said(tercel, "CRYPTO")
            )
        ),
    ),
    Divergence(
        "credit for what was not consumed",
        "4.2",
        "both",
        "aioquic has announced more by then; every FLOW_CONTROL_ERROR is checked against what its "
        "server announced",
        lambda stock, tercel: (
            closes(stock) is None and (closes(tercel) or ())[:1] == (FLOW_CONTROL_ERROR,)
        ),
    ),
    Divergence(
        "two key updates in a row",
        "RFC 9001 6.2",
        "both",
        "MAY be a KEY_UPDATE_ERROR before the first was answered",
        lambda stock, tercel: closes(stock) is None and closes(tercel) == (KEY_UPDATE_ERROR, 0),
    ),
    Divergence(
        "number of connection IDs",
        "5.1.1",
        "both",
        "tercel announces that it keeps 4, aioquic 8",
        lambda stock, tercel: (
            closes(stock) is None
            and closes(tercel) == (CONNECTION_ID_LIMIT_ERROR, 0x18)
            and bool(said(tercel, "NEW_CONNECTION_ID"))
        ),
    ),
    Divergence(
        "PATH_RESPONSE in 0-RTT",
        "12.4",
        "tercel",
        "MUST be a PROTOCOL_VIOLATION by Table 3; aioquic ignores it",
        lambda stock, tercel: (
            closes(stock) is None
            and closes(tercel) == (PROTOCOL_VIOLATION, 0x1B)
            and any(kind is PacketType.ZERO_RTT for kind, _ in tercel.said)
        ),
    ),
    Divergence(
        "transport parameter twice",
        "7.4",
        "tercel",
        "SHOULD be a TRANSPORT_PARAMETER_ERROR; aioquic takes the last one",
        lambda stock, tercel: (
            not tercel.handshake_completed
            and closes(stock) is None
            and closes(tercel) == (TRANSPORT_PARAMETER_ERROR, 0x06)
        ),
    ),
    Divergence(
        "Retire Prior To beyond its own sequence number",
        "19.15",
        "tercel",
        "MUST be a FRAME_ENCODING_ERROR; aioquic says PROTOCOL_VIOLATION",
        lambda stock, tercel: (
            closes(stock) == (PROTOCOL_VIOLATION, 0x18)
            and closes(tercel) == (FRAME_ENCODING_ERROR, 0x18)
            and any(
                frame["retire_prior_to"] > frame["sequence"]
                for frame in said(tercel, "NEW_CONNECTION_ID")
            )
        ),
    ),
    Divergence(
        "idle time-out of 0",
        "18.2",
        "tercel",
        "0 means that the client has none; aioquic takes it for the shortest",
        _idle_time_out_of_0,
    ),
    Divergence(
        "another address during the handshake",
        "9",
        "tercel",
        "no migration before the handshake is confirmed; aioquic takes Handshake packets for a "
        "proof of the new address, though what their keys come from went to another one",
        _moves_in_the_handshake,
    ),
)
