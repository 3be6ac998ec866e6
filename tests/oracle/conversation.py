"""Plays a script to one server, in virtual time, and writes down what came of it.

A conversation is a list of steps. In each of them the client sends datagrams, or the server's
application does something, or nothing happens; then time passes, and the server's timers fire.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioquic.quic import events

from tests.oracle import frames
from tests.oracle.client import DEFAULTS, HANDSHAKE, INITIAL, ONE_RTT, Received, ScriptedClient
from tests.oracle.frames import Frame, shown
from tests.oracle.packets import PacketType
from tests.oracle.servers import SERVERS

HOME = ("192.0.2.1", 50_000)
STEP_SECONDS = 0.02
"""How long a step lasts if it does not say: longer than a server delays an ACK, and no time-out."""
# Calls of a timer in one step, after which a server counts as spinning.
_MOST_TIMERS = 20_000

Event = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet that the server sent."""

    type: PacketType
    to: int
    """The sequence number of the client's connection ID."""
    address: Any
    key_phase: int
    time: int
    """Milliseconds since the step began."""
    frames: tuple[Frame, ...]

    def __str__(self) -> str:
        content = "; ".join(map(str, self.frames))
        return f"{self.time:6} ms {self.type.value} to {self.to} at {self.address[0]}: {content}"


@dataclass(slots=True)
class Step:
    """What was sent to the server, and what came of it."""

    label: str
    said: list[tuple[PacketType, tuple[Frame | bytes, ...]]]
    """The client's packets; a frame that cannot be read is bytes."""
    observed: dict[PacketType, frozenset[int]]
    """The numbers of the packets that the server had sent before."""
    parameters: dict[str, Any]
    """The client's transport parameters."""
    handshake_completed: bool
    """Whether the server's handshake was complete before."""
    packets: list[Sent] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    datagrams: list[tuple[Any, int, tuple[Received, ...]]] = field(default_factory=list)
    """Address, size and packets of each datagram of the server's."""
    consumed: dict[int, int] = field(default_factory=dict)
    """Bytes that the application had consumed in the end, by stream."""
    arrived: int = 0
    """Datagrams that were sent to the server."""
    received_bytes: dict[Any, int] = field(default_factory=dict)
    """Bytes that were sent to the server, by address."""

    def __str__(self) -> str:
        said = [f"    > {kind.value}: {'; '.join(map(str, parts))}" for kind, parts in self.said]
        packets = [f"    < {packet}" for packet in self.packets]
        happened = [f"    * {' '.join(map(shown, event))}" for event in self.events]
        return "\n".join([f"  {self.label}", *said, *packets, *happened])


