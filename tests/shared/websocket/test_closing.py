import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    ProtocolError,
)
from websockets.frames import Opcode
from websockets.protocol import State

from tercel.shared.errors import ConnectionClosed, ServerError
from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import HIGH_WATER, Pair


def now() -> float:
    return asyncio.get_running_loop().time()


async def finished(pair: Pair) -> None:
    """The client does its part of the end."""
    pair.client_receives()
    await turns()
    pair.client_receives()
    await turns()


# -- the peer closes ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 3000, 1011])
@clocktest
async def test_a_close_by_the_peer_is_answered_and_ends_the_stream(code: int) -> None:
    pair = Pair()
    pair.client_closes(code, "bye")
    with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as caught:
        await pair.server.recv()
    regular = code in (1000, 1001)
    assert isinstance(caught.value, ConnectionClosedOK if regular else ConnectionClosedError)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd_then_sent
    assert (pair.server.close_code, pair.server.close_reason) == (code, "bye")
    assert pair.stream.eof_written
    assert not pair.stream.closed
    await finished(pair)
    assert pair.stream.closed
    assert not pair.stream.aborted
    assert pair.server.ws_proto.state is State.CLOSED
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == code
    assert await pair.server.wait_for_connection_lost(0)


@clocktest
async def test_a_close_without_a_code_is_regular() -> None:
    pair = Pair()
    assert (pair.server.close_code, pair.server.close_reason) == (None, "")
    pair.client.send_close()
    pair.flush()
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()
    assert (pair.server.close_code, pair.server.close_reason) == (1005, "")


@clocktest
async def test_messages_before_the_close_frame_are_received_after_it_each_once() -> None:
    pair = Pair(max_queue=4)
    messages = list(map(str, range(100)))
    for message in messages:
        pair.client.send_text(message.encode())
    pair.client.send_close(1000)
    pair.flush()
    pair.stream.deliver_eof()
    received = [await pair.server.recv() for _ in messages]
    assert received == messages
    for _ in range(2):
        with pytest.raises(ConnectionClosedOK):
            await pair.server.recv()
    await turns()
    assert pair.stream.closed
    assert not pair.stream.aborted


@pytest.mark.parametrize("cut", [1, 3, 9])
@clocktest
async def test_a_close_between_fragments_is_answered_as_any_other(cut: int) -> None:
    pair = Pair()
    pair.client_sends("whole")
    pair.client.send_text(b"half", fin=False)
    pair.flush()
    pair.client.expect_continuation_frame = False
    pair.client.send_close(1000)
    close = b"".join(pair.client.data_to_send())
    pair.stream.deliver(close[:cut])
    if close[cut:]:
        pair.stream.deliver(close[cut:])
    assert await pair.server.recv() == "whole"
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()
    await finished(pair)
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1000


@clocktest
async def test_a_waiting_recv_hears_of_the_close() -> None:
    pair = Pair()
    waits = asyncio.ensure_future(pair.server.recv())
    await turns()
    pair.client_closes()
    with pytest.raises(ConnectionClosedOK):
        await waits


@clocktest
async def test_bytes_after_the_close_frame_are_ignored() -> None:
    pair = Pair()
    pair.client.send_text(b"before")
    pair.client.send_close(1000)
    data = b"".join(pair.client.data_to_send())
    pair.stream.deliver(data + data)
    pair.stream.deliver(data)
    assert await pair.server.recv() == "before"
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_a_peer_that_does_not_end_its_side_is_cut_off() -> None:
    pair = Pair(close_timeout=7)
    pair.client_closes()
    pair.stream.take()
    assert await pair.server.wait_for_connection_lost()
    assert pair.stream.aborted
    assert now() == 7


# -- this side closes ---------------------------------------------------------------------------


@clocktest
async def test_closing_waits_for_the_peer_and_the_end_of_the_stream() -> None:
    pair = Pair()
    closing = asyncio.ensure_future(pair.server.close(4000, "enough"))
    await turns()
    assert not closing.done()
    await finished(pair)
    await closing
    assert pair.client.close_rcvd is not None
    assert (pair.client.close_rcvd.code, pair.client.close_rcvd.reason) == (4000, "enough")
    assert pair.stream.closed
    assert not pair.stream.aborted
    assert pair.server.close_code == 4000
    await pair.server.close()
    assert now() == 0


