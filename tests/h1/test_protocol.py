"""tercel.h1.protocol: exchanges on a connection, over real sockets."""

import asyncio

import pytest

from tercel.h1.parser import RequestParser
from tercel.h1.protocol import HttpProtocol
from tercel.shared.bytestream import ByteReceiver, ByteStream
from tercel.shared.errors import (
    ConnectionClosed,
    IncompleteMessage,
    LocalProtocolError,
    MalformedMessage,
    RequestTimeout,
    ResetReason,
    ServerError,
    StreamAborted,
)
from tercel.shared.messages import ResponseHead
from tercel.shared.stream import RequestHandler, RequestStream
from tercel.shared.upgrade import upgrade
from tests.h1.serving import Client, Clock, Eager, Exchange, Script, echo, nothing, serving
from tests.support.asynchronous import PATIENCE_SECONDS, turns

CHUNKED = "Transfer-Encoding: chunked"


# -- requests and responses -----------------------------------------------------------------


async def test_get_is_answered_with_the_fields_of_the_server() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/a?b")
        response = await client.response()
        assert response.line == b"HTTP/1.1 200 OK"
        assert response.content == b"/a?b"
        assert response.fields[b"server"] == b"tercel"
        assert response.fields[b"date"].endswith(b" GMT")
        assert response.fields[b"content-length"] == b"4"
        assert b"connection" not in response.fields


async def test_connection_persists_over_messages_of_every_framing() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        for _ in range(3):
            client.get("/x")
            assert (await client.response()).content == b"/x"
            client.post("Content-Length: 3", content=b"abc")
            assert (await client.response()).content == b"abc"
            client.post(CHUNKED, content=b"2\r\nde\r\n1\r\nf\r\n0\r\n\r\n")
            assert (await client.response()).content == b"def"
        assert len(server.connections) == 1


@pytest.mark.parametrize("field", ["Content-Length: 1000000", CHUNKED])
async def test_large_content_goes_both_ways(field: str) -> None:
    content = bytes(range(256)) * 3907
    content = content[:1_000_000]

    async def stream_back(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        while part := await exchange.read():
            exchange.stream.send_content(part)
            await exchange.stream.drain()
        exchange.stream.send_content(b"", end_stream=True)

    async with serving(stream_back) as server:
        client = await server.connect()
        sent = content if field != CHUNKED else b"F4240\r\n" + content + b"\r\n0\r\n\r\n"
        client.post(field, content=sent)
        response = await client.response()
        assert response.fields[b"transfer-encoding"] == b"chunked"
        assert response.content == content


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/x", version="1.0")
        response = await client.response()
        assert response.fields[b"connection"] == b"close"
        assert response.content == b"/x"
        assert await client.rest() == b""


async def test_http_1_0_may_ask_to_persist() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        for _ in range(2):
            client.get("/x", "Connection: keep-alive", version="1.0")
            assert (await client.response()).fields[b"connection"] == b"keep-alive"


async def test_content_of_unknown_length_ends_an_http_1_0_connection() -> None:
    async def in_two_parts(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"one ")
        exchange.stream.send_content(b"two", end_stream=True)

    async with serving(in_two_parts) as server:
        client = await server.connect()
        client.get("/", "Connection: keep-alive", version="1.0")
        response = await client.response()
        assert b"transfer-encoding" not in response.fields
        assert response.content == b"one two"


async def test_client_can_ask_to_close() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/", "Connection: close")
        assert (await client.response()).fields[b"connection"] == b"close"
        assert await client.rest() == b""


async def test_application_can_ask_to_close() -> None:
    async def closing(exchange: Exchange) -> None:
        exchange.answer(b"bye", fields=[(b"connection", b"close")])

    async with serving(closing) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).content == b"bye"
        assert await client.rest() == b""


