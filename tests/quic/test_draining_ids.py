"""Connections that were closed by their clients are silent, and gone."""

import os

import pytest

from tercel.quic import draining_ids
from tercel.quic.draining_ids import DrainingConnectionIds
from tests.quic.served import hello, serving
from tests.quic.test_endpoint import RawClient, initial
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client


def test_identifiers_are_known_until_their_time_has_come():
    ids = DrainingConnectionIds()
    ids.add([b"a", b"b"], 10.0, 1.0)
    ids.add([b"c"], 12.0, 9.0)
    assert all(cid in ids for cid in (b"a", b"b", b"c"))
    assert b"d" not in ids
    ids.add([b"e"], 13.0, 10.0)
    assert [cid in ids for cid in (b"a", b"b", b"c", b"e")] == [False, False, True, True]


def test_the_oldest_identifiers_give_way(monkeypatch):
    monkeypatch.setattr(draining_ids, "_MOST_IDS", 3)
    ids = DrainingConnectionIds()
    for cid in (b"a", b"b", b"c", b"d", b"e"):
        ids.add([cid], 10.0, 1.0)
    assert [cid in ids for cid in (b"a", b"b", b"c", b"d", b"e")] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.usefixtures("either_path")
@asynctest
async def test_what_comes_late_for_a_closed_connection_gets_no_answer_and_opens_none():
    async with serving(hello) as server:
        async with H3Client(server.port) as client:
            assert (await client.request()).status == 200
            await client.settled()
            ids = [client.quic._peer_cid, *client.quic._peer_cid_available]
            first = client.quic.original_destination_connection_id
        await server.until(lambda: not server.connections)
        unknown = []
        receive_unknown = server.endpoint._receive_unknown
        server.endpoint._receive_unknown = lambda datagram: (
            unknown.append(datagram[0][6:14]),
            receive_unknown(datagram),
        )
        with RawClient(server.port) as raw:
            for connection_id in ids:
                raw.send(b"\x41" + connection_id.cid + os.urandom(40))
            raw.send(initial(destination=first))
            assert await raw.answers() == []
            raw.send(b"\x41" + os.urandom(48))
            assert len(await raw.answers()) == 1  # that is how a stranger is answered
        assert set(unknown) == {b"probe-it"}
