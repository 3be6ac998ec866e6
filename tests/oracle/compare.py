"""Compares two transcripts of one script, and checks each of them against RFC 9000.

Two steps are equal if they are once the rules of `differences.py` have taken out what may differ.
The comparison tells which rules it needed, so that a rule that nothing needs can be dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.oracle.client import LEAST_INITIAL_BYTES
from tests.oracle.conversation import HOME, Conversation, Step
from tests.oracle.differences import (
    CREDIT,
    DIVERGENCES,
    NORMALISERS,
    Normaliser,
    View,
    closes,
    numbers_in,
)
from tests.oracle.frames import Frame
from tests.oracle.packets import PacketType
from tests.oracle.servers import CONNECTION_WINDOW_BYTES, SERVERS, STREAM_WINDOW_BYTES

Script = Callable[[Conversation], None]

# RFC 9000 8.1.
_AMPLIFICATION = 3
_FLOW_CONTROL_ERROR, _STREAM_LIMIT_ERROR = 0x03, 0x04
_STREAM_LIMITS = ("MAX_STREAM_DATA", "STREAM_DATA_BLOCKED")


@dataclass(slots=True)
class Comparison:
    """How two transcripts of one script differ."""

    found: list[str] = field(default_factory=list)
    """The differences that no rule allows."""
    rules: set[str] = field(default_factory=set)
    """The names of the rules that were needed."""
    diverged: str = ""
    """The rule that says why the two were not compared to the end."""


def play(
    script: Script, *, resumes: bool = False, **options: Any
) -> tuple[Conversation, Conversation]:
    """The conversation of `script` with aioquic's server, and with tercel's.

    It `resumes` another one, or not; `options` are Conversation's.
    """
    conversations = []
    for server, kind in SERVERS.items():
        if resumes:
            tickets = kind.ticket_store()
            earlier = Conversation(server, tickets=tickets, keeps_tickets=True)
            earlier.connect()
            options |= {"tickets": tickets, "session_ticket": earlier.client.tickets[0]}
        conversation = Conversation(server, **options)
        script(conversation)
        check(conversation)
        conversations.append(conversation)
    stock, tercel = conversations
    return stock, tercel


def compare(stock: Conversation, tercel: Conversation) -> Comparison:
    """The differences of two conversations, step by step."""
    result = Comparison()
    views = _views(stock), _views(tercel)
    for number, (one, other) in enumerate(zip(stock.steps, tercel.steps, strict=False)):
        pair = [next(each) for each in views]
        credited = any(view.credited for view in pair)
        needed = _needed(*(replace(view, credited=credited) for view in pair))
        if needed is not None:
            result.rules |= needed
            continue
        for divergence in DIVERGENCES:
            if divergence.explains(one, other):
                result.rules.add(divergence.name)
                result.diverged = divergence.name
                return result
        result.found.append(f"step {number}\n aioquic:\n{one}\n tercel:\n{other}")
        return result  # what follows from one difference is not another one
    if len(stock.steps) != len(tercel.steps):
        result.found.append(f"{len(stock.steps)} and {len(tercel.steps)} steps")
    return result


def _views(conversation: Conversation) -> Iterator[View]:
    acknowledged: dict[PacketType, frozenset[int]] = {kind: frozenset() for kind in PacketType}
    credited = False
    for step in conversation.steps:
        credited |= any(frame.name in CREDIT for _, frame in frames_of(step))
        yield View(tuple(step.packets), tuple(step.events), dict(acknowledged), credited)
        for kind, frame in frames_of(step):
            if frame.name == "ACK":
                acknowledged[kind] |= numbers_in(frame)


def _needed(one: View, other: View) -> set[str] | None:
    """The fewest rules that make two steps equal, None if all of them do not."""
    rules = list(NORMALISERS)
    if not _are_equal(one, other, rules):
        return None
    for rule in list(rules):
        without = [each for each in rules if each is not rule]
        if _are_equal(one, other, without):
            rules = without
    return {rule.name for rule in rules}


def _are_equal(one: View, other: View, rules: Sequence[Normaliser]) -> bool:
    views = [one, other]
    for rule in rules:
        if views[0] == views[1]:
            return True
        views = [rule.apply(view) for view in views]
    return views[0] == views[1]


# -- what RFC 9000 demands of every server, whatever its client does ------------------------------


def check(conversation: Conversation) -> None:
    """Raises AssertionError if the server has broken a rule that holds for every script."""
    _check_acknowledgements(conversation)
    _check_amplification(conversation)
    _check_sizes(conversation)
    _check_streams(conversation)
    _check_limits(conversation)
    _check_limit_errors(conversation)
    _check_close(conversation)


def _check_acknowledgements(conversation: Conversation) -> None:
    """RFC 9000 13.1: only what the client has sent."""
    for step in conversation.steps:
        for kind, frame in frames_of(step):
            if frame.name == "ACK":
                assert numbers_in(frame) <= conversation.client.sent[kind], f"{frame}: 13.1"


def _check_amplification(conversation: Conversation) -> None:
    """RFC 9000 8.1, 9.3.1: three times what came from an address, until it is validated."""
    received: dict[Any, int] = {}
    sent: dict[Any, int] = {}
    validated = set()
    for step in conversation.steps:
        for address, size in step.received_bytes.items():
            received[address] = received.get(address, 0) + size
            # What a script says in these it has from datagrams that came to its address.
            kinds = {kind for kind, _ in step.said}
            names = {frame.name for frame in said_in(step)}
            if PacketType.HANDSHAKE in kinds or "PATH_RESPONSE" in names:
                validated.add(address)
        for address, size, _ in step.datagrams:
            sent[address] = sent.get(address, 0) + size
            assert address in validated or sent[address] <= _AMPLIFICATION * received.get(
                address, 0
            ), f"{step.label}: RFC 9000 8.1"


def _check_sizes(conversation: Conversation) -> None:
    """RFC 9000 8.2, 14.1: datagrams with an Initial that elicits an acknowledgement are full.

    So are those that validate a path, where the anti-amplification limit is none.
    """
    for step in conversation.steps:
        for address, size, packets in step.datagrams:
            is_full = size >= LEAST_INITIAL_BYTES
            elicits = any(
                frame.is_ack_eliciting
                for packet in packets
                if packet.type is PacketType.INITIAL
                for frame in packet.frames
            )
            assert is_full or not elicits, f"{step.label}: RFC 9000 14.1"
            names = {frame.name for packet in packets for frame in packet.frames}
            if address == HOME and names & {"PATH_CHALLENGE", "PATH_RESPONSE"}:
                assert is_full, f"{step.label}: RFC 9000 8.2.1, 8.2.2"


def _check_streams(conversation: Conversation) -> None:
    """RFC 9000 2.2, 4.1, 4.5: the same data at the same offset, one end, no more than allowed."""
    limits = _Limits(conversation.parameters)
    data: dict[int, bytearray] = {}
    ends: dict[int, int] = {}
    for step in conversation.steps:
        for frame in said_in(step):
            limits.raise_by(frame)
        for _, frame in frames_of(step):
            if frame.name == "STREAM":
                stream_id, offset, part = frame["stream_id"], frame["offset"], frame["data"]
                known = data.setdefault(stream_id, bytearray())
                common = known[offset : offset + len(part)]
                assert common == part[: len(common)], "RFC 9000 2.2: other data"
                assert offset <= len(known), "a gap that was never sent"
                known[offset : offset + len(part)] = part
                if frame["fin"]:
                    assert ends.setdefault(stream_id, offset + len(part)) == offset + len(part)
                assert len(known) <= ends.get(stream_id, len(known)), "RFC 9000 4.5"
                assert len(known) <= limits.of(stream_id), "RFC 9000 4.1: stream"
                assert sum(map(len, data.values())) <= limits.data, "RFC 9000 4.1: connection"
            elif frame.name == "RESET_STREAM":
                size = len(data.get(frame["stream_id"], b""))
                assert frame["final_size"] == size, "RFC 9000 4.5: the size of what was sent"


class _Limits:
    """What one side may send, by what the other has said."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.data = parameters.get("initial_max_data") or 0
        self.streams = {
            kind: parameters.get(f"initial_max_streams_{kind}") or 0 for kind in ("bidi", "uni")
        }
        self._parameters = parameters
        self._streams: dict[int, int] = {}

    def of(self, stream_id: int, *, own: bool = False) -> int:
        """The limit of a stream; `own` is one that the side that is limited has opened."""
        kind = "uni" if stream_id & 2 else "bidi_remote" if own else "bidi_local"
        initial = self._parameters.get(f"initial_max_stream_data_{kind}") or 0
        return max(self._streams.get(stream_id, 0), initial)

    def raise_by(self, frame: Any) -> None:
        """Take MAX_DATA and MAX_STREAM_DATA."""
        if frame.name == "MAX_DATA":
            self.data = max(self.data, frame["maximum"])
        elif frame.name == "MAX_STREAM_DATA":
            before = self._streams.get(frame["stream_id"], 0)
            self._streams[frame["stream_id"]] = max(before, frame["maximum"])
        elif frame.name.startswith("MAX_STREAMS_"):
            kind = frame.name.removeprefix("MAX_STREAMS_").lower()
            self.streams[kind] = max(self.streams[kind], frame["maximum"])


