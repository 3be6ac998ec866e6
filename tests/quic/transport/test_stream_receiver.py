"""Stream data put in order."""

import pytest
from aioquic.quic.packet import QuicStreamFrame

from tercel.quic.transport.abuse_limits import Budgets
from tercel.quic.transport.stream_receiver import Receiver
from tests.quic.served import echo, serving
from tests.support.asynchronous import asynctest
from tests.support.h3_client import DATA, H3Client, frame, headers


@pytest.mark.parametrize("pieces", [[(0, 18)], [(0, 9), (9, 9)], [(9, 9), (0, 9)]])
def test_the_end_of_a_stream_may_come_before_its_data(pieces):
    receiver = Receiver(0, Budgets())
    end = QuicStreamFrame(data=b"", offset=18, fin=True)
    assert receiver.handle_frame(end) is None
    content = b"0123456789abcdefgh"
    events = [
        receiver.handle_frame(QuicStreamFrame(data=content[at : at + size], offset=at))
        for at, size in pieces
    ]
    assert events[-1].end_stream
    assert b"".join(event.data for event in events if event is not None) == content
    assert receiver.is_finished


@pytest.mark.parametrize("fast_path", [True, False])
@asynctest
async def test_a_request_whose_end_comes_before_its_data_is_served(fast_path):
    async with serving(echo, quic_fast_path=fast_path) as server, H3Client(server.port) as client:
        await client.settled()
        first = []

        def hold(datagrams):
            first.extend(datagrams)
            return []

        client.departing = hold
        stream = client.send(client.open(), headers(b"POST") + frame(DATA, b"abc"))
        client.departing = lambda datagrams: [*datagrams, *first]
        client.send(stream, end=True)
        client.departing = None
        await client.until(lambda: stream.done)
        assert (stream.status, bytes(stream.content)) == (200, b"abc")
