"""Whatever an application gets wrong, nothing hangs: the tables of mistakes, on both versions.

A mistake has one of three ends, and `end_of` says which. What looks like a mistake and works is in
the tables, too.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tercel.shared.errors import LocalProtocolError
from tests.contract.apps import App, Message, Receive, Scope, Send, body, http_only, respond, start
from tests.contract.client import Client, Exchange, Fields
from tests.contract.conftest import Pair
from tests.contract.test_faults import errors
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, turns

REFUSED = "500"
"""Nothing of the response was out: a whole 500, and one error is logged."""
BROKEN = "broken"
"""The response is visibly not whole, and one error is logged."""
TOLD = "whole, and an error"
"""The response was whole before the mistake; one error is logged."""
FINE = "whole"
"""No mistake."""

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]}
PART: Message = {"type": "http.response.body", "body": b"some", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"mine"}
TRAILING: Message = {**START, "trailers": True}
TRAILERS: Message = {"type": "http.response.trailers", "headers": [(b"x-trailer", b"1")]}
HINT: Message = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}


def started(**changes: Any) -> list[Any]:
    """A whole response whose start message is changed."""
    return [{**START, **changes}, END]


def without(message: Message, key: str) -> Message:
    return {name: value for name, value in message.items() if name != key}


def failing_pairs() -> Iterator[tuple[bytes, bytes]]:
    yield b"x-one", b"1"
    raise ZeroDivisionError


def pairs() -> Iterator[tuple[bytes, bytes]]:
    yield b"x-one", b"1"


# What the application sends, in order; a function is called for its message.
TYPES: dict[str, tuple[list[Any], str]] = {
    "no status": ([without(START, "status"), END], REFUSED),
    "no headers": ([without(START, "headers"), END], FINE),
    "no body": ([START, without(END, "body")], FINE),
    "keys that nobody knows": ([{**START, "colour": 1}, {**END, "colour": 2}], FINE),
    **{
        f"status {status!r:.20}": (started(status=status), REFUSED)
        for status in (None, "200", b"200", 200.0, True, [200], -200, 0, 99, 101, 600, 10**30)
    },
    **{
        f"headers {headers!r:.30}": (started(headers=headers), REFUSED)
        for headers in (
            None,
            5,
            "ab",
            b"ab",
            {b"ab": b"cd"},
            {"ab": "cd"},
            [("x-a", "b")],
            [(b"x-a", "b")],
            [(b"x-a", None)],
            [(b"x-a", 5)],
            [(b"x-a", [b"b"])],
            [b"x-a"],
            [(b"x-a",)],
            [(b"x-a", b"b", b"c")],
            [None],
        )
    },
    "headers from a generator": ([lambda: {**START, "headers": pairs()}, END], FINE),
    "headers from one that fails": ([lambda: {**START, "headers": failing_pairs()}, END], REFUSED),
    "headers as lists": (started(headers=[[b"x-a", b"b"]]), FINE),
    "headers of other bytes": (started(headers=[(bytearray(b"x-a"), memoryview(b"b"))]), FINE),
    "trailers as text": (started(trailers="false"), BROKEN),
    "trailers None": (started(trailers=None), FINE),
    **{
        f"body {content!r:.20}": ([START, {**END, "body": content}], REFUSED)
        for content in ("text", None, 5, [b"some"], object())
    },
    **{
        f"body as {type(content).__name__}": ([START, {**END, "body": content}], FINE)
        for content in (bytearray(b"mine"), memoryview(b"mine"))
    },
    "a later body as text": ([START, PART, {**END, "body": "text"}], BROKEN),
    "more_body as text": ([START, {**END, "more_body": "false"}], BROKEN),
    "more_body None": ([START, {**END, "more_body": None}], FINE),
    **{
        f"trailers {headers!r:.20}": ([TRAILING, END, {**TRAILERS, "headers": headers}], BROKEN)
        for headers in (None, 5, {b"ab": b"cd"}, [("x-a", "b")], [(b"x-a",)], [(b"\r", b"")])
    },
    **{
        f"links {links!r:.20}": ([{**HINT, "links": links}, START, END], REFUSED)
        for links in (None, 5, "</a>", b"</a>", ["</a>"], [None], [b"\r\n"])
    },
    **{
        f"message {message!r:.30}": ([message], REFUSED)
        for message in (
            None,
            5,
            "http.response.start",
            ["type"],
            {},
            {"type": None},
            {"type": []},
            {"type": b"http.response.start"},
            {"type": "http.response.unheard"},
            {"type": "http.request"},
            {"type": "lifespan.startup.complete"},
            {"type": "websocket.accept"},
        )
    },
    **{
        f"{message!r:.40} within content": ([START, PART, message], BROKEN)
        for message in (None, {}, {"type": "http.response.unheard"}, {"type": "websocket.send"})
    },
}

ORDERS: dict[str, tuple[list[Any], str]] = {
    "nothing": ([], REFUSED),
    "start alone": ([START], REFUSED),
    "content alone": ([END], REFUSED),
    "content twice": ([END, END], REFUSED),
    "trailers alone": ([TRAILERS], REFUSED),
    "a hint alone": ([HINT], REFUSED),
    "start twice": ([START, START, END], REFUSED),
    "start within content": ([START, PART, START], BROKEN),
    "no end": ([START, PART], BROKEN),
    "trailers within content": ([START, PART, TRAILERS], BROKEN),
    "trailers before content": ([TRAILING, TRAILERS], REFUSED),
    "trailers that were not announced": ([START, END, TRAILERS], TOLD),
    "trailers that do not come": ([TRAILING, END], BROKEN),
    "trailers that do not end": ([TRAILING, END, {**TRAILERS, "more_trailers": True}], BROKEN),
    "content after trailers": ([TRAILING, END, TRAILERS, END], TOLD),
    "trailers twice": ([TRAILING, END, TRAILERS, TRAILERS], TOLD),
    "content for trailers": ([TRAILING, END, END], BROKEN),
    "start after the end": ([START, END, START], TOLD),
    "content after the end": ([START, END, END], TOLD),
    "a hint after the end": ([START, END, HINT], TOLD),
    "a hint between start and content": ([START, HINT, END], FINE),
    "another response after the end": ([START, END, START, END], TOLD),
    "a file for an end": ([START, END, {"type": "http.response.pathsend", "path": __file__}], TOLD),
}

LARGE = [(b"x-large", b"a" * 70_000)]
LONG_NAME = [(b"a" * 70_000, b"x")]
MANY = [(b"x-many-%d" % number, b"value") for number in range(5000)]


def length(*values: bytes) -> Fields:
    return [(b"content-length", value) for value in values]


# What one version cannot carry: HTTP/1.1 has no limit of its own.
SIZES: dict[str, tuple[list[Any], str, str]] = {
    "a large field": (started(headers=LARGE), FINE, REFUSED),
    "a long name": (started(headers=LONG_NAME), FINE, REFUSED),
    "many fields": (started(headers=MANY), FINE, FINE),
    "a large field, then parts": ([{**START, "headers": LARGE}, PART, END], FINE, REFUSED),
    "large trailers": ([TRAILING, END, {**TRAILERS, "headers": LARGE}], FINE, BROKEN),
    "a long trailer name": ([TRAILING, END, {**TRAILERS, "headers": LONG_NAME}], FINE, BROKEN),
    "a large hint": ([{**HINT, "links": [b"a" * 70_000]}, START, END], FINE, REFUSED),
    "less than was promised": (started(headers=length(b"5")), REFUSED, REFUSED),
    "more than was promised": (started(headers=length(b"3")), REFUSED, REFUSED),
    "two promises": (started(headers=length(b"4", b"5")), REFUSED, REFUSED),
    "the same promise twice": (started(headers=length(b"4", b"4")), REFUSED, REFUSED),
    **{
        f"content-length {value!r:.20}": (started(headers=length(value)), REFUSED, REFUSED)
        for value in (b"", b"four", b"-4", b"+4", b"4, 4", b"0x4", b"4.0", b"9" * 5000)
    },
    "less in parts": ([{**START, "headers": length(b"9")}, PART, END], BROKEN, BROKEN),
    "more in parts": ([{**START, "headers": length(b"7")}, PART, END], BROKEN, BROKEN),
    "less before trailers": (
        [{**TRAILING, "headers": length(b"9")}, PART, END, TRAILERS],
        BROKEN,
        BROKEN,
    ),
}


def of_files(path: Path, file: BinaryIO) -> dict[str, tuple[list[Any], str]]:
    """The same for the messages that send files; `file` is open, and has the name `path`."""

    def sent(**message: Any) -> list[Any]:
        return [START, {"type": "http.response.pathsend", **message}]

    def passed(**message: Any) -> list[Any]:
        return [START, {"type": "http.response.zerocopysend", **message}]

    def closed() -> Message:
        with path.open("rb") as file:
            return {"type": "http.response.zerocopysend", "file": file}

    directory = str(path.parent)
    return {
        **{
            f"path {name!r:.20}": (sent(path=name), REFUSED)
            for name in (None, 5, b"name", "", "a\0b", directory, directory + "/nothing")
        },
        "no path": (sent(), REFUSED),
        "a file after all": (sent(path=str(path)), FINE),
        "a path within content": ([START, PART, *sent(path=directory)[1:]], BROKEN),
        "a path before the start": (sent(path=str(path))[1:], REFUSED),
        "no file": (passed(), REFUSED),
        **{
            f"file {value!r:.20}": (passed(file=value), REFUSED)
            for value in (None, "a", -1, 99_999)
        },
        "a closed file": ([START, closed], REFUSED),
        **{
            f"offset {value!r:.20}": (passed(file=file, offset=value), REFUSED)
            for value in ("0", -1, 0.0)
        },
        **{
            f"count {value!r:.20}": (passed(file=file, count=value), REFUSED)
            for value in ("0", -1, 0.0)
        },
    }


def sending(messages: Iterable[Any]) -> App:
    """An application that sends these messages, and returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message() if callable(message) else message)

    return app