def _check_limits(conversation: Conversation) -> None:
    """RFC 9000 4.1, 4.6: limits that are announced do not become less."""
    highest: dict[tuple[Any, ...], int] = {}
    for step in conversation.steps:
        for _, frame in frames_of(step):
            if frame.name.startswith("MAX_"):
                key = frame.name, *frame.fields[:-1]
                assert frame["maximum"] >= highest.get(key, 0), f"RFC 9000 4.1: {frame}"
                highest[key] = frame["maximum"]


def _check_limit_errors(conversation: Conversation) -> None:
    """RFC 9000 4.1, 4.6: an error needs a limit that was announced and exceeded."""
    limits = _Limits(conversation.client.server_parameters)
    highest: dict[int, int] = {}
    for step in conversation.steps:
        opened = []
        for frame in said_in(step):
            if frame.name in ("STREAM", "RESET_STREAM", "STOP_SENDING", *_STREAM_LIMITS):
                opened.append(frame["stream_id"])
            if frame.name in ("STREAM", "RESET_STREAM"):
                fields = dict(frame.fields)
                end = fields.get(
                    "final_size", fields.get("offset", 0) + len(fields.get("data", b""))
                )
                highest[frame["stream_id"]] = max(highest.get(frame["stream_id"], 0), end)
        code = (closes(step) or (0,))[0]
        if code == _FLOW_CONTROL_ERROR:
            assert sum(highest.values()) > limits.data or any(
                end > limits.of(stream_id, own=not stream_id & 1)
                for stream_id, end in highest.items()
            ), f"{step.label}: FLOW_CONTROL_ERROR within the limits"
        if code == _STREAM_LIMIT_ERROR:
            assert any(
                stream_id >> 2 >= limits.streams["uni" if stream_id & 2 else "bidi"]
                for stream_id in opened
            ), f"{step.label}: STREAM_LIMIT_ERROR within the limits"
        for _, frame in frames_of(step):
            limits.raise_by(frame)


