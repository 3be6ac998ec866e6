import asyncio
import logging
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from tercel.shared.errors import ConnectionClosed, ServerError
from tercel.shared.websocket.frame import HIGH_WATER_BYTES
from tercel.shared.websocket.impl import WebsocketImplProtocol
from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import Pair

both = pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])


def sent_by_client(pair: Pair) -> bytes:
    return b"".join(pair.client.data_to_send())


def close_frame(pair: Pair) -> tuple[int, str]:
    """The code and reason of the close frame that the client got."""
    pair.client_receives()
    assert pair.client.close_rcvd is not None
    return pair.client.close_rcvd.code, pair.client.close_rcvd.reason


@both
@clocktest
async def test_messages_arrive_in_order_whatever_their_size(compression: bool) -> None:
    pair = Pair(compression=compression)
    messages: list[Any] = ["", b"", "h\u00e9", b"x" * 125, "y" * 126, b"z" * 70_000, "end"]
    for message in messages:
        pair.client_sends(message)
    assert [await pair.server.recv() for _ in messages] == messages


@both
@clocktest
async def test_bytes_may_come_one_by_one(compression: bool) -> None:
    pair = Pair(compression=compression)
    pair.client.send_text(b"one")
    pair.client.send_binary(b"t" * 200, fin=False)
    pair.client.send_ping(b"now")
    pair.client.send_continuation(b"wo", fin=True)
    pair.client.send_text(b"three")
    for byte in sent_by_client(pair):
        pair.stream.deliver(bytes((byte,)))
    received = [await pair.server.recv() for _ in range(3)]
    assert received == ["one", b"t" * 200 + b"wo", "three"]
    assert [frame.opcode for frame in pair.client_receives()] == [Opcode.PONG]


@clocktest
async def test_no_message_takes_more_than_it_waits_for() -> None:
    pair = Pair()
    assert await pair.server.recv(0) is None
    assert await pair.server.recv(2.5) is None
    assert asyncio.get_running_loop().time() == 2.5


@clocktest
async def test_concurrent_receiving_is_an_error_and_harms_nobody() -> None:
    pair = Pair()
    first = asyncio.ensure_future(pair.server.recv())
    await turns()
    with pytest.raises(ServerError):
        await pair.server.recv()
    with pytest.raises(ServerError):
        await pair.server.recv_burst()
    with pytest.raises(ServerError):
        await anext(pair.server.recv_streaming())
    pair.client_sends("for the first")
    assert await first == "for the first"


@clocktest
async def test_a_cancelled_recv_loses_no_message() -> None:
    pair = Pair()
    waits = asyncio.ensure_future(pair.server.recv())
    await turns()
    pair.client_sends("a", "b")
    waits.cancel()  # It has been woken, but has not run.
    with pytest.raises(asyncio.CancelledError):
        await waits
    waits = asyncio.ensure_future(pair.server.recv(10))
    waits.cancel()
    await turns()
    assert await pair.server.recv_burst() == ["a", "b"]


@clocktest
async def test_a_burst_is_what_has_arrived() -> None:
    pair = Pair()
    assert await pair.server.recv_burst() == []
    pair.client_sends("a", "b", "c")
    assert await pair.server.recv_burst(max_recv=2) == ["a", "b"]
    assert await pair.server.recv_burst() == ["c"]
    pair.client_sends("d")
    pair.client_closes()
    assert await pair.server.recv_burst() == ["d"]
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv_burst()


@clocktest
async def test_asking_for_bursts_in_a_loop_lets_the_connection_receive() -> None:
    pair = Pair()
    asyncio.get_running_loop().call_soon(pair.client_sends, "at last")
    burst: Any = []
    while not burst:
        burst = await pair.server.recv_burst()
    assert burst == ["at last"]


