"""The messages that an application sends, and what they become."""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tercel.shared.apps import files
from tercel.shared.apps.response import AsgiResponse
from tercel.shared.errors import ConnectionClosed, LocalProtocolError, StreamAborted
from tercel.shared.flow import Wakeup
from tercel.shared.messages import Fields
from tercel.shared.stream import Transfer
from tests.support.asynchronous import asynctest, turns
from tests.support.memory_stream import MemoryStream, request_head

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
MORE = {**BODY, "more_body": True}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
HINT = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]}


def start(*, length: int | None = None, **extra: Any) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return {**START, "headers": headers, **extra}


async def sent(
    *messages: Any, method: bytes = b"GET", fields: Fields | None = None
) -> MemoryStream:
    """The stream after an application sent `messages`."""
    stream = MemoryStream(request_head(method=method, fields=fields))
    sender = AsgiResponse(stream, Wakeup())
    for message in messages:
        await sender.send(message)
    return stream


# -- start and body ------------------------------------------------------------------------------


@asynctest
async def test_nothing_is_sent_before_the_first_content() -> None:
    assert (await sent(START)).written == []


@asynctest
async def test_start_and_body_are_head_and_last_content() -> None:
    headers = [(b"Content-Type", b" text/plain "), (b"x-a", b"1")]
    stream = await sent({**START, "status": HTTPStatus.CREATED, "headers": headers}, BODY)
    assert stream.written == [
        ("head", (201, [(b"content-type", b"text/plain"), (b"x-a", b"1")]), False),
        ("content", b"ok", True),
    ]
    assert type(stream.status) is int


@asynctest
async def test_whole_response_does_not_wait() -> None:
    assert (await sent(START, BODY)).drains == 0


@asynctest
async def test_empty_response_ends_with_its_head() -> None:
    stream = await sent(START, {"type": "http.response.body"})
    assert stream.written == [("head", (200, []), True)]


@asynctest
async def test_empty_content_with_more_sends_the_head_alone() -> None:
    stream = await sent(START, {**MORE, "body": b""})
    assert stream.written == [("head", (200, []), False)]


@asynctest
async def test_parts_are_sent_as_they_come() -> None:
    stream = await sent(START, MORE, MORE, {"type": "http.response.body"})
    assert stream.written[1:] == [
        ("content", b"ok", False),
        ("content", b"ok", False),
        ("content", b"", True),
    ]
    assert stream.drains == 2


@pytest.mark.parametrize("make", [bytearray, memoryview])
@asynctest
async def test_body_may_be_any_bytes_and_is_copied(make: Callable[[bytes], Any]) -> None:
    source = bytearray(b"ok")
    stream = await sent(START, {**BODY, "body": make(source)})
    source[:] = b"XX"
    assert stream.body == b"ok"


@asynctest
async def test_send_waits_while_too_much_is_unsent() -> None:
    stream = MemoryStream()
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(START)
    stream.gate.pause()
    sending = asyncio.ensure_future(sender.send(MORE))
    await turns()
    assert not sending.done()
    stream.gate.resume()
    await sending


@asynctest
async def test_sender_that_never_waits_lets_others_run() -> None:
    stream = MemoryStream()
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(START)
    ran = asyncio.ensure_future(turns(1))
    for _ in range(2 * 1_048_576 // 65_536):
        await sender.send({**MORE, "body": bytes(65_536)})
    assert ran.done()


@asynctest
async def test_send_raises_oserror_when_the_client_has_gone() -> None:
    for before, message in (([], START), ([START], BODY), ([START, MORE], BODY)):
        stream = MemoryStream()
        sender = AsgiResponse(stream, Wakeup())
        for earlier in before:
            await sender.send(earlier)
        stream.receive_abort(ConnectionClosed("gone"))
        with pytest.raises(StreamAborted) as caught:
            await sender.send(message)
        assert isinstance(caught.value, OSError)


@asynctest
async def test_head_response_has_a_head_and_no_content() -> None:
    stream = await sent(start(length=2), BODY, method=b"HEAD")
    assert stream.written == [("head", (200, [(b"content-length", b"2")]), True)]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([start(length=3), BODY], "content of 2 bytes, content-length 3"),
        ([start(length=1), BODY], "content of 2 bytes, content-length 1"),
        ([start(length=1), MORE], "content of 2 bytes, content-length 1"),
        ([start(length=3), {"type": "http.response.body"}], "content of 0 bytes"),
    ],
)
@asynctest
async def test_wrong_length_is_told_before_anything_is_sent(
    messages: list[Any], reason: str
) -> None:
    stream = MemoryStream()
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(messages[0])
    with pytest.raises(LocalProtocolError, match=reason):
        await sender.send(messages[1])
    assert stream.written == []