@clocktest
async def test_what_arrives_until_the_peer_s_close_frame_is_received() -> None:
    pair = Pair()
    pair.server.end_connection()
    pair.client_sends("late")
    assert await pair.server.recv() == "late"
    waits = asyncio.ensure_future(pair.server.recv())
    await turns()
    assert not waits.done()
    await finished(pair)
    with pytest.raises(ConnectionClosedOK) as caught:
        await waits
    assert caught.value.rcvd_then_sent is False


@clocktest
async def test_a_peer_that_does_not_answer_is_cut_off() -> None:
    pair = Pair(close_timeout=7)
    pair.client_sends("unread")
    pair.stream.take()
    await pair.server.close()
    assert now() == 7
    assert pair.stream.aborted
    assert pair.server.close_code == 1006
    assert await pair.server.recv() == "unread"
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_a_peer_that_is_slow_to_take_what_was_sent_is_not_cut_off() -> None:
    pair = Pair(close_timeout=7)
    await pair.server.send(bytes(HIGH_WATER))
    closing = asyncio.ensure_future(pair.server.close())
    received = 0
    while pair.stream.unsent:
        await asyncio.sleep(5)
        data = pair.stream.take(10_000)
        received += len(data)
        pair.client.receive_data(data)
    assert received > HIGH_WATER
    assert not pair.stream.aborted
    await finished(pair)
    await closing
    assert pair.server.close_code == 1000