def served(apps: Mapping[str, App]) -> App:
    """The application called NAME at /NAME; elsewhere one that works."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fault = apps.get(scope["path"].removeprefix("/"))
        if fault is None:
            await respond(send, b"works")
        else:
            await fault(scope, receive, send)

    return app


async def settled() -> None:
    """Let an application go on that its client has the end of: it may do something about it."""
    await turns(20)


async def over(exchange: Exchange) -> Exchange:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await exchange.over()


def end_of(exchange: Exchange, logged: int) -> str:
    """Which of the ends it is, or what it is instead."""
    content = bytes(exchange.content)
    if exchange.ended and exchange.status == 500:
        if logged == 1 and content in (b"Internal Server Error", b"500 Internal Server Error\n"):
            return REFUSED
    elif exchange.ended and exchange.status == 200:
        if logged <= 1:
            return TOLD if logged else FINE
    elif exchange.broken and not exchange.ended and logged == 1:
        return BROKEN
    return f"{exchange.status} {content[:20]!r}, ended: {exchange.ended}, {logged} errors"


async def ends(
    client: Client, names: Iterable[str], caplog: pytest.LogCaptureFixture, method: str = "GET"
) -> dict[str, str]:
    """How each mistake of an application ends. The request after it is served."""
    found = {}
    for name in names:
        caplog.clear()
        connections = client.connections
        exchange = await over(await client.open(method, f"/{name}", [(b"te", b"trailers")]))
        await settled()
        found[name] = end_of(exchange, len(errors(caplog)))
        # Nothing of it is left: with max_concurrency 1 this would be refused.
        assert bytes((await client.get("/")).content) == b"works", name
        if exchange.ended and exchange.header.get(b"connection") != b"close":
            assert client.connections <= max(connections, 1), name
    return found


def numbered(table: Mapping[str, Any]) -> dict[str, str]:
    """A path for each name."""
    return {f"{number}": name for number, name in enumerate(table)}


async def check(
    pair: Pair,
    apps: Mapping[str, App],
    expected: Mapping[str, str],
    caplog: pytest.LogCaptureFixture,
    **settings: Any,
) -> None:
    """Each application ends as `expected` says, and nothing is left of it."""
    paths = numbered(apps)
    app = served({path: apps[name] for path, name in paths.items()})
    # What were left would be waited for, for longer than the test does.
    limits = {"max_concurrency": 1, "graceful_timeout": 10 * PATIENCE_SECONDS, **settings}
    async with pair(app, **limits) as client:
        found = await ends(client, paths, caplog)
    assert {paths[path]: end for path, end in found.items()} == expected


@pytest.mark.parametrize("table", [TYPES, ORDERS], ids=["types", "orders"])
@asynctest
async def test_a_mistake_in_messages_never_looks_like_a_whole_response(
    pair: Pair, table: dict[str, tuple[list[Any], str]], caplog: pytest.LogCaptureFixture
) -> None:
    apps = {name: sending(messages) for name, (messages, _) in table.items()}
    await check(pair, apps, {name: end for name, (_, end) in table.items()}, caplog)


@asynctest
async def test_what_a_version_cannot_carry_is_a_mistake_there(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    apps = {name: sending(messages) for name, (messages, *_) in SIZES.items()}
    async with pair(served({})) as client:
        version = client.http_version
    which = 1 if version == "1.1" else 2
    await check(pair, apps, {name: row[which] for name, row in SIZES.items()}, caplog)


@asynctest
async def test_a_mistake_with_files_never_looks_like_a_whole_response(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "eight"
    path.write_bytes(b"8 bytes.")
    with path.open("rb") as file:
        table = of_files(path, file)
        apps = {name: sending(messages) for name, (messages, _) in table.items()}
        expected = {name: end for name, (_, end) in table.items()}
        await check(pair, apps, expected, caplog, pathsend=True)


# -- what leaves the application ------------------------------------------------------------------


class Unrelated(BaseException):
    """One that is no Exception."""


class ClientDisconnect(Exception):
    """Called as what a framework raises for a client that has gone."""


def recursing() -> None:
    recursing()


def raising(kind: type[BaseException], *args: Any) -> Callable[[], Any]:
    def fail() -> None:
        raise kind(*args)

    return fail


async def awaits_what_was_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def fails_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(raising(ZeroDivisionError)))


RAISED: dict[str, Callable[[], Any]] = {
    "Exception": raising(ZeroDivisionError, "mine"),
    "OSError": raising(ConnectionResetError, "of a database"),
    "TimeoutError": raising(TimeoutError),
    "ExceptionGroup": raising(ExceptionGroup, "mine", [ZeroDivisionError()]),
    "BaseExceptionGroup": raising(BaseExceptionGroup, "mine", [Unrelated()]),
    "a task group": fails_in_a_group,
    "BaseException": raising(Unrelated),
    "SystemExit": raising(SystemExit, "mine"),
    "CancelledError": raising(asyncio.CancelledError()),
    "what was cancelled": awaits_what_was_cancelled,
    "cancelled by itself": cancels_itself,
    "StopIteration": raising(StopIteration),
    "StopAsyncIteration": raising(StopAsyncIteration),
    "RecursionError": recursing,
    "MemoryError": raising(MemoryError),
    "what is called a disconnect": raising(ClientDisconnect),
}


async def before_all(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await called(fail)


async def after_a_wait(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await turns()
    await called(fail)


async def after_receiving(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await receive()
    await called(fail)


async def after_start(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await start(send)
    await called(fail)


async def after_content(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await start(send)
    await body(send, b"some", more=True)
    await called(fail)


async def after_the_end(receive: Receive, send: Send, fail: Callable[[], Any]) -> None:
    await respond(send, b"mine")
    await called(fail)


async def called(fail: Callable[[], Any]) -> None:
    result = fail()
    if result is not None:
        await result


POINTS: dict[Any, tuple[str, ...]] = {
    before_all: (REFUSED,),
    after_a_wait: (REFUSED,),
    after_receiving: (REFUSED,),
    # A head leaves when its application waits, and may have done so.
    after_start: (REFUSED, BROKEN),
    after_content: (BROKEN,),
    after_the_end: (TOLD,),
}


@pytest.mark.parametrize("point", POINTS)
@asynctest
async def test_whatever_leaves_an_application_is_logged_once_and_ends_its_response(
    pair: Pair, point: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(fail: Callable[[], Any]) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await point(receive, send, fail)

        return app

    paths = numbered(RAISED)
    app = served({path: failing(RAISED[name]) for path, name in paths.items()})
    async with pair(app, max_concurrency=1) as client:
        found = await ends(client, paths, caplog)
        assert {paths[path] for path, end in found.items() if end not in POINTS[point]} == set(), (
            found
        )
        (record,) = errors(caplog)
        assert record.exc_info
        assert record.exc_info[0] is ClientDisconnect


@asynctest
async def test_an_application_that_is_closed_like_a_generator_breaks_its_response(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise GeneratorExit

    await check(pair, {"GeneratorExit": app}, {"GeneratorExit": BROKEN}, caplog)


# -- send and receive in other hands --------------------------------------------------------------


@asynctest
async def test_two_tasks_may_receive_at_a_time(pair: Pair) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = await asyncio.gather(receive(), receive())
        await respond(send, b"".join(message["body"] for message in messages))

    async with pair(served({"fault": app}), max_concurrency=1) as client:
        exchange = await client.begin("POST", "/fault")
        for part in (b"one", b"two"):
            await exchange.send(part)
            await turns(20)
        assert bytes((await over(exchange)).content) == b"onetwo"


@asynctest
async def test_two_tasks_may_send_at_a_time(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)

        async def sends(data: bytes) -> None:
            for _ in range(100):
                await body(send, data * 10_000, more=True)

        await asyncio.gather(sends(b"a"), sends(b"b"))
        await body(send)

    async with pair(served({"fault": app}), window=65_536, max_concurrency=1) as client:
        exchange = await (await client.open("GET", "/fault")).whole()
        assert len(exchange.content) == 2_000_000
        assert bytes((await client.get("/")).content) == b"works"
    assert errors(caplog) == []


@asynctest
async def test_two_tasks_that_respond_are_one_response_and_a_mistake(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.gather(respond(send, b"mine"), respond(send, b"mine"))

    await check(pair, {"two": app}, {"two": TOLD}, caplog)


@pytest.mark.parametrize("responded", [True, False])
@asynctest
async def test_what_is_sent_and_received_after_the_return_is_of_no_effect(
    pair: Pair, responded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[tuple[Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append((receive, send))
        if responded:
            await respond(send, b"mine")

    await check(pair, {"early": app}, {"early": FINE if responded else REFUSED}, caplog)
    ((receive, send),) = kept
    assert (await receive())["type"] == "http.disconnect"
    for message in (START, PART, END, TRAILERS, HINT):
        with pytest.raises((LocalProtocolError, OSError)):
            await send(message)


@asynctest
async def test_who_returns_has_responded_whatever_its_tasks_still_mean_to_send(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    left: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        left.append(asyncio.ensure_future(body(send, b"mine")))

    await check(pair, {"early": app}, {"early": REFUSED}, caplog)
    (task,) = left
    with pytest.raises(LocalProtocolError):
        await task


@asynctest
async def test_an_application_that_does_not_hear_of_the_disconnect_is_told_by_os_error(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await start(send)
            while True:
                await body(send, b"x" * 65_536, more=True)
                await asyncio.sleep(0)
        except OSError as error:
            raised.set_result(error)
            raise

    async with pair(served({"fault": app})) as client:
        exchange = await (await client.open("GET", "/fault")).head()
        exchange.abort()
        await asyncio.wait_for(raised, PATIENCE_SECONDS)
        assert bytes((await client.get("/")).content) == b"works"
    assert errors(caplog) == []