async def test_head_has_the_fields_of_a_get_and_no_content() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.send(b"HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await client.response(bodiless=True)
        assert response.status == 200
        assert b"transfer-encoding" not in response.fields
        client.get("/next")
        assert (await client.response()).content == b"/next"


@pytest.mark.parametrize("status", [204, 304])
async def test_status_without_content_keeps_the_connection_in_step(status: int) -> None:
    async def bodiless(exchange: Exchange) -> None:
        exchange.answer(b"never sent", status=status)

    async with serving(bodiless) as server:
        client = await server.connect()
        for _ in range(2):
            client.get()
            response = await client.response()
            assert response.status == status
            assert b"content-length" not in response.fields


async def test_early_hints_come_before_the_response() -> None:
    async def hints(exchange: Exchange) -> None:
        exchange.stream.send_informational(103, [(b"link", b"</a.css>; rel=preload")])
        exchange.answer(b"done")

    async with serving(hints) as server:
        client = await server.connect()
        client.get()
        hint = await client.response()
        assert hint.line == b"HTTP/1.1 103 Early Hints"
        assert hint.fields == {b"link": b"</a.css>; rel=preload"}
        assert (await client.response()).content == b"done"


async def test_trailers_go_both_ways() -> None:
    async def reflect(exchange: Exchange) -> None:
        content = await exchange.read_all()
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(content)
        exchange.stream.send_trailers(exchange.stream.content.trailers)

    async with serving(reflect) as server:
        client = await server.connect()
        client.post(CHUNKED, "TE: trailers", content=b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n")
        response = await client.response()
        assert response.content == b"a"
        assert response.trailers == b"x-sum: 1\r\n"
        client.get("/next")


async def test_head_and_content_are_one_write() -> None:
    class Recording(HttpProtocol):
        writes: list[list[bytes]] = []  # noqa: RUF012

        def write(self, buffers: list[bytes]) -> None:
            self.writes.append(buffers)
            super().write(buffers)

    async with serving(echo, acceptor={"protocol": Recording}) as server:
        client = await server.connect()
        client.get("/x")
        assert (await client.response()).content == b"/x"
        assert len(Recording.writes) == 1
        Recording.writes.clear()


async def test_head_without_content_does_not_wait_for_it() -> None:
    async def head_first(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        await exchange.reached("response aborted")

    async with serving(head_first) as server:
        client = await server.connect()
        client.get()
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head


async def test_upgrade_to_h2c_is_ignored() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A")
        assert (await client.response()).content == b"/x"
        client.get("/y")
        assert (await client.response()).content == b"/y"


# -- 100 Continue -----------------------------------------------------------------------------


async def test_continue_is_sent_when_the_application_first_reads() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.post("Expect: 100-continue", "Content-Length: 3")
        assert (await client.response()).line == b"HTTP/1.1 100 Continue"
        client.send(b"abc")
        response = await client.response()
        assert response.content == b"abc"
        assert b"connection" not in response.fields


async def test_continue_is_not_sent_to_an_application_that_does_not_read() -> None:
    async def refuse(exchange: Exchange) -> None:
        exchange.answer(b"no", status=403)

    async with serving(refuse) as server:
        client = await server.connect()
        client.post("Expect: 100-continue", "Content-Length: 3")
        response = await client.response()
        assert response.status == 403
        # Nobody knows whether the content will come, so the next request has no place.
        assert response.fields[b"connection"] == b"close"
        assert await client.rest() == b""


async def test_continue_is_not_sent_when_content_has_come_already() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.post("Expect: 100-continue", "Content-Length: 3", content=b"abc")
        assert (await client.response()).status == 200


# -- pipelining ---------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    gate = asyncio.Event()

    async def first_waits(exchange: Exchange) -> None:
        if exchange.stream.head.target == b"/1":
            await gate.wait()
        await echo(exchange)

    async with serving(first_waits) as server:
        client = await server.connect()
        for number in range(1, 51):
            client.get(f"/{number}")
        await server.application.exchange(0)
        await server.until(lambda: bool(server.connection.http.unparsed))
        assert len(server.application.exchanges) == 1
        gate.set()
        for number in range(1, 51):
            assert (await client.response()).content == b"/%d" % number


async def test_reading_pauses_above_the_bound_for_pipelined_requests() -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        await echo(exchange)

    async with serving(wait, max_receive_buffer_bytes=4096) as server:
        client = await server.connect()
        for _ in range(20_000):
            client.get("/x")
        await server.application.exchange(0)
        connection = server.connection
        await server.until(lambda: connection._reading_paused)
        waiting = len(connection.http.unparsed)
        # One read more than the bound, and then no more.
        assert 4096 < waiting <= 4096 + 262_144
        gate.set()
        for _ in range(20_000):
            assert (await client.response()).content == b"/x"
        assert not connection._reading_paused


async def test_application_may_answer_before_it_has_seen_the_whole_request() -> None:
    async with serving(nothing) as server:
        application = Eager()
        server.acceptor._context.application = application
        client = await server.connect()
        for number in range(100):
            client.get(f"/{number}")
        for number in range(100):
            assert (await client.response()).content == b"/%d" % number
        client.post(CHUNKED, content=b"2\r\nab\r\n")
        assert (await client.response()).content == b"/"
        client.send(b"0\r\n\r\n")
        client.get("/last")
        assert (await client.response()).content == b"/last"
        assert {tuple(e.calls) for e in application.exchanges} <= {
            (),
            ("complete",),
            ("content", "complete"),
        }


async def test_whole_response_to_head_has_no_content() -> None:
    async with serving(nothing) as server:
        server.acceptor._context.application = Eager()
        client = await server.connect()
        client.send(b"HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response(bodiless=True)).status == 200
        client.get("/next")
        assert (await client.response()).content == b"/next"


async def test_requests_after_one_that_closes_are_not_answered() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/1", "Connection: close")
        client.get("/2")
        assert (await client.response()).content == b"/1"
        assert await client.rest() == b""
        assert len(server.application.exchanges) == 1


# -- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "field"),
    [
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, None),
        (b"GET / HTTP/1.1\r\n\r\n", 400, None),
        (b"GET / HTTP/2.0\r\n\r\n", 505, None),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, b"allow"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", 417, None),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, None),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", 431, None),
    ],
)
async def test_fault_is_answered_in_brief_and_the_connection_closed(
    data: bytes, status: int, field: bytes | None
) -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.send(data)
        response = await client.response()
        assert response.status == status
        assert response.fields[b"connection"] == b"close"
        assert response.fields[b"content-type"] == b"text/plain; charset=utf-8"
        assert response.content.startswith(b"%d " % status)
        assert b"date" in response.fields
        if field is not None:
            assert field in response.fields
        assert await client.rest() == b""
        assert server.application.exchanges == []


async def test_answer_to_a_fault_can_be_read_while_the_client_still_sends() -> None:
    async with serving(echo, clock=Clock()) as server:
        client = await server.connect()
        client.send(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 500_000)
        assert (await client.response()).status == 400
        assert await client.rest() == b""
        client.send(b"y" * 100_000)
        await client.writer.drain()


async def test_connection_closes_when_the_client_goes_on_sending_after_the_answer() -> None:
    async with serving(echo, clock=Clock()) as server:
        client = await server.connect()
        client.send(b"POST / HTTP/1.1\r\n\r\n")
        assert (await client.response()).status == 400
        with pytest.raises(ConnectionError):
            while True:
                client.send(b"y" * 100_000)
                await client.writer.drain()


async def test_connection_closes_when_the_client_does_not_after_the_answer() -> None:
    async with serving(echo, clock=Clock()) as server:
        client = await server.connect()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.response()).status == 400
        assert len(server.connections) == 1
        await server.pass_time(3)
        await server.until(lambda: not server.connections)