@clocktest
async def test_messages_that_nobody_reads_do_not_keep_the_peer_s_close_frame_away() -> None:
    pair = Pair(max_queue=4)
    for number in range(20):
        pair.client_sends(str(number))
    assert pair.stream.paused
    closing = asyncio.ensure_future(pair.server.close())
    await turns()
    for number in range(20):
        pair.client_sends(str(number))
    await finished(pair)
    await closing
    assert now() == 0
    # What was received before is there; the rest is dropped whole.
    assert [await pair.server.recv() for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_messages_that_fill_the_queue_while_closing_do_not_keep_it_away_either() -> None:
    pair = Pair(max_queue=4)
    closing = asyncio.ensure_future(pair.server.close())
    await turns()
    pair.client_sends(*map(str, range(20)))
    await finished(pair)
    await closing
    assert [await pair.server.recv() for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_both_sides_may_close_at_once() -> None:
    pair = Pair()
    pair.client.send_close(1001)
    assert not pair.server.end_connection(1000)
    assert not pair.server.end_connection(1011)
    await finished(pair)
    assert pair.stream.closed
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_a_code_that_must_not_be_sent_is_an_error_and_closes_nothing() -> None:
    pair = Pair()
    for code in (1005, 999, 1015):
        with pytest.raises(ProtocolError):
            await pair.server.close(code)
    with pytest.raises(ProtocolError):
        await pair.server.close(1000, "x" * 124)
    await pair.server.send("still open")
    assert pair.client_messages() == ["still open"]


@clocktest
async def test_the_close_frame_follows_what_was_sent() -> None:
    pair = Pair()
    pair.client_sends("one", "two")
    await pair.server.recv()
    await pair.server.send("answer")
    pair.server.end_connection()
    opcodes = [frame.opcode for frame in pair.client_receives()]
    assert opcodes == [Opcode.TEXT, Opcode.CLOSE]


@clocktest
async def test_a_server_that_stops_closes_with_1001() -> None:
    pair = Pair()
    pair.client_sends("in flight")
    pair.server.going_away()
    pair.client_receives()
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1001
    assert await pair.server.recv() == "in flight"
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_a_server_that_stops_receives_more_than_its_queue_holds() -> None:
    pair = Pair(max_queue=4, close_timeout=7)
    pair.server.going_away()
    messages = [str(number) for number in range(100)]
    for message in messages:
        pair.client.send_text(message.encode())
    pair.flush()
    # The peer's own close frame stands behind all that: its time begins when it could come.
    await asyncio.sleep(20)
    assert [await pair.server.recv() for _ in messages] == messages
    pair.client_receives()
    await finished(pair)
    assert pair.stream.closed


@clocktest
async def test_a_server_that_stops_drops_what_an_application_that_closes_did_not_read() -> None:
    pair = Pair(max_queue=4)
    pair.server.going_away()
    pair.client_sends(*map(str, range(100)))
    closing = asyncio.ensure_future(pair.server.close())
    await turns()
    pair.client_receives()
    await finished(pair)
    await closing
    assert [await pair.server.recv() for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(ConnectionClosedOK):
        await pair.server.recv()


@clocktest
async def test_a_server_that_stops_finishes_the_message_whose_fragments_it_sends() -> None:
    async def items() -> AsyncIterator[str]:
        yield "half"
        await asyncio.sleep(1)
        yield " and half"

    pair = Pair()
    sending = asyncio.ensure_future(pair.server.send(items()))
    await turns()
    pair.server.going_away()
    await sending
    frames = pair.client_receives()
    data = b"".join(bytes(frame.data) for frame in frames if frame.opcode is not Opcode.CLOSE)
    assert data == b"half and half"
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1001


@clocktest
async def test_closing_in_the_middle_of_a_message_is_a_failure() -> None:
    async def items() -> AsyncIterator[str]:
        yield "half"
        await asyncio.get_running_loop().create_future()

    pair = Pair()
    sending = asyncio.ensure_future(pair.server.send(items()))
    await turns()
    assert not pair.server.end_connection()
    pair.client_receives()
    assert pair.client.close_rcvd is None or pair.client.close_rcvd.code == 1011
    sending.cancel()
    await turns()
    assert sending.cancelled()


@clocktest
async def test_a_send_of_fragments_hears_of_the_close() -> None:
    async def items() -> AsyncIterator[str]:
        yield "half"
        await asyncio.sleep(1)
        yield "other half"

    pair = Pair()
    sending = asyncio.ensure_future(pair.server.send(items()))
    await turns()
    pair.client_closes()
    with pytest.raises(ConnectionClosedOK):
        await sending


# -- failure ------------------------------------------------------------------------------------


@clocktest
async def test_failing_says_why_and_ends_within_the_time_limit() -> None:
    pair = Pair(close_timeout=7)
    pair.client_sends("read anyway")
    assert not pair.server.fail_connection(1011, "reason")
    pair.client_sends("ignored")
    assert pair.stream.eof_written
    pair.client.receive_data(pair.stream.take())
    assert pair.client.close_rcvd is not None
    assert (pair.client.close_rcvd.code, pair.client.close_rcvd.reason) == (1011, "reason")
    assert await pair.server.recv() == "read anyway"
    with pytest.raises(ConnectionClosedError) as caught:
        await pair.server.recv()
    assert caught.value.sent is not None
    assert await pair.server.wait_for_connection_lost(7)
    assert pair.stream.aborted
    assert pair.server.fail_connection(1011)


@clocktest
async def test_failing_while_closing_ends_without_waiting_for_the_peer_s_close_frame() -> None:
    pair = Pair()
    pair.server.end_connection()
    assert not pair.server.fail_connection(1011)
    assert not pair.server.fail_connection(1011)
    assert pair.stream.eof_written
    await finished(pair)
    assert pair.stream.closed


@pytest.mark.parametrize("call", ["fail", "end", "close"])
@clocktest
async def test_the_code_1006_aborts(call: str) -> None:
    pair = Pair()
    pair.client_sends("read anyway")
    if call == "fail":
        assert pair.server.fail_connection()
    elif call == "end":
        assert pair.server.end_connection(1006)
    else:
        await pair.server.close(1006)
    assert pair.stream.aborted
    assert pair.stream.writes == []
    assert pair.server.close_code == 1006
    assert await pair.server.recv() == "read anyway"
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()
    with pytest.raises(ConnectionClosedError):
        await pair.server.send("x")
    await turns()
    assert pair.server.fail_connection()


@pytest.mark.parametrize("by_hand", [True, False])
@clocktest
async def test_failing_while_paused_lets_the_peer_finish(by_hand: bool) -> None:
    pair = Pair(max_queue=1)
    if by_hand:
        pair.server.pause_frames()
    pair.client_sends("one", "two")
    assert pair.stream.paused
    pair.server.fail_connection(1011)
    await turns()
    assert not pair.stream.paused
    await finished(pair)
    assert pair.stream.closed


# -- the stream ends ----------------------------------------------------------------------------


@clocktest
async def test_an_end_without_a_close_frame_is_abnormal_and_aborts() -> None:
    pair = Pair()
    pair.client_sends("last")
    pair.stream.deliver_eof()
    assert pair.stream.aborted
    assert pair.server.close_code == 1006
    assert await pair.server.recv() == "last"
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_an_end_instead_of_an_answer_to_the_close_frame_is_abnormal() -> None:
    pair = Pair()
    pair.server.end_connection()
    pair.stream.deliver_eof()
    assert pair.stream.aborted
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@pytest.mark.parametrize("error", [None, ConnectionClosed("reset")])
@clocktest
async def test_a_lost_stream_ends_everything(error: Any) -> None:
    pair = Pair()
    pong = await pair.server.ping()
    waits = asyncio.ensure_future(pair.server.recv())
    closes = asyncio.ensure_future(pair.server.wait_for_connection_lost())
    await turns()
    pair.stream.lose(error)
    pair.server.connection_lost(error)
    with pytest.raises(ConnectionClosedError):
        await waits
    with pytest.raises(ConnectionClosedError):
        await pong
    assert await closes
    assert pair.server.ws_proto.state is State.CLOSED
    with pytest.raises(ConnectionClosedError):
        await pair.server.send("x")


@pytest.mark.parametrize("closed", [True, False])
@clocktest
async def test_a_slow_reader_receives_all_that_arrived_before_the_stream_was_lost(
    closed: bool,
) -> None:
    pair = Pair(max_queue=4)
    for number in range(50):
        pair.client.send_text(str(number).encode())
        pair.client.send_ping(b"unanswered")
    if closed:
        pair.client.send_close(1000)
    pair.flush()
    pair.stream.lose(ConnectionClosed("reset"))
    with pytest.raises(ConnectionClosedError):
        await pair.server.send("x")
    assert [await pair.server.recv() for _ in range(50)] == list(map(str, range(50)))
    with pytest.raises(ConnectionClosedOK if closed else ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_the_end_of_the_input_waits_for_a_slow_reader() -> None:
    pair = Pair(max_queue=1)
    pair.client_sends("one", "two")
    pair.server.eof_received()
    assert not pair.stream.aborted
    assert [await pair.server.recv(), await pair.server.recv()] == ["one", "two"]
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()
    assert pair.stream.aborted


@clocktest
async def test_pings_are_not_aborted_while_a_pong_may_come() -> None:
    pair = Pair()
    with pytest.raises(ServerError):
        pair.server.abort_pings()
    pair.stream.lose()
    pair.server.abort_pings()


# -- the coroutines -----------------------------------------------------------------------------


@clocktest
async def test_waiting_for_the_end_has_a_time_limit() -> None:
    pair = Pair()
    assert not await pair.server.wait_for_connection_lost(3)
    assert now() == 3
    asyncio.get_running_loop().call_later(2, pair.server.end_connection)
    assert not await pair.server.wait_for_connection_lost(4)
    assert now() == 7


@clocktest
async def test_auto_close_ends_with_the_connection() -> None:
    pair = Pair()
    closer = asyncio.ensure_future(pair.server.auto_close_connection())
    await turns()
    pair.client_closes()
    await turns()
    assert not closer.done()
    await finished(pair)
    await closer
    assert not pair.stream.aborted


@clocktest
async def test_auto_close_that_is_cancelled_aborts() -> None:
    pair = Pair()
    closer = asyncio.ensure_future(pair.server.auto_close_connection())
    await turns()
    closer.cancel()
    await turns()
    assert pair.stream.aborted
    assert closer.cancelled()


@clocktest
async def test_a_connection_is_made_once() -> None:
    pair = Pair(start=False)
    await pair.server.connection_made(pair.stream)
    with pytest.raises(ServerError):
        await pair.server.connection_made(pair.stream)
    assert pair.server.io_proto is pair.stream
    assert pair.server.loop is asyncio.get_running_loop()


@clocktest
async def test_a_connection_may_be_a_protocol_that_has_a_byte_stream() -> None:
    class Protocol:
        def __init__(self, stream: Any) -> None:
            self.byte_stream = stream

    pair = Pair(start=False)
    await pair.server.connection_made(Protocol(pair.stream), asyncio.get_running_loop())
    await pair.server.send("x")
    assert pair.client_messages() == ["x"]


@clocktest
async def test_the_subprotocol_is_the_handshake_s() -> None:
    assert Pair().server.subprotocol is None
    assert Pair(subprotocols=["chat"]).server.subprotocol == "chat"
