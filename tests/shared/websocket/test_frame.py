import asyncio

import pytest
from websockets.frames import Frame, Opcode

from tercel.shared.errors import ServerError
from tercel.shared.websocket.frame import (
    DEFAULT_MAX_QUEUE,
    HIGH_WATER_BYTES,
    MERGED_FRAGMENTS,
    WebsocketFrameAssembler,
)
from tests.support.asynchronous import turns
from tests.support.fake_clock import clocktest


class Source:
    def __init__(self, max_queue: int | None = None) -> None:
        self.max_queue = max_queue
        self.calls: list[str] = []

    def pause_frames(self) -> bool:
        self.calls.append("pause")
        return True

    def resume_frames(self) -> bool:
        self.calls.append("resume")
        return True


def assembler(max_queue: int | None = None) -> tuple[WebsocketFrameAssembler, Source]:
    source = Source(max_queue)
    return WebsocketFrameAssembler(source), source


def text(data: str | bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin)


def binary(data: bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.BINARY, data, fin)


def more(data: bytes, *, fin: bool = False) -> Frame:
    return Frame(Opcode.CONT, data, fin)


class Ended(Exception):
    pass


@clocktest
async def test_messages_are_read_in_order_each_once() -> None:
    frames, _ = assembler()
    for frame in (text("one"), binary(b"two"), text("thr", fin=False), more(b"ee", fin=True)):
        frames.feed(frame)
    assert [await frames.get() for _ in range(3)] == ["one", b"two", "three"]
    assert not frames.readable
    assert await frames.get(0) is None
    assert frames.size == 0


@clocktest
async def test_a_character_may_be_cut_by_frames() -> None:
    frames, _ = assembler()
    euro = "\u20ac".encode()
    frames.feed(text(euro[:1], fin=False))
    frames.feed(more(euro[1:2]))
    frames.feed(more(euro[2:], fin=True))
    assert await frames.get() == "\u20ac"


@clocktest
async def test_text_that_is_not_utf_8_is_refused_as_soon_as_it_shows() -> None:
    frames, _ = assembler()
    with pytest.raises(UnicodeDecodeError):
        frames.feed(text(b"\xff"))
    frames.feed(text(b"ok\xe2", fin=False))
    with pytest.raises(UnicodeDecodeError):
        frames.feed(more(b"x"))
    frames, _ = assembler()
    frames.feed(text(b"\xe2\x82", fin=False))
    with pytest.raises(UnicodeDecodeError):
        frames.feed(more(b"", fin=True))


@clocktest
async def test_reading_waits_for_the_whole_message() -> None:
    frames, _ = assembler()
    reader = asyncio.ensure_future(frames.get())
    await turns()
    frames.feed(binary(b"a", fin=False))
    await turns()
    assert not reader.done()
    frames.feed(more(b"b", fin=True))
    assert await reader == b"ab"


@clocktest
async def test_a_time_limit_gives_none_and_takes_nothing() -> None:
    loop = asyncio.get_running_loop()
    frames, _ = assembler()
    assert await frames.get(3) is None
    assert loop.time() == 3
    assert await frames.get(-1) is None
    frames.feed(binary(b"late"))
    assert await frames.get(3) == b"late"
    assert loop.time() == 3


@clocktest
async def test_a_message_that_comes_with_the_end_of_the_time_limit_is_read() -> None:
    frames, _ = assembler()
    loop = asyncio.get_running_loop()
    reader = asyncio.ensure_future(frames.get(3))
    await turns()
    # Timers of the same time fire in the order they were set.
    loop.call_at(3, frames.feed_message, "in time")
    assert await reader == "in time"


@clocktest
async def test_being_cancelled_loses_nothing() -> None:
    frames, _ = assembler()
    reader = asyncio.ensure_future(frames.get())
    await turns()
    frames.feed(binary(b"kept"))
    reader.cancel()  # The reader has been woken, but has not run.
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await frames.get(0) == b"kept"


@clocktest
async def test_two_readers_at_once_are_an_error() -> None:
    frames, _ = assembler()
    reader = asyncio.ensure_future(frames.get())
    await turns()
    with pytest.raises(ServerError):
        await frames.get()
    with pytest.raises(ServerError):
        await anext(frames.get_iter())
    frames.feed(binary(b"one"))
    assert await reader == b"one"


@clocktest
async def test_control_frames_and_strays_are_ignored() -> None:
    frames, _ = assembler()
    frames.feed(Frame(Opcode.PING, b"x"))
    frames.feed(more(b"of nothing"))
    await frames.put(Frame(Opcode.CLOSE, b""))
    assert not frames.readable


@clocktest
async def test_what_came_before_the_end_is_read_first() -> None:
    frames, _ = assembler()
    frames.feed(binary(b"one"))
    frames.feed(binary(b"half", fin=False))
    frames.end(Ended)
    frames.end(KeyError)
    assert await frames.get() == b"one"
    for timeout in (None, 0, 1):
        with pytest.raises(Ended):
            await frames.get(timeout)