async def test_faulty_chunk_aborts_the_request_and_is_answered() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.post(CHUNKED, content=b"2\r\nab\r\n")
        exchange = await server.application.exchange()
        await exchange.reached("content")
        client.send(b"x\r\n")
        assert (await client.response()).status == 400
        await exchange.reached("aborted")
        assert isinstance(exchange.error, MalformedMessage)
        assert exchange.calls == ["content", "aborted"]
        with pytest.raises(StreamAborted):
            exchange.answer(b"too late")
        with pytest.raises(StreamAborted):
            await exchange.stream.drain()
        exchange.stream.want_content()


async def test_faulty_chunk_after_the_head_of_the_response_closes_without_an_end() -> None:
    async def head_first(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"begun")
        await exchange.reached("aborted")

    async with serving(head_first) as server:
        client = await server.connect()
        client.post(CHUNKED)
        await client.reader.readuntil(b"begun\r\n")
        client.send(b"x\r\n")
        assert await client.rest() == b""


@pytest.mark.parametrize("field", ["Content-Length: 11", CHUNKED])
async def test_content_over_its_limit_is_answered_with_413(field: str) -> None:
    async with serving(echo, max_content_bytes=10) as server:
        client = await server.connect()
        client.post(field, content=b"b\r\n01234567890\r\n0\r\n\r\n")
        response = await client.response()
        assert response.status == 413
        assert response.fields[b"connection"] == b"close"


