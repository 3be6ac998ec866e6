"""Stream data put in order."""

import pytest
from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.stream import FinalSizeError

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


@pytest.mark.parametrize(
    ("offset", "data", "fin"),
    [(15, b"abcdef", False), (0, b"abc", True), (18, b"abc", True), (6, b"", True)],
    ids=["data beyond it", "a smaller one", "a larger one", "an empty frame with a smaller one"],
)
def test_a_final_size_is_final(offset, data, fin):
    receiver = Receiver(0, Budgets())
    receiver.handle_frame(QuicStreamFrame(data=b"", offset=18, fin=True))
    with pytest.raises(FinalSizeError):  # RFC 9000 4.5
        receiver.handle_frame(QuicStreamFrame(data=data, offset=offset, fin=fin))


def test_a_final_size_below_what_was_received_is_an_error():
    receiver = Receiver(0, Budgets())
    receiver.handle_frame(QuicStreamFrame(data=b"abc", offset=15))
    with pytest.raises(FinalSizeError):
        receiver.handle_frame(QuicStreamFrame(data=b"", offset=10, fin=True))


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
