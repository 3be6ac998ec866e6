"""Scripts that nobody wrote: both servers do the same, or what a rule says.

A script is a list of steps: frames in 1-RTT packets, valid and invalid ones, packets that are lost,
repeated, corrupted or out of order, time that passes, and an application that does something.
"""

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import frames
from tests.oracle.client import HANDSHAKE, INITIAL, ONE_RTT, corrupted
from tests.oracle.compare import check_credit, compare, play
from tests.oracle.conversation import STEP_SECONDS, Conversation
from tests.oracle.servers import MAX_REQUEST_STREAMS, STREAM_WINDOW_BYTES

FACTOR = int(os.environ.get("TERCEL_FUZZ", "1"))
"""How many times as long to look, as in tests/fuzz."""

BOUNDED = settings(
    max_examples=100 * FACTOR,
    deadline=None,
    derandomize=FACTOR == 1,
    suppress_health_check=list(HealthCheck),
)

_PATTERN = bytes(range(251)) * 300
_MOST = (1 << 62) - 1

# Streams of every kind: open, in use by nobody, of the server's, beyond the limit.
stream_ids = st.sampled_from([0, 4, 8, 0, 4, 2, 6, 3, 1, 4 * MAX_REQUEST_STREAMS, 4 * 1000 + 2])
small = st.integers(0, 40)
near = st.sampled_from(
    [0, 1, 100, STREAM_WINDOW_BYTES - 1, STREAM_WINDOW_BYTES, STREAM_WINDOW_BYTES + 1, _MOST]
)
offsets = small | near
codes = st.sampled_from([0, 1, 0x10C, _MOST])
limits = st.sampled_from([0, 1, 64, 1000, 300_000, 2_000_000, 1 << 60, (1 << 60) + 1, _MOST])


def _stream(stream_id: int, offset: int, size: int, fin: bool) -> bytes:
    # The data of a stream is always the same (RFC 9000 2.2).
    data = _PATTERN[offset : offset + size] if offset < len(_PATTERN) - size else bytes(size)
    return frames.stream(stream_id, data, offset=offset, fin=fin)


def _frame(kind: int, *fields: Any) -> st.SearchStrategy[bytes]:
    return st.builds(frames.encode, st.just(kind), *fields)


def _frames_with(
    ids: st.SearchStrategy[int], own: st.SearchStrategy[int], at: st.SearchStrategy[int], most: Any
) -> st.SearchStrategy[bytes]:
    """Frames of streams and limits; `own` are streams that the client receives on."""
    return st.one_of(
        st.builds(_stream, ids, at, small, st.booleans()),
        st.builds(_stream, ids, at, small, st.just(False)),
        st.builds(frames.reset_stream, ids, codes, at),
        st.builds(frames.stop_sending, own, codes),
        _frame(frames.MAX_DATA, most),
        _frame(frames.MAX_STREAM_DATA, own, most),
        _frame(frames.MAX_STREAMS_BIDI, most),
        _frame(frames.MAX_STREAMS_UNI, most),
        _frame(frames.DATA_BLOCKED, most),
        _frame(frames.STREAM_DATA_BLOCKED, ids, most),
        _frame(frames.STREAMS_BLOCKED_BIDI, most),
        st.builds(frames.ping),
        st.builds(frames.padding, st.integers(1, 30)),
    )


# What is mostly right: only a final size may be wrong, now and then.
plain_frames = _frames_with(
    st.sampled_from([0, 4, 8, 2, 6]),
    st.sampled_from([0, 4, 8]),
    small,
    st.sampled_from([0, 64, 1000, 300_000, 2_000_000, 1 << 60]),
)
edge_frames = _frames_with(stream_ids, stream_ids, offsets, limits)
path_frames = st.one_of(
    _frame(frames.PATH_CHALLENGE, st.binary(min_size=8, max_size=8)),
    _frame(frames.PATH_RESPONSE, st.binary(min_size=8, max_size=8)),
    _frame(frames.RETIRE_CONNECTION_ID, st.integers(1, 3)),
)
wrong_frames = st.one_of(
    _frame(frames.RETIRE_CONNECTION_ID, st.integers(0, 9)),
    st.integers(0x1F, 0x200).map(frames.encode),
    _frame(frames.HANDSHAKE_DONE),
    _frame(frames.NEW_TOKEN, st.just(frames.sized(b"token"))),
    _frame(frames.DATAGRAM_WITH_LENGTH, st.just(frames.sized(b"data"))),
    _frame(frames.ACK, st.integers(0, 6), st.just(0), st.integers(0, 2), st.integers(0, 6)),
    st.binary(min_size=1, max_size=12),
    st.builds(frames.application_close, codes),
    st.builds(frames.connection_close, codes, st.integers(0, 0x1F)),
)
usual_frames = plain_frames | plain_frames | path_frames