async def test_adapter_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as server:

        def fail(stream: RequestStream) -> RequestHandler:
            raise RuntimeError("adapter")

        server.application.open = fail  # type: ignore[method-assign]
        client = await server.connect()
        client.get()
        response = await client.response()
        assert response.status == 500
        assert await client.rest() == b""
        assert "adapter failed" in caplog.text


# -- the application gives up -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (ResetReason.INTERNAL_ERROR, 500),
        (ResetReason.REQUEST_REJECTED, 503),
        (ResetReason.EXCESSIVE_LOAD, 503),
        (ResetReason.MESSAGE_ERROR, 400),
        (ResetReason.REQUEST_INCOMPLETE, 400),
        (ResetReason.REQUEST_CANCELLED, None),
        (ResetReason.NO_ERROR, None),
    ],
)
async def test_reset_before_the_response_is_a_status_or_a_close(
    reason: ResetReason, status: int | None
) -> None:
    async def give_up(exchange: Exchange) -> None:
        exchange.stream.reset(reason)
        exchange.stream.reset(reason)

    async with serving(give_up) as server:
        client = await server.connect()
        client.get()
        if status is not None:
            assert (await client.response()).status == status
        assert await client.rest() == b""


async def test_head_that_was_not_written_gives_way_to_the_500() -> None:
    async def head_then_reset(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(head_then_reset) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).status == 500
        assert await client.rest() == b""


async def test_reset_in_the_middle_leaves_chunked_content_without_its_end() -> None:
    async def partly(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"part")
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(partly) as server:
        client = await server.connect()
        client.get()
        assert (await client.rest()).endswith(b"\r\n\r\n4\r\npart\r\n")


async def test_reset_in_the_middle_of_close_delimited_content_resets_the_connection() -> None:
    async def partly(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        exchange.stream.send_content(b"part")
        exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(partly) as server:
        client = await server.connect()
        client.get(version="1.0")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_content_beyond_its_length_is_the_application_s_fault() -> None:
    faults: list[Exception] = []

    async def too_much(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, [(b"content-length", b"2")]))
        try:
            exchange.stream.send_content(b"abc", end_stream=True)
        except LocalProtocolError as error:
            faults.append(error)
            exchange.stream.reset(ResetReason.INTERNAL_ERROR)

    async with serving(too_much) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).status == 500
        assert len(faults) == 1


# -- content nobody reads -----------------------------------------------------------------------


async def test_unread_content_is_drained_up_to_its_bound() -> None:
    async def ignore(exchange: Exchange) -> None:
        exchange.answer(b"ignored")

    async with serving(ignore, max_drain_bytes=10_000) as server:
        client = await server.connect()
        for field, content in (
            ("Content-Length: 10000", b"x" * 10_000),
            (CHUNKED, b"2710\r\n" + b"x" * 10_000 + b"\r\n0\r\n\r\n"),
        ):
            client.post(field)
            assert (await client.response()).content == b"ignored"
            client.send(content)
        client.get()
        assert (await client.response()).content == b"ignored"
        assert [e.calls[-1] for e in server.application.exchanges] == ["complete"] * 3


