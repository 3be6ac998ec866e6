"""A connection begins in the state that aioquic's own begins in."""

from collections import deque
from enum import Enum

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicLogger

from tercel.quic.transport.initial_state import MADE_FOR_EACH, InitialConnection, frame_handlers
from tercel.shared.settings import Settings
from tests.quic.pair import Pair, server_configuration
from tests.quic.twin import attributes

CID = b"12345678"
CONTAINERS = (list, dict, set, deque)
FRAME_HANDLERS = "_QuicConnection__frame_handlers"
RANDOM = {"host_cid", "_local_initial_source_connection_id", "_peer_cid", "_host_cids"}


def begun(kind, **options):
    configuration = server_configuration(
        Settings(congestion_control="reno", stream_window_bytes=70_000),
        initial_rtt=0.3,
        max_datagram_size=1300,
        **options,
    )
    return kind(
        configuration=configuration,
        original_destination_connection_id=CID,
        retry_source_connection_id=b"retry",
        session_ticket_fetcher=begun,
    )


@pytest.mark.parametrize("logged", [False, True])
def test_a_connection_begins_as_aioquic_s(logged):
    log = QuicLogger() if logged else None
    theirs, mine = (begun(kind, quic_logger=log) for kind in (QuicConnection, InitialConnection))
    assert set(attributes(theirs)) - set(attributes(mine)) == {FRAME_HANDLERS}
    assert set(attributes(mine)) < set(attributes(theirs))
    for name in set(attributes(mine)) - RANDOM - {"_configuration", "_logger", "_loss"}:
        mine_known, known = getattr(mine, name), getattr(theirs, name)
        assert type(mine_known) is type(known), name
        if name.startswith("_local_max") and not isinstance(known, int):
            assert vars(mine_known) == vars(known), name
        elif name != "_quic_logger":
            assert mine_known == known, name
    assert mine._logger.extra == theirs._logger.extra
    assert bool(mine._quic_logger) is logged


def test_its_identifiers_are_its_own_and_like_aioquic_s():
    theirs, mine, other = (
        begun(kind) for kind in (QuicConnection, InitialConnection, InitialConnection)
    )
    for one, known in ((mine, theirs), (other, theirs)):
        (cid,), (expected,) = one._host_cids, known._host_cids
        assert one.host_cid == one._local_initial_source_connection_id == cid.cid
        assert len(cid.cid) == len(expected.cid)
        assert len(cid.stateless_reset_token) == len(expected.stateless_reset_token)
        assert (cid.sequence_number, cid.was_sent) == (expected.sequence_number, expected.was_sent)
        assert one._peer_cid.sequence_number is known._peer_cid.sequence_number is None
    assert mine.host_cid != other.host_cid
    assert mine._host_cids[0].stateless_reset_token != other._host_cids[0].stateless_reset_token


def test_recovery_begins_as_aioquic_s():
    theirs, mine = begun(QuicConnection)._loss, begun(InitialConnection)._loss
    for name, known in vars(theirs).items():
        if isinstance(known, (int, float, bool)) or known is None:
            assert getattr(mine, name) == known, name
        else:
            assert type(getattr(mine, name)) is type(known), name
    assert theirs._pacer._max_datagram_size == mine._pacer._max_datagram_size
    assert theirs._cc._max_datagram_size == mine._cc._max_datagram_size


def test_no_two_connections_share_what_can_change():
    one, other = begun(InitialConnection), begun(InitialConnection)
    for name, value in attributes(one).items():
        if name != "_configuration" and not isinstance(value, (int, float, bytes, str, Enum)):
            assert value is None or value is begun or value is not getattr(other, name), name


def test_canary_aioquic_s_connections_have_nothing_of_another_kind():
    connection = QuicConnection(
        configuration=server_configuration(Settings()), original_destination_connection_id=CID
    )
    others = {
        name
        for name, value in vars(connection).items()
        if not (value is None or isinstance(value, (int, float, bytes, str, Enum)))
        and not (type(value) in CONTAINERS and not value)
    }
    assert others == MADE_FOR_EACH


def test_handlers_of_frames_are_those_of_the_class():
    class Other(InitialConnection):
        def _handle_ping_frame(self, context, frame_type, buf):
            raise NotImplementedError

    theirs = getattr(begun(QuicConnection), FRAME_HANDLERS)
    mine, others = frame_handlers(InitialConnection), frame_handlers(Other)
    assert {kind: (bound.__func__, where) for kind, (bound, where) in theirs.items()} == mine
    assert {kind for kind in mine if mine[kind] != others[kind]} == {0x01}
    assert others[0x01][0] is Other._handle_ping_frame


@pytest.mark.parametrize("fast_path", [False, True])
def test_canary_every_attribute_is_a_slot_of_the_class_that_adds_it(fast_path):
    pair = Pair(quic_fast_path=fast_path)
    pair.client.send_stream_data(0, b"x", True)
    pair.run(0.1)
    pair.server.send_stream_data(0, bytes(30_000), True)
    pair.run(0.1)
    pair.client.change_connection_id()
    pair.server.request_key_update()
    pair.run(0.1)
    pair.client.close()
    pair.run(60.0)
    assert vars(pair.server) == {}