class Conversation:
    """A client, a server of the kind called `server`, and what they said so far."""

    def __init__(self, server: str, *, chain: int = 0, tickets: Any = None, **client: Any) -> None:
        """The server has a `chain` of certificates, and `tickets` of earlier connections.

        `client` are ScriptedClient's options.
        """
        self.now = 1000.0
        self.client = ScriptedClient(**client)
        self.parameters = DEFAULTS | (client.get("parameters") or {})
        self.server = SERVERS[server](self.client.destination, chain=chain, tickets=tickets)
        self.steps: list[Step] = []
        self.address: Any = HOME
        """Where the client is."""
        self.lose: Callable[[int], bool] = lambda _: False
        """Whether the server's datagram of this number, from 0 in each step, gets lost."""
        self.mark = 0
        """The ECN field of the client's datagrams."""
        self.reads = True
        """Whether the server's application consumes what arrives at once."""
        self.consumed: dict[int, int] = {}
        """Bytes that the server's application has consumed, by stream."""
        self.is_over = False
        """Whether the server has ended the connection, or its client has."""
        self._said: list[tuple[PacketType, tuple[Frame | bytes, ...]]] = []
        self._issued: dict[bytes, int] = {}

    # -- the client ---------------------------------------------------------------------------

    def connect(self) -> None:
        """The handshake, without a loss, up to the client's acknowledgement of its end."""
        self.deliver(self.initial(), label="ClientHello")
        self.deliver(self.finish(), label="Finished")
        self.say()

    def initial(self, *content: bytes, **options: Any) -> bytes:
        """`ScriptedClient.initial`, written down."""
        datagram = self.client.initial(*content, **options)
        self._write_down(INITIAL)
        return datagram

    def finish(self) -> bytes:
        """`ScriptedClient.finished`, written down."""
        self._said.append((HANDSHAKE, (b"Finished",)))
        return self.client.finished()

    def packet(self, *content: bytes, kind: PacketType = ONE_RTT, **options: Any) -> bytes:
        """`ScriptedClient.packet`, written down."""
        packet = self.client.packet(*content, kind=kind, **options)
        self._write_down(kind)
        return packet

    def say(
        self,
        *content: bytes,
        ack: bool = True,
        address: Any = None,
        wait: float = STEP_SECONDS,
        label: str = "",
        **options: Any,
    ) -> None:
        """A step: a datagram with one 1-RTT packet, with an ACK if one is owed and `ack` is True.

        Without content it has an ACK; if there is nothing to acknowledge, nothing is sent.
        """
        if ack and (self.client.owes_ack or not content) and self.client.received[ONE_RTT]:
            content = (self.client.ack(), *content)
        datagrams = [self.packet(*content, **options)] if content else []
        self.deliver(*datagrams, address=address, wait=wait, label=label)

    def deliver(
        self,
        *datagrams: bytes,
        address: Any = None,
        wait: float = STEP_SECONDS,
        label: str = "",
    ) -> None:
        """A step: datagrams come in from `address`, all of them before the server may send."""
        address = self.address if address is None else address
        step = self._begin(label or ("datagrams" if datagrams else "time passes"))
        self.server.arrives_with(self.mark)
        for datagram in datagrams:
            self.server.receive_datagram(datagram, address, self.now)
            self._hear(step)
        step.arrived = len(datagrams)
        step.received_bytes[address] = sum(map(len, datagrams))
        self._pass(step, wait)

    def acknowledge(self, seconds: float) -> None:
        """A step: the client acknowledges what has come, again and again."""
        step = self._begin(f"{seconds} s of acknowledgements")
        end = self.now + seconds
        while self.now < end:
            if ONE_RTT in self.client.owes_ack:
                datagram = self.packet(self.client.ack())
                self.server.receive_datagram(datagram, self.address, self.now)
            self._pass(step, STEP_SECONDS)
        step.said, self._said = self._said, []

    def watch(self, seconds: float, each: float = 0.05) -> None:
        """Many short steps in which nothing is said: so times count, too."""
        for _ in range(round(seconds / each)):
            self.wait(each)

    def wait(self, seconds: float) -> None:
        """A step: nothing is said."""
        self.deliver(wait=seconds, label=f"{seconds} s pass")

    # -- the server's application -------------------------------------------------------------

    def write(self, stream_id: int, data: bytes, fin: bool = False, **options: Any) -> None:
        """A step: the application sends on a stream."""
        self.act(
            lambda server: server.send_stream_data(stream_id, data, fin),
            label=f"application sends {len(data)} bytes on {stream_id}{' and ends it' * fin}",
            **options,
        )

    def reset(self, stream_id: int, code: int) -> None:
        """A step: the application resets the sending part of a stream."""
        self.act(lambda server: server.reset_stream(stream_id, code), label=f"reset {stream_id}")

    def stop(self, stream_id: int, code: int) -> None:
        """A step: the application wants no more of a stream."""
        self.act(lambda server: server.stop_stream(stream_id, code), label=f"stop {stream_id}")

    def close(self, code: int, frame_type: int | None = None, reason: str = "") -> None:
        """A step: the application closes the connection."""
        self.act(lambda server: server.close(code, frame_type, reason), label=f"close {code:#x}")

    def consume(self, stream_id: int, size: int) -> None:
        """A step: the application consumes what it has left so far, if `reads` is False."""
        self.act(
            lambda _: self._consume(stream_id, size), label=f"{size} bytes of {stream_id} read"
        )

    def act(self, action: Callable[[Any], None], *, label: str, wait: float = STEP_SECONDS) -> None:
        """A step: the application calls the server."""
        step = self._begin(label)
        action(self.server)
        self._pass(step, wait)

    def _consume(self, stream_id: int, size: int) -> None:
        self.consumed[stream_id] = self.consumed.get(stream_id, 0) + size
        self.server.grant(stream_id, size)

    def _release(self, stream_id: int) -> None:
        # RFC 9000 4.5: all of it counts as consumed.
        said = [frame for step in self.steps for _, content in step.said for frame in content]
        resets = [
            frame["final_size"]
            for frame in said
            if isinstance(frame, Frame)
            and frame.name == "RESET_STREAM"
            and frame["stream_id"] == stream_id
        ]
        self.consumed[stream_id] = max(resets, default=0)
        self.server.release(stream_id)

    # -- what is said -------------------------------------------------------------------------

    def sent(self, name: str, step: int | None = None) -> list[Frame]:
        """The frames of a name that the server sent, in all steps or in one of them."""
        steps = self.steps if step is None else [self.steps[step]]
        packets = [packet for each in steps for packet in each.packets]
        return [frame for packet in packets for frame in packet.frames if frame.name == name]

    def happened(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for step in self.steps for event in step.events if event[0] == kind]

    def _write_down(self, kind: PacketType) -> None:
        self._said.append((kind, tuple(frames.read_as_far_as_possible(self.client.payload))))

    # -- time ---------------------------------------------------------------------------------

    def _begin(self, label: str) -> Step:
        observed = {kind: frozenset(numbers) for kind, numbers in self.client.observed.items()}
        completed = bool(self.happened("handshake completed"))
        step = Step(label, self._said, observed, self.parameters, completed)
        self._said = []
        self.steps.append(step)
        return step

    def _pass(self, step: Step, seconds: float) -> None:
        begin, end = self.now, self.now + seconds
        self._send(step, begin)
        for _ in range(_MOST_TIMERS):
            due = self.server.get_timer()
            if due is None or due > end:
                self.now = end
                step.consumed = dict(self.consumed)
                return
            self.now = max(self.now, due)
            self.server.handle_timer(self.now)
            self._send(step, begin)
        raise AssertionError("the server's timer spins")

    def _send(self, step: Step, begin: float) -> None:
        self._hear(step)
        for data, address in self.server.datagrams_to_send(self.now):
            lost = self.lose(len(step.datagrams))
            packets = tuple(self.client.receive(data, lost=lost))
            step.datagrams.append((address, len(data), packets))
            time = round((self.now - begin) * 1000)
            step.packets += [
                Sent(packet.type, packet.to, address, packet.key_phase, time, packet.frames)
                for packet in packets
            ]
            names = {frame.name for packet in packets for frame in packet.frames}
            self.is_over |= bool(names & {"CONNECTION_CLOSE", "APPLICATION_CLOSE"})
        self._hear(step)

    def _hear(self, step: Step) -> None:
        while (event := self.server.next_event()) is not None:
            match event:
                case events.StreamDataReceived(data, fin, stream_id):
                    before = step.events[-1] if step.events else None
                    if before is not None and before[:2] == ("data", stream_id):
                        data = before[2] + data
                        step.events.pop()
                    step.events.append(("data", stream_id, data, fin))
                    if self.reads:
                        self._consume(stream_id, len(event.data))
                    continue
                case events.StreamReset(code, stream_id):
                    self._release(stream_id)
                    step.events.append(("reset", stream_id, code))
                case events.StopSendingReceived(code, stream_id):
                    step.events.append(("stop", stream_id, code))
                case events.HandshakeCompleted(alpn, early, resumed):
                    step.events.append(("handshake completed", alpn, early, resumed))
                case events.ProtocolNegotiated(alpn):
                    step.events.append(("protocol negotiated", alpn))
                case events.ConnectionTerminated(code, frame_type, _):
                    step.events.append(("terminated", code, frame_type))
                    self.is_over = True
                case events.DatagramFrameReceived(data):
                    step.events.append(("datagram", data))
                case events.ConnectionIdIssued(cid):
                    self._issued[cid] = len(self._issued) + 1
                    step.events.append(("connection ID issued", self._issued[cid]))
                case events.ConnectionIdRetired(cid):
                    step.events.append(("connection ID retired", self._issued.get(cid, 0)))
                case _:
                    step.events.append((type(event).__name__,))