@pytest.mark.parametrize("field", ["Content-Length: 1000000", CHUNKED])
async def test_connection_with_more_unread_content_is_closed(field: str) -> None:
    async def ignore(exchange: Exchange) -> None:
        exchange.answer(b"ignored")

    async with serving(ignore, clock=Clock(), max_drain_bytes=10_000) as server:
        client = await server.connect()
        client.post(field)
        assert (await client.response()).content == b"ignored"
        client.send(b"5000\r\n" + b"x" * 20_480)
        assert await client.rest() == b""
        exchange = await server.application.exchange()
        await server.until(lambda: not server.connection.streams)
        assert "complete" not in exchange.calls


async def test_upload_pauses_while_the_application_does_not_read() -> None:
    start = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await start.wait()
        size = 0
        while part := await exchange.read():
            size += len(part)
        exchange.answer(b"%d" % size)

    async with serving(late, max_receive_buffer_bytes=65_536) as server:
        client = await server.connect()
        size = 8_000_000
        client.post(f"Content-Length: {size}", content=b"x" * size)
        exchange = await server.application.exchange()
        connection = server.connection
        await server.until(lambda: connection._reading_paused)
        # The bound, and one read of the loop beyond it.
        assert 65_536 < exchange.stream.content.size <= 65_536 + 262_144
        start.set()
        assert (await client.response()).content == b"%d" % size


# -- responses nobody reads -------------------------------------------------------------------


async def test_writer_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.stream.send_head(ResponseHead(200, [(b"content-length", b"80000000")]))
        for _ in range(1000):
            exchange.stream.send_content(b"x" * 80_000)
            sent += 80_000
            await exchange.stream.drain()
        exchange.stream.send_content(b"", end_stream=True)

    async with serving(endless, max_unsent_bytes=100_000) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()
        client.get()
        await server.application.exchange()
        connection = server.connection
        stopped_at, turns = 0, 0
        while turns < 20:  # the kernel may go on to take some, and then more is written
            await asyncio.sleep(0)
            turns = turns + 1 if connection.write_gate.paused and sent == stopped_at else 0
            stopped_at = sent
            assert connection.transport.get_write_buffer_size() <= 180_000
        assert connection.transport.get_write_buffer_size() > 25_000
        assert sent < 80_000_000
        client.writer.transport.resume_reading()
        assert len((await client.response()).content) == 80_000_000


