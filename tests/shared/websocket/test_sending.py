import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, ProtocolError
from websockets.frames import Opcode

from tercel.shared.errors import ConnectionClosed, ServerError
from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import HIGH_WATER, Pair

both = pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(1)
        yield item


@both
@clocktest
async def test_messages_of_every_kind_and_size_are_sent(compression: bool) -> None:
    pair = Pair(compression=compression)
    for message in ("", "h\u00e9", b"", b"x" * 126, bytearray(b"array"), memoryview(b"view")):
        await pair.server.send(message)
    await pair.server.send(b"y" * 70_000)
    assert pair.client_messages() == [
        "", "h\u00e9", b"", b"x" * 126, b"array", b"view", b"y" * 70_000
    ]  # fmt: skip


@both
@clocktest
async def test_an_iterable_is_sent_in_fragments(compression: bool) -> None:
    pair = Pair(compression=compression)
    await pair.server.send(["a", "b"])
    await pair.server.send(part for part in (b"c", bytearray(b"d")))
    await pair.server.send(each("e", "f"))
    frames = pair.client_receives()
    assert [frame.opcode for frame in frames] == [
        Opcode.TEXT, Opcode.CONT, Opcode.CONT,
        Opcode.BINARY, Opcode.CONT, Opcode.CONT,
        Opcode.TEXT, Opcode.CONT, Opcode.CONT,
    ]  # fmt: skip
    assert b"".join(bytes(frame.data) for frame in frames) == b"abcdef"
    assert [frame.fin for frame in frames] == [False, False, True] * 3


@clocktest
async def test_an_empty_iterable_is_no_message() -> None:
    pair = Pair()
    await pair.server.send([])
    await pair.server.send(each())
    assert pair.stream.writes == []


@clocktest
async def test_messages_do_not_come_between_fragments_but_pings_do() -> None:
    pair = Pair()
    slow = asyncio.ensure_future(pair.server.send(each("a", "b")))
    await turns()
    whole = asyncio.ensure_future(pair.server.send("whole"))
    await asyncio.sleep(1.5)
    await pair.server.ping(b"ping")
    await slow
    await whole
    opcodes = [frame.opcode for frame in pair.client_receives()]
    assert opcodes == [Opcode.TEXT, Opcode.PING, Opcode.CONT, Opcode.CONT, Opcode.TEXT]


@pytest.mark.parametrize("message", [None, 1, {"a": 1}, object()])
@clocktest
async def test_what_is_no_message_is_a_type_error_and_harms_nobody(message: Any) -> None:
    pair = Pair()
    with pytest.raises(TypeError):
        await pair.server.send(message)
    with pytest.raises(TypeError):
        await pair.server.send([message])
    await pair.server.send("next")
    assert pair.client_messages() == ["next"]


def broken() -> Iterator[str]:
    yield "a"
    raise LookupError


@pytest.mark.parametrize(
    ("items", "error"),
    [(["a", b"b"], TypeError), ([b"a", 1], TypeError), (broken(), LookupError)],
    ids=["both kinds", "no kind", "broken iterable"],
)
@clocktest
async def test_half_a_message_fails_the_connection(items: Any, error: type[Exception]) -> None:
    pair = Pair()
    with pytest.raises(error):
        await pair.server.send(items)
    pair.client_receives()
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1011


@clocktest
async def test_cancelling_half_a_message_fails_the_connection() -> None:
    pair = Pair()
    slow = asyncio.ensure_future(pair.server.send(each("a", "b")))
    await asyncio.sleep(1.5)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    pair.client_receives()
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1011


@clocktest
async def test_a_cancelled_send_that_waited_sends_nothing() -> None:
    pair = Pair()
    await pair.server.send(bytes(2 * HIGH_WATER))
    waits = asyncio.ensure_future(pair.server.send("cancelled"))
    await turns()
    waits.cancel()
    await turns()
    assert pair.client_messages() == [bytes(2 * HIGH_WATER)]
    await pair.server.send("next")
    assert pair.client_messages() == ["next"]