@clocktest
async def test_the_end_wakes_who_waits() -> None:
    frames, _ = assembler()
    reader = asyncio.ensure_future(frames.get())
    await turns()
    frames.end(Ended)
    with pytest.raises(Ended):
        await reader


# -- put ----------------------------------------------------------------------------------------


@clocktest
async def test_put_waits_until_the_message_is_read() -> None:
    frames, _ = assembler()
    await frames.put(binary(b"o", fin=False))
    put = asyncio.ensure_future(frames.put(more(b"ne", fin=True)))
    await turns()
    assert not put.done()
    assert await frames.get() == b"one"
    await put


@clocktest
async def test_each_put_waits_for_its_own_message() -> None:
    frames, _ = assembler()
    first = asyncio.ensure_future(frames.put(binary(b"one")))
    second = asyncio.ensure_future(frames.put(binary(b"two")))
    await turns()
    await frames.get()
    await first
    await turns()
    assert not second.done()
    assert [data async for data in frames.get_iter()] == [b"two"]
    await second


@clocktest
async def test_put_does_not_outlast_the_end() -> None:
    frames, _ = assembler()
    put = asyncio.ensure_future(frames.put(binary(b"one")))
    await turns()
    frames.end(Ended)
    await put


# -- frame by frame -----------------------------------------------------------------------------


@clocktest
async def test_frames_are_streamed_as_they_come() -> None:
    frames, _ = assembler()
    stream = frames.get_iter()
    first = asyncio.ensure_future(anext(stream))
    await turns()
    frames.feed(text("a", fin=False))
    assert await first == "a"
    second = asyncio.ensure_future(anext(stream))
    await turns()
    assert not second.done()
    frames.feed(more(b"b"))
    assert await second == "b"
    frames.feed(more(b"c", fin=True))
    frames.feed(text("next"))
    assert [part async for part in stream] == ["c"]
    assert await frames.get() == "next"
    assert frames.size == 0


@clocktest
async def test_a_stored_message_is_streamed_in_the_frames_it_came_in() -> None:
    frames, _ = assembler()
    for frame in (binary(b"a", fin=False), more(b"b"), more(b"c", fin=True), binary(b"whole")):
        frames.feed(frame)
    assert [part async for part in frames.get_iter()] == [b"a", b"b", b"c"]
    assert [part async for part in frames.get_iter()] == [b"whole"]


@clocktest
async def test_an_exhausted_stream_stays_so() -> None:
    frames, _ = assembler()
    frames.feed(text("one"))
    stream = frames.get_iter()
    assert [part async for part in stream] == ["one"]
    frames.feed(text("two"))
    assert [part async for part in stream] == []
    await stream.aclose()
    assert await frames.get() == "two"


@clocktest
async def test_an_unfinished_stream_lets_nobody_else_read() -> None:
    frames, _ = assembler()
    frames.feed(text("a", fin=False))
    stream = frames.get_iter()
    assert await anext(stream) == "a"
    with pytest.raises(ServerError, match="frame by frame"):
        await frames.get()
    waits = asyncio.ensure_future(anext(stream))
    await turns()
    with pytest.raises(ServerError):
        await anext(stream)
    frames.feed(more(b"b", fin=True))
    assert await waits == "b"


@clocktest
async def test_cancelling_a_stream_that_waits_loses_no_frame() -> None:
    frames, _ = assembler()
    frames.feed(text("a", fin=False))
    stream = frames.get_iter()
    assert await anext(stream) == "a"
    waits = asyncio.ensure_future(anext(stream))
    await turns()
    frames.feed(more(b"b"))
    waits.cancel()
    await turns()
    frames.feed(more(b"c", fin=True))
    assert [part async for part in stream] == ["b", "c"]


@clocktest
@pytest.mark.parametrize("complete", [True, False])
async def test_a_stream_that_is_closed_drops_the_rest_of_its_message(complete: bool) -> None:
    frames, _ = assembler()
    frames.feed(text("a", fin=False))
    if complete:
        frames.feed(more(b"b", fin=True))
    stream = frames.get_iter()
    assert await anext(stream) == "a"
    await stream.aclose()
    if not complete:
        frames.feed(more(b"b", fin=True))
    frames.feed(text("next"))
    assert await frames.get() == "next"
    assert frames.size == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@clocktest
async def test_a_stream_that_is_closed_before_its_first_frame_drops_nothing() -> None:
    frames, _ = assembler()
    frames.feed(text("a"))
    await frames.get_iter().aclose()
    assert await frames.get() == "a"


@clocktest
async def test_a_stream_ends_with_the_connection() -> None:
    frames, _ = assembler()
    frames.feed(text("a", fin=False))
    stream = frames.get_iter()
    assert await anext(stream) == "a"
    frames.end(Ended)
    with pytest.raises(Ended):
        await anext(stream)


@clocktest
async def test_a_message_of_empty_frames_is_one_empty_part() -> None:
    frames, _ = assembler()
    frames.feed(binary(b"", fin=False))
    frames.feed(more(b"", fin=True))
    assert [part async for part in frames.get_iter()] == [b""]
    frames.feed(text("", fin=False))
    frames.feed(more(b"", fin=True))
    assert await frames.get() == ""