async def test_client_that_takes_nothing_is_aborted_after_send_timeout() -> None:
    failures: list[BaseException] = []

    async def endless(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        try:
            while True:
                # More than what is joined with its framing: some releases of Python 3.12 and 3.13
                # have a `writelines` that never makes anyone wait.
                exchange.stream.send_content(b"x" * 80_000)
                await exchange.stream.drain()
        except StreamAborted as error:
            failures.append(error)

    async with serving(endless, max_unsent_bytes=100_000, send_timeout=0.05) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()
        client.get()
        exchange = await server.application.exchange()
        await exchange.reached("response aborted")
        await server.until(lambda: bool(failures))
        assert not server.connections


async def test_response_that_nobody_takes_does_not_outlive_its_time() -> None:
    async def large(exchange: Exchange) -> None:
        exchange.answer(b"x" * 20_000_000)

    clock = Clock()
    async with serving(large, clock=clock, send_timeout=0.05) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()
        client.get()
        exchange = await server.application.exchange()
        await exchange.reached("complete")
        await server.until(lambda: not server.connection.streams)
        await server.pass_time(61)  # idle, but the response is on its way
        assert len(server.connections) == 1
        await server.pass_time(61)
        await server.until(lambda: not server.connections)


async def test_next_request_waits_until_responses_before_it_have_left() -> None:
    async def large(exchange: Exchange) -> None:
        exchange.answer(b"x" * 20_000_000)

    async with serving(large) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()
        client.get()
        client.get()
        await server.application.exchange()
        await server.until(lambda: not server.connection.streams)
        assert len(server.application.exchanges) == 1
        client.writer.transport.resume_reading()
        for _ in range(2):
            assert len((await client.response()).content) == 20_000_000


# -- time -------------------------------------------------------------------------------------


async def test_head_that_is_not_complete_in_its_time_is_answered_with_408() -> None:
    async with serving(echo, clock=Clock(), header_timeout=10) as server:
        client = await server.connect()
        client.send(b"GET / HTTP/1.1\r\n")
        await server.until(lambda: bool(server.connections) and server.connection.http.started)
        await server.pass_time(9)
        client.send(b"Host: a\r\n")  # a drip does not buy time
        await server.until(lambda: len(server.connection.http.unparsed) > 20)
        await server.pass_time(1.5)
        assert (await client.response()).status == 408
        assert await client.rest() == b""


async def test_connection_that_says_nothing_is_closed_in_silence() -> None:
    async with serving(echo, clock=Clock(), header_timeout=10) as server:
        client = await server.connect()
        await server.until(lambda: bool(server.connections))
        await server.pass_time(11)
        assert await client.rest() == b""


async def test_idle_connection_is_closed_in_silence() -> None:
    async with serving(echo, clock=Clock(), keep_alive_timeout=60) as server:
        client = await server.connect()
        client.get()
        await client.response()
        await server.pass_time(59)
        client.get()
        await client.response()
        await server.pass_time(59)
        assert len(server.connections) == 1
        await server.pass_time(2)
        assert await client.rest() == b""


@pytest.mark.parametrize("filler", [b"\r\n", b"\r"])
async def test_nothing_but_a_request_keeps_an_idle_connection(filler: bytes) -> None:
    """RFC 9112 2.2: empty lines before a request line are ignored."""
    async with serving(echo, clock=Clock(), keep_alive_timeout=60) as server:
        client = await server.connect()
        client.get()
        await client.response()
        for _ in range(11):
            if server.connections:
                client.send(filler)
                await turns()
            await server.pass_time(6)
        assert server.connections == set()


async def test_timer_of_the_loop_ends_an_idle_connection() -> None:
    async with serving(echo, keep_alive_timeout=0.5) as server:
        client = await server.connect()
        client.get()
        await client.response()
        assert await client.rest() == b""


async def test_no_keep_alive_closes_after_each_response() -> None:
    async with serving(echo, keep_alive_timeout=0) as server:
        client = await server.connect()
        client.get()
        assert (await client.response()).fields[b"connection"] == b"close"
        assert await client.rest() == b""


async def test_content_that_stalls_is_answered_with_408() -> None:
    async with serving(echo, clock=Clock(), content_timeout=30, min_content_rate=0) as server:
        client = await server.connect()
        client.post("Content-Length: 3", content=b"a")
        exchange = await server.application.exchange()
        await server.until(lambda: server.connection._waiting_since is not None)
        await server.pass_time(29)
        client.send(b"b")
        await server.until(lambda: exchange.stream.content.received == 2)
        await server.until(lambda: server.connection._waiting_since is not None)
        await server.pass_time(29)
        assert exchange.error is None
        await server.pass_time(2)
        assert (await client.response()).status == 408
        assert isinstance(exchange.error, RequestTimeout)


async def test_time_passes_for_the_client_only_while_the_application_waits() -> None:
    async with serving(nothing, clock=Clock(), content_timeout=30) as server:
        client = await server.connect()
        client.post("Content-Length: 3", content=b"a")
        exchange = await server.application.exchange()
        await exchange.reached("content")
        await server.pass_time(1000)
        assert exchange.error is None
        assert server.connection.streams


async def test_content_slower_than_its_minimum_rate_is_answered_with_408() -> None:
    async with serving(echo, clock=Clock(), content_timeout=30, min_content_rate=10) as server:
        client = await server.connect()
        client.post("Content-Length: 1000")
        exchange = await server.application.exchange()
        for received in range(1, 4):
            await server.until(lambda: server.connection._waiting_since is not None)
            await server.pass_time(9.5)
            client.send(b"x")
            await server.until(lambda n=received: exchange.stream.content.received == n)
        assert exchange.error is None
        await server.until(lambda: server.connection._waiting_since is not None)
        await server.pass_time(2)
        assert (await client.response()).status == 408


async def test_drain_that_stalls_is_closed() -> None:
    async def ignore(exchange: Exchange) -> None:
        exchange.answer(b"ignored")

    async with serving(ignore, clock=Clock(), content_timeout=30) as server:
        client = await server.connect()
        client.post("Content-Length: 3", content=b"a")
        assert (await client.response()).content == b"ignored"
        await server.pass_time(31)
        assert await client.rest() == b""


# -- the client goes ----------------------------------------------------------------------------


async def test_disconnect_in_the_middle_of_a_request_aborts_it() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.post("Content-Length: 3", content=b"a")
        exchange = await server.application.exchange()
        await exchange.reached("content")
        client.close()
        await exchange.reached("aborted")
        assert isinstance(exchange.error, ConnectionClosed)
        assert "complete" not in exchange.calls
        await server.until(lambda: not server.connections)


async def test_disconnect_in_the_middle_of_a_response_aborts_it() -> None:
    async def endless(exchange: Exchange) -> None:
        exchange.stream.send_head(ResponseHead(200, []))
        while True:
            exchange.stream.send_content(b"x" * 1000)
            await exchange.stream.drain()
            await asyncio.sleep(0)

    async with serving(endless) as server:
        client = await server.connect()
        client.get()
        await client.reader.readuntil(b"\r\n\r\n")
        client.close()
        exchange = await server.application.exchange()
        await exchange.reached("response aborted")
        assert exchange.calls == ["complete", "response aborted"]
        await server.until(lambda: not server.connections)


async def test_client_that_ended_sending_still_gets_its_answers() -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        await echo(exchange)

    async with serving(wait) as server:
        client = await server.connect()
        client.get("/1")
        client.get("/2")
        client.writer.write_eof()
        await server.application.exchange()
        await server.until(lambda: server.connection._half_closed)
        gate.set()
        assert (await client.response()).content == b"/1"
        response = await client.response()
        assert response.content == b"/2"
        assert response.fields[b"connection"] == b"close"
        assert await client.rest() == b""


async def test_half_a_request_and_eof_close_the_connection() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get("/1")
        client.send(b"GET /2 HTTP/1.1\r\n")
        client.writer.write_eof()
        assert (await client.response()).content == b"/1"
        assert await client.rest() == b""


# -- the server stops -----------------------------------------------------------------------------


async def test_response_under_way_says_close_when_the_server_stops() -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        await echo(exchange)

    async with serving(wait) as server:
        client = await server.connect()
        client.get()
        await server.application.exchange()
        assert not server.connection.close_if_idle()
        server.acceptor.stop_accepting()
        gate.set()
        assert (await client.response()).fields[b"connection"] == b"close"
        assert await client.rest() == b""
        assert await server.acceptor.drain(PATIENCE_SECONDS)


async def test_idle_connection_closes_when_the_server_stops() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get()
        await client.response()
        server.acceptor.stop_accepting()
        assert await client.rest() == b""


async def test_head_that_is_arriving_when_the_server_stops_is_still_served() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.send(b"GET /x HTTP/1.1\r\n")
        await server.until(lambda: bool(server.connections) and server.connection.http.started)
        server.acceptor.stop_accepting()
        client.send(b"Host: a\r\n\r\n")
        response = await client.response()
        assert response.content == b"/x"
        assert response.fields[b"connection"] == b"close"


# -- the protocol object ----------------------------------------------------------------------


async def test_protocol_says_what_it_is() -> None:
    async with serving(echo) as server:
        client = await server.connect()
        client.get()
        await client.response()
        connection = server.connection
        assert connection.version == 1
        assert isinstance(connection.http, RequestParser)
        assert connection.ctx is connection.info.ctx
        task = asyncio.ensure_future(connection.connection_task())
        assert connection.close_if_idle()
        await task
        assert await client.rest() == b""


async def test_protocol_without_a_context_has_the_default_settings() -> None:
    async with serving(echo) as server:
        protocol = HttpProtocol(loop=asyncio.get_running_loop(), app=server.application)
        assert protocol.http is None
        assert protocol.context.application is server.application
        protocol.abort()
        protocol.close()


class Shout(ByteReceiver):
    """A protocol that sends everything back in upper case."""

    def __init__(self) -> None:
        self.stream: ByteStream
        self.lost: list[ServerError | None] = []
        self.told_to_go = False
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.stream.write(data.upper())

    def eof_received(self) -> None:
        self.ended = True
        self.stream.write(b"!")
        self.stream.write_eof()

    def connection_lost(self, error: ServerError | None) -> None:
        self.lost.append(error)

    def going_away(self) -> None:
        self.told_to_go = True
        self.stream.close()


def upgrading(receiver: Shout) -> Script:
    async def script(exchange: Exchange) -> None:
        receiver.stream = upgrade(exchange.stream, [(b"x", b"y")], receiver)

    return script


UPGRADE = ("Connection: upgrade", "Upgrade: shout")


async def test_upgraded_connection_is_a_byte_stream() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver)) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        client.send(b"early ")
        response = await client.response()
        assert response.line == b"HTTP/1.1 101 Switching Protocols"
        expected = {b"connection": b"upgrade", b"upgrade": b"shout", b"x": b"y"}
        # What the server adds to other responses is in this one, too.
        assert expected.items() <= response.fields.items()
        assert response.fields.keys() - expected == {b"date", b"server"}
        client.send(b"late")
        assert await client.reader.readexactly(10) == b"EARLY LATE"
        client.writer.write_eof()
        assert await client.rest() == b"!"
        await server.until(lambda: bool(receiver.lost))
        assert receiver.ended
        assert not server.connections