# -- backpressure -------------------------------------------------------------------------------


@clocktest
async def test_a_peer_that_does_not_read_makes_send_wait() -> None:
    pair = Pair()
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(100):
            await pair.server.send(b"%d" % number + bytes(10_000))
            sent += 1

    task = asyncio.ensure_future(send_all())
    await turns(200)
    assert sent < 10
    assert pair.stream.unsent <= HIGH_WATER + 10_100
    received: list[Any] = []
    while not task.done() or pair.stream.unsent:
        received += pair.client_messages()
        await turns()
    assert [message[:-10_000] for message in received] == [b"%d" % n for n in range(100)]


@clocktest
async def test_senders_that_waited_go_on_in_their_order() -> None:
    pair = Pair()
    await pair.server.send(bytes(2 * HIGH_WATER))
    tasks = [asyncio.ensure_future(pair.server.send(str(number))) for number in range(10)]
    await turns()
    assert not any(task.done() for task in tasks)
    pair.client_receives()
    await asyncio.gather(*tasks)
    assert pair.client_messages() == [str(number) for number in range(10)]


@clocktest
async def test_a_peer_that_takes_nothing_for_too_long_is_given_up() -> None:
    pair = Pair(send_timeout=30, ping_interval=None)
    pair.client_sends("unread")
    await pair.server.send(bytes(2 * HIGH_WATER))
    with pytest.raises(ConnectionClosedError):
        await pair.server.send("never")
    assert pair.stream.aborted
    with pytest.raises(ConnectionClosedError):
        await pair.server.send("never")
    assert await pair.server.recv() == "unread"
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()


@clocktest
async def test_who_waits_to_send_hears_of_the_end() -> None:
    pair = Pair()
    await pair.server.send(bytes(2 * HIGH_WATER))
    waits = asyncio.ensure_future(pair.server.send("never"))
    behind = asyncio.ensure_future(pair.server.send("never"))
    await turns()
    pair.stream.lose(ConnectionClosed("reset"))
    for task in (waits, behind):
        with pytest.raises(ConnectionClosedError):
            await task


@clocktest
async def test_a_send_that_waited_does_not_follow_the_close_frame() -> None:
    pair = Pair()
    await pair.server.send(bytes(2 * HIGH_WATER))
    waits = asyncio.ensure_future(pair.server.send("never"))
    await turns()
    pair.server.end_connection()
    assert pair.client_messages() == [bytes(2 * HIGH_WATER)]
    with pytest.raises(ConnectionClosedOK):
        await waits
    assert pair.client.close_rcvd is not None


# -- batches ------------------------------------------------------------------------------------


@both
@clocktest
async def test_the_echoes_of_a_batch_go_out_in_one_write(compression: bool) -> None:
    pair = Pair(compression=compression)
    pair.client_sends(*map(str, range(20)))
    for _ in range(20):
        message = await pair.server.recv()
        assert message is not None
        await pair.server.send(message)
    assert len(pair.stream.writes) == 1
    assert pair.client_messages() == list(map(str, range(20)))


@clocktest
async def test_what_was_batched_goes_out_with_the_turn_of_the_loop() -> None:
    pair = Pair()
    pair.client_sends("one", "two")
    await pair.server.recv()
    await pair.server.send("a")
    await pair.server.send("b")
    assert pair.stream.writes == []
    await turns()
    assert len(pair.stream.writes) == 1
    assert pair.client_messages() == ["a", "b"]


@clocktest
async def test_a_batch_is_not_larger_than_its_limit() -> None:
    pair = Pair()
    pair.client_sends("one", "two")
    await pair.server.recv()
    await pair.server.send(bytes(20_000))
    assert len(pair.stream.writes) == 1


@clocktest
async def test_a_batch_goes_before_whoever_waits_for_the_stream() -> None:
    pair = Pair()
    pair.client_sends("one", "two")
    await pair.server.recv()
    await pair.server.send("batched")
    pair.stream.write(bytes(2 * HIGH_WATER))  # As if a frame had been this large.
    waits = asyncio.ensure_future(pair.server.send("waits"))
    await turns()
    assert len(pair.stream.writes) == 2
    pair.stream.take()
    await waits