@pytest.mark.parametrize("length", [1, 3, 5])
@asynctest
async def test_wrong_length_of_parts_is_told(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        await sent(start(length=length), {**MORE, "body": b"o"}, {**MORE, "body": b"k"}, BODY)


# -- trailers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("te", [b"trailers", b"gzip;q=0.5, Trailers"])
@asynctest
async def test_trailers_are_collected_and_end_the_response(te: bytes) -> None:
    more = {**TRAILERS, "headers": [(b"x-more", b"2")], "more_trailers": True}
    stream = await sent(
        start(trailers=True), BODY, more, TRAILERS, fields=[(b"accept", b"*/*"), (b"te", te)]
    )
    assert stream.written[1:] == [
        ("content", b"ok", False),
        ("trailers", [(b"x-more", b"2"), (b"x-sum", b"1")], True),
    ]


@pytest.mark.parametrize("fields", [[], [(b"te", b"gzip, x-trailers")]])
@asynctest
async def test_client_that_did_not_ask_gets_no_trailers(fields: Fields) -> None:
    stream = await sent(start(trailers=True), BODY, TRAILERS, fields=fields)
    assert stream.written[1:] == [("content", b"ok", False), ("content", b"", True)]


@asynctest
async def test_empty_trailers_end_the_response() -> None:
    message = {"type": "http.response.trailers"}
    stream = await sent(start(trailers=True), BODY, message, fields=[(b"te", b"trailers")])
    assert stream.written[-1] == ("content", b"", True)


@asynctest
async def test_trailers_may_follow_a_response_without_content() -> None:
    stream = await sent(
        start(trailers=True),
        {"type": "http.response.body"},
        TRAILERS,
        fields=[(b"te", b"trailers")],
    )
    assert stream.parts == ["head", "trailers"]


# -- early hints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [[HINT, START, BODY], [START, HINT, BODY]])
@asynctest
async def test_early_hints_come_before_the_head(messages: list[Any]) -> None:
    stream = await sent(*messages)
    assert stream.parts == ["informational", "head", "content"]
    assert stream.written[0][1] == (103, [(b"link", b"</a>; rel=preload")])


@asynctest
async def test_early_hints_after_the_head_are_left_out() -> None:
    assert (await sent(START, MORE, HINT, BODY)).parts == ["head", "content", "content"]


@asynctest
async def test_early_hint_without_links_sends_nothing() -> None:
    stream = await sent({"type": "http.response.early_hint", "links": []}, START, BODY)
    assert stream.parts == ["head", "content"]


# -- wrong messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [None],
        [{}],
        [{"type": "http.response.push"}],
        [{"type": "websocket.accept"}],
        [BODY],
        [TRAILERS],
        [START, START],
        [START, TRAILERS],
        [START, BODY, BODY],
        [START, BODY, START],
        [START, BODY, HINT],
        [START, BODY, TRAILERS],
        [start(trailers=True), BODY, BODY],
        [{**START, "status": "200"}],
        [{**START, "status": None}],
        [{**START, "status": 103}],
        [{**START, "status": 600}],
        [{**START, "headers": [("x-a", "1")]}],
        [{**START, "headers": [(b"x-a",)]}],
        [{**START, "headers": None}],
        [{**START, "headers": [(b"x a", b"1")]}],
        [{**START, "headers": [(b"x-a", b"1\r\nx-b: 2")]}],
        [start(trailers=True), BODY, {**TRAILERS, "headers": [(b"x-a", b"\n")]}],
        [{**START, "headers": [(b"content-length", b"+2")]}, BODY],
        [START, {**BODY, "body": "text"}],
        [START, {**BODY, "body": None}],
        [{**HINT, "links": ["</a>"]}],
        [{**HINT, "links": [b"</a>\r\n"]}],
        [{"type": "http.response.pathsend", "path": "/etc/hostname"}],
        [START, {"type": "http.response.pathsend"}],
        [START, {"type": "http.response.pathsend", "path": ""}],
        [START, {"type": "http.response.pathsend", "path": b"/etc/hostname"}],
        [{"type": "http.response.zerocopysend", "file": 0}],
        [START, {"type": "http.response.zerocopysend"}],
        [START, {"type": "http.response.zerocopysend", "file": 0, "offset": -1}],
        [START, {"type": "http.response.zerocopysend", "file": 0, "count": "1"}],
    ],
)
@asynctest
async def test_wrong_message_is_a_local_protocol_error(messages: list[Any]) -> None:
    sender = AsgiResponse(MemoryStream(), Wakeup())
    for message in messages[:-1]:
        await sender.send(message)
    with pytest.raises(LocalProtocolError):
        await sender.send(messages[-1])


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "CHUNK_BYTES", 4)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def path_message(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def file_message(file: Any, **extra: Any) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", "file": file, **extra}


@asynctest
async def test_pathsend_sends_the_whole_file_in_parts(file: Path) -> None:
    stream = await sent(start(length=10), path_message(file))
    assert stream.written[1:] == [
        ("content", b"0123", False),
        ("content", b"4567", False),
        ("content", b"89", True),
    ]
    assert stream.drains == 2


@asynctest
async def test_pathsend_of_an_empty_file_ends_with_the_head(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    stream = await sent(START, path_message(tmp_path / "empty"))
    assert stream.written == [("head", (200, []), True)]


@asynctest
async def test_pathsend_of_a_file_that_has_grown_keeps_the_promised_length(file: Path) -> None:
    stream = await sent(start(length=6), path_message(file))
    assert (stream.body, stream.ended) == (b"012345", True)


@asynctest
async def test_pathsend_of_a_file_that_has_shrunk_is_an_error(file: Path) -> None:
    with pytest.raises(LocalProtocolError, match="before its content-length"):
        await sent(start(length=11), path_message(file))


@asynctest
async def test_pathsend_after_content_sends_the_whole_file(file: Path) -> None:
    assert (await sent(START, MORE, path_message(file))).body == b"ok0123456789"


@asynctest
async def test_pathsend_of_a_missing_file_raises_and_sends_nothing(tmp_path: Path) -> None:
    stream = MemoryStream()
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(START)
    with pytest.raises(FileNotFoundError):
        await sender.send(path_message(tmp_path / "missing"))
    assert stream.written == []


@asynctest
async def test_files_are_not_read_for_head_or_304(tmp_path: Path) -> None:
    missing = path_message(tmp_path / "missing")
    assert (await sent(start(length=10), missing, method=b"HEAD")).body == b""
    assert (await sent(start(status=304), missing)).body == b""
    unread = file_message(1_000_000)
    assert (await sent(start(length=10), unread, method=b"HEAD")).body == b""
    more = {**MORE, "body": b""}
    assert (await sent(START, more, unread, method=b"HEAD")).ended


@asynctest
async def test_zerocopysend_sends_a_stretch_and_content_around_it(file: Path) -> None:
    with file.open("rb") as opened:
        stream = await sent(
            START, MORE, file_message(opened, offset=2, count=5, more_body=True), BODY
        )
        assert opened.tell() == 0
    assert stream.body == b"ok23456ok"
    assert stream.drains == 3


@asynctest
async def test_zerocopysend_goes_on_where_the_file_is(file: Path) -> None:
    with file.open("rb") as opened:
        opened.read(1)
        stream = await sent(
            START, file_message(opened, count=5, more_body=True), file_message(opened)
        )
        assert opened.read() == b""
    assert (stream.body, stream.ended) == (b"123456789", True)


@asynctest
async def test_zerocopysend_takes_a_descriptor(file: Path) -> None:
    with file.open("rb", buffering=0) as opened:
        stream = await sent(START, file_message(opened.fileno(), count=3))
        assert opened.tell() == 3
    assert stream.body == b"012"


@asynctest
async def test_zerocopysend_behind_the_end_sends_nothing(file: Path) -> None:
    with file.open("rb") as opened:
        stream = await sent(START, file_message(opened, offset=100))
    assert stream.written == [("head", (200, []), True)]


@asynctest
async def test_file_that_is_cut_while_it_is_sent_ends_short(file: Path) -> None:
    stream = MemoryStream()
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(START)
    stream.gate.pause()
    sending = asyncio.ensure_future(sender.send(path_message(file)))
    while not stream.drains:
        await asyncio.sleep(0)
    file.write_bytes(b"01234")
    stream.gate.resume()
    await sending
    assert (stream.body, stream.ended) == (b"01234", True)


class TransferringStream(MemoryStream):
    """Takes what is left of a file past this process, by a pair of sockets."""

    takes_transfers = True  # type: ignore[assignment]

    async def send_transfer(self, transfer: Transfer, size: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            while size > 0:
                sent = await transfer(ours.fileno())
                self.written.append(("transfer", theirs.recv(sent, socket.MSG_WAITALL), False))
                size -= sent
                self._content_left = (self._content_left or 0) - sent


@asynctest
async def test_the_kernel_sends_what_is_left_of_a_large_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "large").write_bytes(content)
    stream = TransferringStream(request_head())
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(start(length=len(content)))
    await sender.send(path_message(tmp_path / "large"))
    parts = [value for what, value, _ in stream.written if what in ("content", "transfer")]
    assert b"".join(parts) == content
    assert "transfer" in stream.parts
    assert stream.written[-1] == ("content", b"", True)


@asynctest
async def test_a_small_file_is_not_worth_a_transfer(file: Path) -> None:
    stream = TransferringStream(request_head())
    sender = AsgiResponse(stream, Wakeup())
    await sender.send(START)
    await sender.send(path_message(file))
    assert "transfer" not in stream.parts