async def test_either_side_of_an_upgraded_connection_may_end_first() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver)) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        assert receiver.stream.writable
        assert receiver.stream.unsent == 0
        receiver.stream.write(b"bye")
        receiver.stream.write_eof()
        assert await client.rest() == b"bye"
        client.writer.write_eof()
        await server.until(lambda: bool(receiver.lost))
        assert not server.connections


async def test_client_may_end_sending_before_the_upgrade_is_accepted() -> None:
    receiver = Shout()
    gate = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await gate.wait()
        await upgrading(receiver)(exchange)

    async with serving(late) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        client.send(b"only")
        client.writer.write_eof()
        await server.application.exchange()
        await server.until(lambda: server.connection._half_closed)
        gate.set()
        assert (await client.response()).status == 101
        assert await client.rest() == b"ONLY!"


async def test_upgraded_connection_that_is_lost_says_why() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver)) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        server.connection.abort()
        await server.until(lambda: bool(receiver.lost))
        assert isinstance(receiver.lost[0], ConnectionClosed)


async def test_upgraded_connection_is_told_that_the_server_stops() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver)) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        server.acceptor.stop_accepting()
        assert await client.rest() == b""
        assert receiver.told_to_go
        assert await server.acceptor.drain(PATIENCE_SECONDS)
        assert receiver.lost == [None]