# -- limits -------------------------------------------------------------------------------------


@clocktest
async def test_the_peer_is_held_back_at_max_queue_and_released_when_it_is_read() -> None:
    frames, source = assembler(max_queue=8)
    for number in range(7):
        frames.feed(text(str(number)))
    assert source.calls == []
    frames.feed(text("7"))
    assert source.calls == ["pause"]
    frames.feed(text("8"))
    assert source.calls == ["pause"]
    for _ in range(6):
        await frames.get()
    assert source.calls == ["pause"]
    await frames.get()
    assert source.calls == ["pause", "resume"]


def test_a_queue_has_a_limit_by_default() -> None:
    frames, source = assembler()
    for _ in range(DEFAULT_MAX_QUEUE):
        frames.feed_message("x")
    assert source.calls == ["pause"]


@clocktest
async def test_bytes_hold_the_peer_back_before_messages_do() -> None:
    frames, source = assembler()
    frames.feed(binary(bytes(HIGH_WATER_BYTES)))
    frames.feed(binary(b"x"))
    assert source.calls == ["pause"]
    await frames.get()
    assert source.calls == ["pause", "resume"]


@clocktest
async def test_a_large_message_that_somebody_waits_for_holds_nobody_back() -> None:
    frames, source = assembler()
    reader = asyncio.ensure_future(frames.get())
    await turns()
    frames.feed(binary(bytes(HIGH_WATER_BYTES)))
    assert source.calls == []
    frames.feed(binary(b"another"))
    assert source.calls == ["pause"]
    assert len(await reader or b"") == HIGH_WATER_BYTES
    assert source.calls == ["pause", "resume"]


@clocktest
async def test_a_message_under_way_is_not_held_back_but_what_is_before_it_is() -> None:
    frames, source = assembler()
    frames.feed(binary(bytes(HIGH_WATER_BYTES), fin=False))
    frames.feed(more(bytes(HIGH_WATER_BYTES)))
    assert source.calls == []
    frames.feed(more(b"", fin=True))
    assert source.calls == ["pause"]
    frames, source = assembler()
    frames.feed(binary(b"unread"))
    frames.feed(binary(bytes(HIGH_WATER_BYTES), fin=False))
    assert source.calls == ["pause"]
    await frames.get()
    assert source.calls == ["pause", "resume"]


@clocktest
async def test_a_stream_holds_the_peer_back_by_bytes() -> None:
    frames, source = assembler()
    frames.feed(binary(b"x", fin=False))
    stream = frames.get_iter()
    await anext(stream)
    frames.feed(more(bytes(HIGH_WATER_BYTES // 2)))
    assert source.calls == []
    frames.feed(more(bytes(HIGH_WATER_BYTES // 2)))
    assert source.calls == ["pause"]
    await anext(stream)
    assert source.calls == ["pause"]
    await anext(stream)
    assert source.calls == ["pause", "resume"]


@clocktest
async def test_a_stream_holds_the_peer_back_by_frames() -> None:
    frames, source = assembler(max_queue=8)
    frames.feed(binary(b"x", fin=False))
    stream = frames.get_iter()
    await anext(stream)
    for _ in range(8):
        frames.feed(more(b"x"))
    assert source.calls == ["pause"]
    for _ in range(6):
        await anext(stream)
    assert source.calls == ["pause", "resume"]


@clocktest
async def test_fragments_cost_the_memory_of_their_bytes() -> None:
    frames, _ = assembler()
    frames.feed(text("", fin=False))
    count = 10 * MERGED_FRAGMENTS
    for _ in range(count):
        frames.feed(more(b"x"))
        frames.feed(more(b""))
    frames.feed(more("\u00e9".encode(), fin=True))
    parts = [part async for part in frames.get_iter()]
    assert "".join(map(str, parts)) == "x" * count + "\u00e9"
    assert len(parts) <= 10 + MERGED_FRAGMENTS


@clocktest
async def test_binary_fragments_are_joined_in_their_order() -> None:
    frames, _ = assembler()
    sent = [bytes([number % 256]) for number in range(3 * MERGED_FRAGMENTS + 5)]
    frames.feed(binary(sent[0], fin=False))
    for part in sent[1:]:
        frames.feed(more(part))
    frames.feed(more(b"", fin=True))
    assert await frames.get() == b"".join(sent)


@clocktest
async def test_what_is_discarded_never_comes_back_and_what_was_kept_does() -> None:
    frames, source = assembler(max_queue=1)
    frames.feed(text("kept"))
    frames.discard()
    assert source.calls == ["pause", "resume"]
    frames.feed(text("dropped"))
    frames.feed(text("dro", fin=False))
    frames.feed(more(b"pped", fin=True))
    assert await frames.get() == "kept"
    assert await frames.get(0) is None
    assert frames.incomplete is None


@clocktest
async def test_a_message_whose_rest_is_discarded_is_never_read() -> None:
    frames, _ = assembler()
    frames.feed(text("beg", fin=False))
    frames.discard()
    assert frames.size == 0
    frames.feed(more(b"un", fin=True))
    assert await frames.get(0) is None
    assert not frames.readable
