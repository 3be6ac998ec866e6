"""Messages that have begun and are not complete: how long they may take, and how much memory."""

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from tercel.shared.websocket.unfinished import MessageLimits
from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest
from tests.support.memory_bytestream import Pair

TIMEOUT = 60.0


def pair(**limits: Any) -> Pair:
    """Without pings, which would end a client that says nothing."""
    return Pair(ping_interval=None, limits=MessageLimits(**{"timeout": TIMEOUT, **limits}))


def close_code(pair: Pair) -> int | None:
    """The code that the server has closed with, None as long as it has not."""
    pair.client_receives()
    return None if pair.client.close_rcvd is None else pair.client.close_rcvd.code


def fragment(data: bytes, *, first: bool = False, last: bool = False) -> bytes:
    opcode = Opcode.BINARY if first else Opcode.CONT
    return Frame(opcode, data, fin=last).serialize(mask=True)


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        fragment(b"half", first=True),
        fragment(b"x" * 100, first=True, last=True)[:50],
        fragment(b"x" * 100, first=True, last=True)[:1],
    ],
    ids=["fragment", "half a frame", "half a header"],
)
@clocktest
async def test_a_message_that_does_not_go_on_closes_the_connection(data: bytes) -> None:
    talk = pair()
    talk.stream.deliver(data)
    await asyncio.sleep(TIMEOUT - 1)
    assert close_code(talk) is None
    await asyncio.sleep(1)
    await turns()
    assert close_code(talk) == 1008


@clocktest
async def test_a_message_that_goes_on_has_its_time_again() -> None:
    talk = pair()
    talk.stream.deliver(fragment(b"", first=True))
    for _ in range(10):
        await asyncio.sleep(TIMEOUT - 1)
        talk.stream.deliver(fragment(b"x" * 2000))
        assert close_code(talk) is None
    talk.stream.deliver(fragment(b"", last=True))
    assert await talk.server.recv() == b"x" * 20_000


@clocktest
async def test_a_message_that_comes_too_slowly_on_average_closes_the_connection() -> None:
    talk = pair(least_rate=16)
    talk.stream.deliver(fragment(b"", first=True))
    seconds = 0
    while close_code(talk) is None:
        await asyncio.sleep(1)
        seconds += 1
        talk.stream.deliver(fragment(b"x"))
    # Each of the seven bytes of a fragment with its header buys a sixteenth of a second.
    assert TIMEOUT < seconds < 3 * TIMEOUT
    assert close_code(talk) == 1008


@clocktest
async def test_pings_in_the_middle_of_a_message_buy_no_time() -> None:
    talk = pair()
    talk.stream.deliver(fragment(b"half", first=True))
    for _ in range(int(TIMEOUT) + 1):
        await asyncio.sleep(1)
        talk.stream.deliver(Frame(Opcode.PING, b"still here").serialize(mask=True))
        await turns()
    assert close_code(talk) == 1008


@clocktest
async def test_a_message_that_is_complete_has_no_time_limit() -> None:
    talk = pair()
    talk.stream.deliver(fragment(b"a", first=True))
    talk.stream.deliver(fragment(b"b", last=True))
    await asyncio.sleep(10 * TIMEOUT)
    assert close_code(talk) is None
    assert await talk.server.recv() == b"ab"
    talk.stream.deliver(fragment(b"c", first=True))
    await asyncio.sleep(TIMEOUT - 1)
    assert close_code(talk) is None


@clocktest
async def test_time_in_which_this_side_does_not_receive_does_not_count() -> None:
    talk = pair()
    talk.client_sends(b"x" * 70_000)
    assert talk.stream.paused
    talk.stream.deliver(fragment(b"half", first=True))
    await asyncio.sleep(10 * TIMEOUT)
    assert close_code(talk) is None
    assert await talk.server.recv() == b"x" * 70_000
    await turns()
    await asyncio.sleep(TIMEOUT + 1)
    assert close_code(talk) == 1008


@clocktest
async def test_a_timeout_of_zero_waits_for_ever() -> None:
    talk = pair(timeout=0)
    talk.stream.deliver(fragment(b"half", first=True))
    await asyncio.sleep(1000 * TIMEOUT)
    assert close_code(talk) is None


# -- memory ---------------------------------------------------------------------------------------


def account(talk: Pair) -> int:
    """Bytes that the connection knows to be held for its WebSockets."""
    return talk.stream.connection.account.messages


@clocktest
async def test_all_that_is_held_of_messages_is_counted_until_it_is_taken() -> None:
    talk = pair()
    talk.client_sends(b"x" * 10_000)
    assert account(talk) == 10_000
    assert await talk.server.recv() == b"x" * 10_000
    assert account(talk) == 0
    talk.stream.deliver(fragment(b"y" * 20_000, first=True))
    assert account(talk) == 20_000
    frame = fragment(b"z" * 30_000, last=True)
    talk.stream.deliver(frame[:25_000])
    assert account(talk) == 45_000
    talk.stream.deliver(frame[25_000:])
    assert account(talk) == 50_000
    assert await talk.server.recv() == b"y" * 20_000 + b"z" * 30_000
    assert account(talk) == 0


@clocktest
async def test_messages_that_are_read_frame_by_frame_are_counted_less_and_less() -> None:
    talk = pair()
    talk.stream.deliver(fragment(b"y" * 20_000, first=True))
    frames = talk.server.recv_streaming()
    assert await anext(frames) == b"y" * 20_000
    assert account(talk) == 0


@clocktest
async def test_text_counts_as_what_it_takes_in_memory() -> None:
    talk = pair()
    talk.client_sends("x" * 70_000 + "\U0001f980")
    assert 4 * 70_000 <= account(talk) <= 4 * 71_000
    assert len(str(await talk.server.recv())) == 70_001
    talk.client_sends("x" * 70_000)
    assert account(talk) == 70_000


@clocktest
async def test_inflated_bytes_are_what_is_counted() -> None:
    talk = Pair(compression=True, ping_interval=None, limits=MessageLimits())
    talk.client_sends(b"\0" * 500_000)
    assert account(talk) == 500_000


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
@clocktest
async def test_more_than_the_connection_may_hold_closes_with_1009(compression: bool) -> None:
    talk = Pair(
        compression=compression, ping_interval=None, limits=MessageLimits(held_bytes=300_000)
    )
    other = talk.stream.connection.account
    other.hold_messages(200_000)
    talk.client_sends(b"\0" * 90_000)
    assert await talk.server.recv() == b"\0" * 90_000
    talk.client_sends(b"\0" * 110_000)
    assert close_code(talk) == 1009
    assert account(talk) == 200_000


@clocktest
async def test_half_a_message_is_not_kept_when_its_rest_cannot_come() -> None:
    talk = pair()
    talk.stream.deliver(fragment(b"y" * 20_000, first=True))
    talk.stream.lose()
    await turns()
    assert account(talk) == 0


@clocktest
async def test_a_websocket_that_nobody_has_any_more_holds_nothing() -> None:
    talk = pair()
    connection = talk.stream.connection
    talk.client_sends(b"x" * 10_000)
    talk.stream.lose()
    assert connection.account.messages == 10_000
    talk.stream.receiver = None  # as a stream that is gone knows nobody
    del talk
    await turns()
    assert connection.account.messages == 0