@both
@clocktest
async def test_a_message_can_be_received_frame_by_frame(compression: bool) -> None:
    pair = Pair(compression=compression)
    pair.client.send_text(b"a", fin=False)
    pair.client.send_continuation(b"b", fin=False)
    pair.flush()
    stream = pair.server.recv_streaming()
    assert [await anext(stream), await anext(stream)] == ["a", "b"]
    with pytest.raises(ServerError):
        await pair.server.recv()
    pair.client.send_continuation(b"c", fin=True)
    pair.flush()
    assert [part async for part in stream] == ["c"]


@clocktest
async def test_iterating_ends_with_a_regular_close() -> None:
    pair = Pair()
    pair.client_sends("a", "b")
    pair.client_closes(1001)
    assert [message async for message in pair.server] == ["a", "b"]


@clocktest
async def test_iterating_raises_for_an_irregular_end() -> None:
    pair = Pair()
    pair.client_sends("a")
    pair.stream.lose(ConnectionClosed("reset"))
    messages = []
    with pytest.raises(ConnectionClosedError):
        async for message in pair.server:
            messages.append(message)
    assert messages == ["a"]


# -- answers ------------------------------------------------------------------------------------


@clocktest
async def test_a_ping_is_answered_with_its_payload() -> None:
    pair = Pair()
    pair.client.send_ping(b"payload")
    pair.flush()
    (pong,) = pair.client_receives()
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"payload")


@clocktest
async def test_the_answers_to_a_batch_go_out_in_one_write() -> None:
    pair = Pair()
    for number in range(10):
        pair.client.send_ping(str(number).encode())
        pair.client.send_text(b"between")
    pair.flush()
    assert len(pair.stream.writes) == 1
    assert [bytes(pong.data) for pong in pair.client_receives()] == [b"%d" % n for n in range(10)]


@clocktest
async def test_pings_of_a_peer_that_reads_nothing_cost_no_memory() -> None:
    pair = Pair()
    await pair.server.send(bytes(100_000))
    assert not pair.stream.writable
    before = pair.stream.unsent
    for number in range(20_000):
        pair.client.send_ping(b"%0100d" % number)
        if number % 500 == 499:
            pair.flush()
    assert pair.stream.unsent == before
    message, *_ = pair.client_receives()
    assert len(message.data) == 100_000
    await turns()
    # RFC 6455 5.5.3: the latest ping is the one to answer.
    (pong,) = pair.client_receives()
    assert bytes(pong.data) == b"%0100d" % 19_999


@clocktest
async def test_a_pong_that_waits_for_a_peer_that_goes_is_dropped() -> None:
    pair = Pair()
    await pair.server.send(bytes(100_000))
    pair.client.send_ping(b"late")
    pair.flush()
    await turns()
    pair.stream.lose(ConnectionClosed("reset"))
    await turns()
    assert len(pair.stream.writes) == 1


@clocktest
async def test_a_late_pong_is_not_sent_after_the_end() -> None:
    pair = Pair()
    await pair.server.send(bytes(100_000))
    pair.client.send_ping(b"late")
    pair.flush()
    await turns()
    pair.server.fail_connection(1006)
    await turns()
    assert pair.stream.aborted
    assert len(pair.stream.writes) == 1


# -- broken rules -------------------------------------------------------------------------------


@both
@clocktest
async def test_text_that_is_not_utf_8_fails_the_connection_with_1007(compression: bool) -> None:
    pair = Pair(compression=compression)
    pair.client.send_text(b"before")
    pair.client.send_text(b"\xff")
    pair.client.send_text(b"after")
    pair.client.send_close(1000)
    pair.flush()
    assert close_frame(pair)[0] == 1007
    assert await pair.server.recv() == "before"
    with pytest.raises(ConnectionClosedError) as caught:
        await pair.server.recv()
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


@clocktest
async def test_broken_text_is_refused_before_its_message_is_complete() -> None:
    pair = Pair()
    pair.client.send_text("\u20ac".encode()[:2], fin=False)
    pair.client.send_continuation(b"x", fin=False)
    pair.flush()
    assert close_frame(pair)[0] == 1007