def check_credit(conversation: Conversation) -> None:
    """What tercel announces: a window beyond what was consumed at the most (RFC 9000 4.2).

    At the end of a step at least half of one is left, so that nobody waits for credit.
    """
    most = {"connection": CONNECTION_WINDOW_BYTES}
    ended = set()
    for step in conversation.steps:
        total = sum(step.consumed.values())
        for _, frame in frames_of(step):
            if frame.name == "MAX_DATA":
                assert frame["maximum"] <= total + CONNECTION_WINDOW_BYTES
                most["connection"] = frame["maximum"]
            elif frame.name == "MAX_STREAM_DATA":
                stream_id = frame["stream_id"]
                assert frame["maximum"] <= step.consumed.get(stream_id, 0) + STREAM_WINDOW_BYTES
                most[stream_id] = frame["maximum"]
        ended |= {event[1] for event in step.events if event[0] == "reset"}
        ended |= {event[1] for event in step.events if event[0] == "data" and event[3]}
        if closes(step) or ("terminated" in {event[0] for event in step.events}):
            return
        assert most["connection"] - total >= CONNECTION_WINDOW_BYTES // 2, step.label
        for stream_id in step.consumed.keys() - ended:
            left = most.get(stream_id, STREAM_WINDOW_BYTES) - step.consumed[stream_id]
            assert left >= STREAM_WINDOW_BYTES // 2, f"{step.label}: stream {stream_id}"


def _check_close(conversation: Conversation) -> None:
    """RFC 9000 10.2: after CONNECTION_CLOSE there is nothing else, and nothing is heard of data."""
    closed = False
    for step in conversation.steps:
        for packet in step.packets:
            names = {frame.name for frame in packet.frames} - {"PADDING", "ACK"}
            closes = bool(names & {"CONNECTION_CLOSE", "APPLICATION_CLOSE"})
            assert closes or not closed, f"{step.label}: RFC 9000 10.2.1"
            closed |= closes


def frames_of(step: Step) -> Iterator[tuple[PacketType, Frame]]:
    """The frames that the server sent in a step, each with the type of its packet."""
    for packet in step.packets:
        for frame in packet.frames:
            yield packet.type, frame


def said_in(step: Step) -> Iterator[Frame]:
    """The frames of the client in a step that could be read."""
    for _, content in step.said:
        for frame in content:
            if not isinstance(frame, bytes):
                yield frame
