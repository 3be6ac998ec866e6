"""What a response waits for."""

from types import SimpleNamespace

import pytest

from tercel.quic.http3.errors import ErrorCode
from tercel.quic.http3.stream import H3RequestStream
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.errors import StreamAborted
from tercel.shared.settings import Settings
from tests.support.asynchronous import asynctest
from tests.support.memory_stream import request_head


class Protocol:
    """The connection of one stream, on which the peer makes progress as told."""

    def __init__(self, progress):
        self.info = ConnectionInfo()
        self.context = SimpleNamespace(settings=Settings(send_timeout=0.001, max_unsent_bytes=1024))
        self.quic = self
        self.aborted = []
        self._progress = iter(progress)

    def grant(self, stream_id, size): ...

    def backlog(self, stream_id):
        return 5000

    def progress(self, stream_id):
        return next(self._progress)

    def abort_stream(self, stream, error, code):
        self.aborted.append(code)


def paused(progress):
    """A stream with too much to send."""
    protocol = Protocol(progress)
    stream = H3RequestStream(protocol, 0, request_head(), None)
    assert stream.update_gate()
    return protocol, stream


@asynctest
async def test_a_client_that_takes_nothing_for_a_whole_send_timeout_is_given_up():
    protocol, stream = paused([7, 7])
    with pytest.raises(StreamAborted, match="took nothing"):
        await stream.drain()
    assert protocol.aborted == [ErrorCode.REQUEST_CANCELLED]


@asynctest
async def test_a_client_that_takes_a_little_is_waited_for():
    """One large write may take longer than `send_timeout`."""
    protocol, stream = paused([0, 1, 1, 2, 2, 3, 3, 3])
    with pytest.raises(StreamAborted):
        await stream.drain()
    assert list(protocol._progress) == []


@asynctest
async def test_nobody_waits_while_there_is_room():
    _, stream = paused([])
    stream._gate.resume()
    await stream.drain()