@clocktest
async def test_half_a_character_at_the_end_of_a_message_is_refused() -> None:
    pair = Pair()
    pair.client.send_text("\u20ac".encode()[:2], fin=False)
    pair.client.send_continuation(b"", fin=True)
    pair.flush()
    assert close_frame(pair)[0] == 1007


@pytest.mark.parametrize(
    "data",
    [
        b"\x83\x80abcd",
        b"\xf1\x80abcd",
        b"\x81\x01x",
        b"\x80\x80abcd",
        b"\x09\x80abcd",
        b"\x88\x81abcdx",
        b"\x88\x82abcd\x00\x00",
        b"\x01\x80abcd\x81\x80abcd",
    ],
    ids=[
        "reserved opcode", "reserved bits", "no mask", "continuation of nothing", "fragmented ping",
        "close of one byte", "invalid close code", "message in a message",
    ],
)  # fmt: skip
@clocktest
async def test_what_breaks_the_protocol_fails_the_connection_with_1002(data: bytes) -> None:
    pair = Pair()
    pair.stream.deliver(data)
    assert close_frame(pair)[0] == 1002
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()
    assert pair.stream.eof_written
    await pair.server.wait_for_connection_lost()
    assert not pair.stream.aborted


@both
@pytest.mark.parametrize("fragments", [1, 4])
@clocktest
async def test_a_message_of_the_largest_size_is_taken(compression: bool, fragments: int) -> None:
    pair = Pair(compression=compression, max_size=10_000)
    part = b"x" * (10_000 // fragments)
    pair.client.send_binary(part, fin=fragments == 1)
    for number in range(1, fragments):
        pair.client.send_continuation(part, fin=number == fragments - 1)
    pair.flush()
    assert await pair.server.recv() == b"x" * 10_000


@both
@pytest.mark.parametrize("fragments", [1, 4])
@clocktest
async def test_a_message_over_the_largest_size_fails_with_1009(
    compression: bool, fragments: int
) -> None:
    pair = Pair(compression=compression, max_size=9_999)
    part = b"x" * (10_000 // fragments)
    pair.client.send_binary(part, fin=fragments == 1)
    for number in range(1, fragments):
        pair.client.send_continuation(part, fin=number == fragments - 1)
    pair.flush()
    assert close_frame(pair)[0] == 1009
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_a_frame_over_the_largest_size_is_refused_at_its_header() -> None:
    pair = Pair(max_size=1000)
    pair.stream.deliver(b"\x82\xff" + (2**40).to_bytes(8, "big"))
    assert close_frame(pair)[0] == 1009


@clocktest
async def test_a_bomb_is_not_inflated() -> None:
    pair = Pair(compression=True, max_size=100_000)
    pair.client.send_binary(bytes(50_000_000))
    bomb = sent_by_client(pair)
    assert len(bomb) < 100_000
    pair.stream.deliver(bomb)
    assert close_frame(pair)[0] == 1009


@clocktest
async def test_what_follows_a_broken_rule_is_ignored() -> None:
    pair = Pair()
    pair.stream.deliver(b"\x83\x80abcd")
    pair.client_sends("more")
    assert close_frame(pair)[0] == 1002
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


# -- backpressure -------------------------------------------------------------------------------


@both
@clocktest
async def test_a_reader_that_does_not_read_stops_the_peer(compression: bool) -> None:
    pair = Pair(compression=compression, max_queue=4)
    for number in range(100):
        pair.client_sends(str(number))
    assert pair.stream.paused
    assert len(pair.server.assembler._queue) == 4
    received = [await pair.server.recv() for _ in range(100)]
    assert received == [str(number) for number in range(100)]
    await turns()
    assert not pair.stream.paused


@both
@clocktest
async def test_a_pause_after_the_first_message_of_a_piece_keeps_the_others(
    compression: bool,
) -> None:
    pair = Pair(compression=compression, max_queue=1)
    pair.client_sends("one", b"two", "three")
    assert pair.stream.paused
    assert len(pair.server.assembler._queue) == 1
    assert [await pair.server.recv() for _ in range(3)] == ["one", b"two", "three"]


@both
@clocktest
async def test_what_came_in_one_piece_is_not_parsed_beyond_the_limit(compression: bool) -> None:
    pair = Pair(compression=compression, max_queue=4)
    for _ in range(50):
        pair.client.send_binary(bytes(HIGH_WATER_BYTES))
    pair.client.send_close(1000)
    pair.flush()
    # Inflated, the rest would take fifty times the limit.
    assert pair.server.assembler.size == HIGH_WATER_BYTES
    assert pair.server.close_code is None
    for _ in range(50):
        assert await pair.server.recv() == bytes(HIGH_WATER_BYTES)
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_a_reader_that_keeps_up_never_pauses_the_stream() -> None:
    pair = Pair()
    for _ in range(20):
        reader = asyncio.ensure_future(pair.server.recv())
        await turns()
        pair.client_sends(bytes(3 * HIGH_WATER_BYTES))
        await reader
    assert pair.stream.pauses == 0


@clocktest
async def test_frames_are_paused_and_resumed_by_hand() -> None:
    pair = Pair()
    assert not pair.server.resume_frames()
    assert pair.server.pause_frames()
    assert not pair.server.pause_frames()
    pair.server.data_received(b"")
    pair.client_sends("later")
    assert await pair.server.recv(1) is None
    assert pair.server.resume_frames()
    assert await pair.server.recv(1) == "later"


@clocktest
async def test_nothing_can_be_paused_without_a_connection_or_after_its_end() -> None:
    assert not Pair(start=False).server.pause_frames()
    pair = Pair()
    pair.stream.lose()
    assert not pair.server.pause_frames()


@clocktest
async def test_bytes_that_come_in_spite_of_the_pause_are_kept_in_order() -> None:
    pair = Pair()
    pair.server.pause_frames()
    for message in ("a", "b"):
        pair.client.send_text(message.encode())
        pair.server.data_received(sent_by_client(pair))
    pair.server.resume_frames()
    assert await pair.server.recv_burst() == ["a", "b"]


# -- the library's events -----------------------------------------------------------------------


@clocktest
async def test_events_can_be_processed_by_hand() -> None:
    pair = Pair()
    pong = await pair.server.ping(b"one")
    events: list[Event] = [
        Request("/", pair.client.connect().headers),
        Frame(Opcode.TEXT, b"text"),
        Frame(Opcode.PING, b"ignored"),
        Frame(Opcode.PONG, b"one"),
    ]
    await pair.server.process_events(events)
    assert await pair.server.recv(0) == "text"
    assert pong.done()
    other = await pair.server.ping(b"two")
    await pair.server.process_pong(Frame(Opcode.PONG, b"two"))
    assert other.done()


@clocktest
async def test_the_library_s_output_can_be_sent_by_hand() -> None:
    pair = Pair()
    proto = pair.server.ws_proto
    proto.send_text(b"by hand")
    await pair.server.async_data_received(proto.data_to_send(), [Frame(Opcode.TEXT, b"in")])
    assert pair.client_messages() == ["by hand"]
    assert await pair.server.recv(0) == "in"


@clocktest
async def test_the_end_of_the_library_s_output_ends_the_stream() -> None:
    pair = Pair()
    await pair.server.send_data([b""])
    assert pair.stream.eof_written


@clocktest
async def test_the_end_of_input_can_be_processed_by_hand() -> None:
    pair = Pair()
    await pair.server.async_eof_received([], [Frame(Opcode.TEXT, b"last")])
    assert pair.stream.aborted
    assert await pair.server.recv() == "last"
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_a_library_that_logs_frames_gets_to_see_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Pair(start=False)
    caplog.set_level(logging.DEBUG, "test.frames")
    library = ServerProtocol(state=State.OPEN, logger=logging.getLogger("test.frames"))
    server = pair.stream.receiver = WebsocketImplProtocol(library)
    server.attach(pair.stream)
    pair.client_sends("question")
    assert await server.recv() == "question"
    await server.send("answer")
    assert "< TEXT 'question'" in caplog.text
    assert "> TEXT 'answer'" in caplog.text
