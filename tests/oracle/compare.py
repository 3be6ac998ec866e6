"""Compares two transcripts of one script, and checks each of them against RFC 9000.

Two steps are equal if they are once the rules of `differences.py` have taken out what may differ.
The comparison tells which rules it needed, so that a rule that nothing needs can be dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.client import DEFAULTS, LEAST_INITIAL_BYTES
from tests.oracle.conversation import Conversation, Step
from tests.oracle.differences import DIVERGENCES, NORMALISERS, View
from tests.oracle.packets import PacketType
from tests.oracle.servers import SERVERS

Script = Callable[[Conversation], None]

# RFC 9000 8.1.
_AMPLIFICATION = 3


@dataclass(slots=True)
class Comparison:
    """How two transcripts of one script differ."""

    found: list[str] = field(default_factory=list)
    """The differences that no rule allows."""
    rules: set[str] = field(default_factory=set)
    """The names of the rules that were needed."""
    diverged: str = ""
    """The rule that says why the two were not compared to the end."""


def play(script: Script, **client: Any) -> tuple[Conversation, Conversation]:
    """The conversation of `script` with aioquic's server, and with tercel's.

    `client` are ScriptedClient's options.
    """
    conversations = []
    for server in SERVERS:
        conversation = Conversation(server, **client)
        script(conversation)
        check(conversation, client.get("parameters") or {})
        conversations.append(conversation)
    stock, tercel = conversations
    return stock, tercel


def compare(stock: Conversation, tercel: Conversation) -> Comparison:
    """The differences of two conversations, step by step."""
    result = Comparison()
    for number, (one, other) in enumerate(zip(stock.steps, tercel.steps, strict=False)):
        needed = _needed(one, other)
        if needed is not None:
            result.rules |= needed
            continue
        for divergence in DIVERGENCES:
            if divergence.explains(one, other):
                result.rules.add(divergence.name)
                if divergence.ends:
                    result.diverged = divergence.name
                    return result
                break
        else:
            result.found.append(f"step {number}\n aioquic:\n{one}\n tercel:\n{other}")
            return result  # what follows from one difference is not another one
    if len(stock.steps) != len(tercel.steps):
        result.found.append(f"{len(stock.steps)} and {len(tercel.steps)} steps")
    return result


def _needed(one: Step, other: Step) -> set[str] | None:
    """The fewest rules that make two steps equal, None if all of them do not."""
    rules = list(NORMALISERS)
    if not _are_equal(one, other, rules):
        return None
    for rule in list(rules):
        without = [each for each in rules if each is not rule]
        if _are_equal(one, other, without):
            rules = without
    return {rule.name for rule in rules}


def _are_equal(one: Step, other: Step, rules: Sequence[Any]) -> bool:
    views = [View(tuple(step.packets), tuple(step.events)) for step in (one, other)]
    for rule in rules:
        if views[0] == views[1]:
            return True
        views = [rule.apply(view) for view in views]
    return views[0] == views[1]


# -- what RFC 9000 demands of every server, whatever its client does ------------------------------


def check(conversation: Conversation, parameters: dict[str, Any]) -> None:
    """Raises AssertionError if the server has broken a rule that holds for every script."""
    _check_amplification(conversation)
    _check_sizes(conversation)
    _check_streams(conversation, DEFAULTS | parameters)
    _check_limits(conversation)
    _check_close(conversation)


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
            names = {frame.name for _, content in step.said for frame in content if _is_read(frame)}
            if PacketType.HANDSHAKE in kinds or "PATH_RESPONSE" in names:
                validated.add(address)
        for address, size, _ in step.datagrams:
            sent[address] = sent.get(address, 0) + size
            assert address in validated or sent[address] <= _AMPLIFICATION * received.get(
                address, 0
            ), f"{step.label}: RFC 9000 8.1"


def _check_sizes(conversation: Conversation) -> None:
    """RFC 9000 14.1: datagrams with an Initial that elicits an acknowledgement are full."""
    for step in conversation.steps:
        for _, size, packets in step.datagrams:
            is_full = size >= LEAST_INITIAL_BYTES
            elicits = any(
                frame.is_ack_eliciting
                for packet in packets
                if packet.type is PacketType.INITIAL
                for frame in packet.frames
            )
            assert is_full or not elicits, f"{step.label}: RFC 9000 14.1"


def _check_streams(conversation: Conversation, parameters: dict[str, Any]) -> None:
    """RFC 9000 2.2, 4.1, 4.5: the same data at the same offset, one end, no more than allowed."""
    limits = _Limits(parameters)
    data: dict[int, bytearray] = {}
    ends: dict[int, int] = {}
    for step in conversation.steps:
        for _, content in step.said:
            for frame in filter(_is_read, content):
                limits.raise_by(frame)
        for frame in (frame for packet in step.packets for frame in packet.frames):
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
    """What the server may send, by what its client has said."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.data = parameters["initial_max_data"] or 0
        self._parameters = parameters
        self._streams: dict[int, int] = {}

    def of(self, stream_id: int) -> int:
        """The limit of a stream."""
        kind = "uni" if stream_id & 2 else "bidi_remote" if stream_id & 1 else "bidi_local"
        initial = self._parameters[f"initial_max_stream_data_{kind}"] or 0
        return max(self._streams.get(stream_id, 0), initial)

    def raise_by(self, frame: Any) -> None:
        """Take MAX_DATA and MAX_STREAM_DATA."""
        if frame.name == "MAX_DATA":
            self.data = max(self.data, frame["maximum"])
        elif frame.name == "MAX_STREAM_DATA":
            before = self._streams.get(frame["stream_id"], 0)
            self._streams[frame["stream_id"]] = max(before, frame["maximum"])


def _check_limits(conversation: Conversation) -> None:
    """RFC 9000 4.1, 4.6: limits that are announced do not become less."""
    highest: dict[tuple[Any, ...], int] = {}
    for packet in (packet for step in conversation.steps for packet in step.packets):
        for frame in packet.frames:
            if frame.name.startswith("MAX_"):
                key = frame.name, *frame.fields[:-1]
                assert frame["maximum"] >= highest.get(key, 0), f"RFC 9000 4.1: {frame}"
                highest[key] = frame["maximum"]


def _check_close(conversation: Conversation) -> None:
    """RFC 9000 10.2: after CONNECTION_CLOSE there is nothing else, and nothing is heard of data."""
    closed = False
    for step in conversation.steps:
        for packet in step.packets:
            names = {frame.name for frame in packet.frames} - {"PADDING", "ACK"}
            closes = bool(names & {"CONNECTION_CLOSE", "APPLICATION_CLOSE"})
            assert closes or not closed, f"{step.label}: RFC 9000 10.2.1"
            closed |= closes


def _is_read(frame: Any) -> bool:
    return not isinstance(frame, bytes)
