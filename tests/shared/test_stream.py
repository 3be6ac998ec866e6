"""The rules of a response that hold for every HTTP version."""

from typing import Any

import pytest

from tercel.shared.errors import ConnectionClosed, LocalProtocolError, ServerError, StreamAborted
from tercel.shared.messages import ResponseHead
from tercel.shared.stream import RequestHandler, RequestStream, SendState
from tests.support.memory_stream import MemoryStream, request_head


class Recorder(RequestHandler):
    """Remembers what the handler was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def content_received(self) -> None:
        self.events.append("content")

    def message_complete(self) -> None:
        self.events.append("complete")

    def aborted(self, error: ServerError) -> None:
        self.events.append(("aborted", error))

    def response_aborted(self, error: ServerError) -> None:
        self.events.append(("response aborted", error))


def head(status: int = 200, *, length: bytes | None = None) -> ResponseHead:
    fields = [(b"x-a", b"1")]
    return ResponseHead(status, fields if length is None else [(b"content-length", length)])


# -- order -----------------------------------------------------------------------------------------


def test_response_is_head_content_trailers() -> None:
    stream = MemoryStream()
    stream.send_informational(103, [(b"link", b"</a>")])
    stream.send_head(head())
    stream.send_content(b"a")
    stream.send_content(b"bc")
    stream.send_trailers([(b"x-sum", b"1")])
    assert stream.parts == ["informational", "head", "content", "content", "trailers"]
    assert stream.send_state is SendState.ENDED
    assert (stream.content_sent, stream.status) == (3, 200)


@pytest.mark.parametrize("end", ["head", "content", "trailers"])
def test_nothing_may_be_sent_after_the_end(end: str) -> None:
    stream = MemoryStream()
    stream.send_head(head(), end_stream=end == "head")
    if end == "content":
        stream.send_content(b"", end_stream=True)
    if end == "trailers":
        stream.send_trailers([])
    written = list(stream.written)
    for send in (
        lambda: stream.send_informational(103, []),
        lambda: stream.send_head(head()),
        lambda: stream.send_content(b"a"),
        lambda: stream.send_trailers([]),
    ):
        with pytest.raises(LocalProtocolError):
            send()
    assert stream.written == written


def test_content_and_trailers_need_a_head() -> None:
    stream = MemoryStream()
    with pytest.raises(LocalProtocolError, match="HEAD"):
        stream.send_content(b"a")
    with pytest.raises(LocalProtocolError, match="HEAD"):
        stream.send_trailers([])
    assert stream.written == []


@pytest.mark.parametrize("status", [99, 101, 200])
def test_interim_response_needs_an_interim_status(status: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(status)):
        MemoryStream().send_informational(status, [])


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_final_response_needs_a_final_status(status: int) -> None:
    stream = MemoryStream()
    with pytest.raises(LocalProtocolError, match=str(status)):
        stream.send_head(head(status))
    assert (stream.written, stream.send_state) == ([], SendState.HEAD)


def test_empty_content_is_not_written_unless_it_ends_the_response() -> None:
    stream = MemoryStream()
    stream.send_head(head())
    stream.send_content(b"")
    assert stream.parts == ["head"]
    stream.send_content(b"", end_stream=True)
    assert stream.written[1:] == [("content", b"", True)]


# -- content that must not be sent -----------------------------------------------------------------


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_content_is_left_out_where_there_may_be_none(method: bytes, status: int) -> None:
    stream = MemoryStream(request_head(method=method))
    stream.send_head(head(status, length=b"5"))
    stream.send_content(b"abc")
    stream.send_content(b"defg", end_stream=True)
    assert stream.written[1:] == [("content", b"", True)]
    assert stream.content_sent == 0


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_head_alone_may_tell_a_length(method: bytes, status: int) -> None:
    stream = MemoryStream(request_head(method=method))
    stream.send_head(head(status, length=b"5"), end_stream=True)
    assert stream.ended


def test_response_without_content_has_no_trailers() -> None:
    stream = MemoryStream(request_head(method=b"HEAD"))
    stream.send_head(head())
    stream.send_trailers([(b"x-sum", b"1")])
    assert stream.written[1:] == [("content", b"", True)]


# -- the length that was promised ------------------------------------------------------------------


def test_promised_length_may_come_in_parts() -> None:
    stream = MemoryStream()
    stream.send_head(head(length=b"5"))
    stream.send_content(b"ab")
    stream.send_content(b"cde", end_stream=True)
    assert stream.body == b"abcde"


def test_more_content_than_promised_is_refused_and_not_written() -> None:
    stream = MemoryStream()
    stream.send_head(head(length=b"3"))
    stream.send_content(b"ab")
    with pytest.raises(LocalProtocolError, match="more content"):
        stream.send_content(b"cd")
    assert stream.body == b"ab"


def test_less_content_than_promised_is_refused() -> None:
    stream = MemoryStream()
    with pytest.raises(LocalProtocolError, match="3 bytes before"):
        stream.send_head(head(length=b"3"), end_stream=True)
    assert stream.send_state is SendState.HEAD
    stream.send_head(head(length=b"3"))
    with pytest.raises(LocalProtocolError, match="1 bytes before"):
        stream.send_content(b"ab", end_stream=True)
    with pytest.raises(LocalProtocolError, match="1 bytes before"):
        stream.send_trailers([])
    assert stream.send_state is SendState.CONTENT


@pytest.mark.parametrize("length", [b"", b"+1", b"1, 1", b"x"])
def test_promised_length_must_be_a_number(length: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="is not a number"):
        MemoryStream().send_head(head(length=length))


def test_promised_length_may_stand_there_once() -> None:
    twice = ResponseHead(200, [(b"content-length", b"1"), (b"content-length", b"1")])
    with pytest.raises(LocalProtocolError, match="more than one"):
        MemoryStream().send_head(twice)


def test_refused_head_leaves_room_for_another() -> None:
    stream = MemoryStream()
    with pytest.raises(LocalProtocolError):
        stream.send_head(head(length=b"x"))
    stream.send_head(head(500))
    stream.send_content(b"any length", end_stream=True)
    assert (stream.status, stream.ended) == (500, True)


# -- the connection's side -------------------------------------------------------------------------


def test_handler_hears_of_content_and_of_the_end() -> None:
    stream = MemoryStream()
    stream.handler = handler = Recorder()
    stream.receive_content(b"a")
    stream.receive_end([(b"x-sum", b"1")])
    assert handler.events == ["content", "complete"]
    assert stream.content.trailers == [(b"x-sum", b"1")]
    assert stream.content.take() == b"a"


def test_content_may_come_before_there_is_a_handler() -> None:
    stream = MemoryStream()
    stream.receive_content(b"a")
    stream.receive_end([])
    assert (stream.content.size, stream.content.ended) == (1, True)
    aborted = MemoryStream()
    aborted.receive_abort(ConnectionClosed("gone"))
    assert aborted.aborted is not None


@pytest.mark.parametrize(("ended", "what"), [(False, "aborted"), (True, "response aborted")])
def test_handler_hears_once_which_side_was_given_up(ended: bool, what: str) -> None:
    stream = MemoryStream()
    stream.handler = handler = Recorder()
    if ended:
        stream.receive_end([])
    error = ConnectionClosed("gone")
    stream.receive_abort(error)
    stream.receive_abort(ConnectionClosed("again"))
    assert handler.events[int(ended) :] == [(what, error)]
    assert stream.aborted is error


def test_unread_content_is_dropped_when_the_peer_gives_up() -> None:
    stream = MemoryStream()
    stream.receive_content(b"abc")
    stream.receive_abort(ConnectionClosed("gone"))
    assert (stream.content.size, stream.consumed) == (0, 3)


def test_every_send_raises_stream_aborted_when_the_peer_has_gone() -> None:
    waiting, begun = MemoryStream(), MemoryStream()
    begun.send_head(head())
    error = ConnectionClosed("connection lost")
    waiting.receive_abort(error)
    begun.receive_abort(error)
    for send in (
        lambda: waiting.send_informational(103, []),
        lambda: waiting.send_head(head()),
        lambda: begun.send_content(b"a"),
        lambda: begun.send_trailers([]),
    ):
        with pytest.raises(StreamAborted, match="connection lost") as caught:
            send()
        assert caught.value.__cause__ is error


def test_wanting_content_does_nothing_by_default() -> None:
    stream = MemoryStream()
    RequestStream.want_content(stream)
    assert stream.written == []