def steps(of: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    """Steps of a script whose packets have such frames."""
    content = st.lists(of, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.just("say"), content, st.booleans()),
        st.tuples(st.just("say"), content, st.booleans()),
        st.tuples(st.just("reordered"), content, content),
        st.tuples(st.just("twice"), content),
        st.tuples(st.just("corrupted"), content),
        st.tuples(st.just("lost"), content),
        st.tuples(st.just("connection ID"), st.integers(1, 3), st.integers(0, 1)),
        st.tuples(st.just("update keys")),
        st.tuples(st.just("time"), st.sampled_from([0.001, 0.03, 0.4, 3.0])),
        st.tuples(st.just("server's are lost"), st.booleans()),
        st.tuples(st.just("write"), stream_ids, st.sampled_from([0, 1, 500, 5000]), st.booleans()),
        st.tuples(st.just("reset"), stream_ids, codes),
        st.tuples(st.just("stop"), stream_ids, codes),
    )


class Application:
    """Does what a server's application may do on the streams that are there."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._ended: set[int] = set()
        self._written: dict[int, int] = {}

    def write(self, stream_id: int, size: int, fin: bool) -> None:
        """Send, if it may."""
        if self._may_send(stream_id):
            start = self._written.get(stream_id, 0)
            self._written[stream_id] = start + size
            self._conversation.write(stream_id, _PATTERN[start : start + size], fin)
            if fin:
                self._ended.add(stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        """Reset, if there is something to reset."""
        if self._may_send(stream_id) and stream_id in self._written:
            self._conversation.reset(stream_id, code)
            self._ended.add(stream_id)

    def stop(self, stream_id: int, code: int) -> None:
        """Stop, if there is more to come."""
        over = any(event[1] == stream_id for event in self._events("reset")) or any(
            event[3] for event in self._events("data") if event[1] == stream_id
        )
        known = any(event[1] == stream_id for event in self._events("data"))
        if known and not over:
            self._conversation.stop(stream_id, code)

    def _may_send(self, stream_id: int) -> bool:
        if stream_id in self._ended or self._conversation.is_over:
            return False
        if any(event[1] == stream_id for event in self._events("stop")):
            return False
        if stream_id == 3:
            return True
        is_open = any(event[1] == stream_id for event in self._events("data"))
        return is_open and stream_id & 3 == 0

    def _events(self, kind: str) -> list[Any]:
        return self._conversation.happened(kind)


def perform(conversation: Conversation, script: list[Any]) -> None:
    """Play a script of `steps` after a handshake."""
    conversation.connect()
    application = Application(conversation)
    for step in script:
        if conversation.is_over:
            break
        match step:
            case ("say", content, acknowledges):
                conversation.say(*content, ack=acknowledges)
            case ("reordered", first, second):
                packets = [conversation.packet(*content) for content in (first, second)]
                conversation.deliver(*reversed(packets))
            case ("twice", content):
                packet = conversation.packet(*content)
                conversation.deliver(packet, packet)
            case ("corrupted", content):
                conversation.deliver(corrupted(conversation.packet(*content)))
            case ("lost", content):
                conversation.packet(*content)
                conversation.wait(STEP_SECONDS)
            case ("connection ID", sequence, retire_prior_to):
                frame = conversation.client.new_connection_id(
                    sequence, retire_prior_to=retire_prior_to
                )
                conversation.say(frame)
            case ("update keys",):
                conversation.client.update_keys()
                conversation.say(frames.ping())
            case ("time", seconds):
                conversation.wait(seconds)
            case ("server's are lost", lost):
                conversation.lose = lambda _, lost=lost: lost
            case (action, *arguments):
                getattr(application, action)(*arguments)
    conversation.wait(1)


def hold(script: Any) -> None:
    """Play a script to both, and hold what has to be."""
    stock, tercel = play(script)
    result = compare(stock, tercel)
    assert not result.found, "\n".join(result.found)
    check_credit(tercel)


@BOUNDED
@given(st.lists(steps(usual_frames), min_size=3, max_size=15))
def test_whatever_a_client_does_both_servers_do_the_same(script):
    hold(lambda conversation: perform(conversation, script))


@BOUNDED
@given(st.lists(steps(usual_frames), max_size=4), st.lists(wrong_frames | edge_frames, max_size=4))
def test_whatever_is_wrong_both_servers_say_the_same_of_it(script, wrong):
    hold(lambda conversation: perform(conversation, [*script, ("say", wrong or [b""], True)]))


handshake_frames = st.one_of(
    st.builds(frames.ping),
    st.builds(frames.padding, st.integers(1, 30)),
    st.builds(frames.crypto, st.binary(min_size=1, max_size=8), st.sampled_from([0, 600, 5000])),
    st.builds(frames.connection_close, codes, st.integers(0, 0x1F)),
    _frame(frames.ACK, st.integers(0, 2), st.just(0), st.just(0), st.integers(0, 2)),
    edge_frames,
    wrong_frames,
)


@BOUNDED
@given(
    st.lists(
        st.tuples(
            st.sampled_from([INITIAL, HANDSHAKE, ONE_RTT]),
            st.lists(handshake_frames, min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_whatever_comes_during_the_handshake_both_servers_do_the_same(packets, completes):
    def script(conversation: Conversation) -> None:
        conversation.deliver(conversation.initial())
        for kind, content in packets:
            if conversation.is_over:
                return
            if kind is INITIAL:
                conversation.deliver(conversation.initial(*content))
            else:
                conversation.deliver(conversation.packet(*content, kind=kind))
        if completes and not conversation.is_over:
            conversation.deliver(conversation.finish())
            conversation.wait(1)

    hold(script)