@clocktest
async def test_pongs_of_one_batch_count_against_the_stream_s_limit() -> None:
    pair = Pair()
    for number in range(5_000):
        pair.client.send_ping(b"%0100d" % number)
    pair.flush()
    assert pair.stream.unsent < 2 * HIGH_WATER
    await turns()
    pongs = pair.client_receives()
    await turns()
    pongs += pair.client_receives()
    assert bytes(pongs[-1].data) == b"%0100d" % 4_999


# -- pings and pongs ----------------------------------------------------------------------------


@clocktest
async def test_a_ping_is_answered_by_its_pong_or_a_later_one() -> None:
    pair = Pair()
    first = await pair.server.ping()
    second = await pair.server.ping("text")
    third = await pair.server.ping(b"third")
    pair.client.receive_data(pair.stream.take())
    assert [bytes(frame.data)[:5] for frame in pair.client.events_received()][1:] == [  # type: ignore[union-attr]
        b"text", b"third"
    ]  # fmt: skip
    pair.client.data_to_send()  # These pongs are lost.
    pair.client.send_pong(b"nobody asked")
    pair.client.send_pong(b"text")
    pair.flush()
    assert first.done()
    assert second.done()
    assert not third.done()
    assert len(pair.server.pings) == 1


@clocktest
async def test_a_ping_that_nobody_waits_for_any_more_is_still_acknowledged() -> None:
    pair = Pair()
    (await pair.server.ping(b"one")).cancel()
    (await pair.server.ping(b"two")).cancel()
    pair.client.send_pong(b"two")
    pair.flush()
    assert len(pair.server.pings) == 0
    (await pair.server.ping(b"three")).cancel()
    pair.stream.lose()


@clocktest
async def test_a_ping_s_payload_is_used_once_at_a_time() -> None:
    pair = Pair()
    await pair.server.ping("same")
    with pytest.raises(ValueError, match="same data"):
        await pair.server.ping(b"same")
    with pytest.raises(ProtocolError):
        await pair.server.ping(bytes(126))
    pair.client_receives()
    await pair.server.ping(b"same")


@clocktest
async def test_random_payloads_are_never_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    payloads = iter([b"aaaa", b"aaaa", b"bbbb"])
    monkeypatch.setattr("secrets.token_bytes", lambda size: next(payloads))
    await pair.server.ping()
    await pair.server.ping()
    assert pair.stream.take() == b"\x89\x04aaaa\x89\x04bbbb"


@clocktest
async def test_a_pong_may_be_sent_unasked() -> None:
    pair = Pair()
    await pair.server.pong("alive")
    await pair.server.pong()
    assert [bytes(frame.data) for frame in pair.client_receives()] == [b"alive", b""]
    pair.stream.lose()
    await pair.server.pong("too late")
    assert pair.stream.unsent == 0


@clocktest
async def test_nothing_is_sent_after_the_end() -> None:
    pair = Pair()
    pair.client_closes()
    for call in (pair.server.send("x"), pair.server.send(["x"]), pair.server.ping()):
        with pytest.raises(ConnectionClosedOK):
            await call


@clocktest
async def test_nothing_is_sent_or_closed_without_a_connection() -> None:
    pair = Pair(start=False)
    calls = (
        pair.server.send("x"), pair.server.send(["x"]), pair.server.ping(), pair.server.close(),
        pair.server.send_data([b"x"]), pair.server.keepalive_ping(),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ServerError):
            await call
    with pytest.raises(ServerError):
        pair.server.data_received(b"")
    assert not await pair.server.wait_for_connection_lost(0)
    assert pair.server.fail_connection()
    with pytest.raises(ConnectionClosedError):
        await pair.server.recv()
    assert Pair(start=False).server.end_connection()
    pair = Pair(start=False)
    pair.server.connection_lost(None)
    assert pair.server.close_code == 1006