async def test_upgraded_connection_that_is_aborted_is_reset() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver)) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        receiver.stream.abort()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_upgraded_connection_has_no_time_limit_of_http() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver), clock=Clock()) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        await server.pass_time(10_000)
        client.send(b"a")
        assert await client.reader.readexactly(1) == b"A"


async def test_upgraded_connection_pauses_reading_for_a_receiver_that_does() -> None:
    receiver = Shout()
    async with serving(upgrading(receiver), max_receive_buffer_bytes=4096) as server:
        client = await server.connect()
        client.get("/", *UPGRADE)
        await client.response()
        receiver.stream.pause_reading()
        client.send(b"x" * 1_000_000)
        connection = server.connection
        await server.until(lambda: connection._reading_paused)
        receiver.stream.resume_reading()
        assert await client.reader.readexactly(1_000_000) == b"X" * 1_000_000


async def test_every_request_gets_complete_or_aborted_but_not_both() -> None:
    async with serving(echo) as server:
        client: Client = await server.connect()
        client.get()
        client.post("Content-Length: 2", content=b"ab")
        client.post("Content-Length: 2", content=b"a")
        for _ in range(2):
            await client.response()
        third = await server.application.exchange(2)
        await third.reached("content")
        client.close()
        await third.reached("aborted")
        assert [e.calls for e in server.application.exchanges] == [
            ["complete"],
            ["content", "complete"],
            ["content", "aborted"],
        ]
        assert not isinstance(third.error, IncompleteMessage)
