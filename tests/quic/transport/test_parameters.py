"""Transport parameters are written and read as aioquic does it, and refused as it does."""

import random

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.packet import (
    PARAMS,
    QuicErrorCode,
    QuicFrameType,
    QuicProtocolVersion,
    pull_quic_transport_parameters,
)

from tercel.quic.transport import parameters
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.varint import encode_varint
from tercel.shared.settings import Settings
from tests.quic.pair import server_configuration
from tests.quic.twin import attributes
from tests.support.h3_client import client_configuration

V1 = QuicProtocolVersion.VERSION_1
CID = b"12345678"


def server(*, fast, retry=None, options=None, **settings):
    """A connection that has received an Initial."""
    settings = Settings(quic_fast_path=fast, **settings)
    connection = QuicServerConnection(
        configuration=server_configuration(settings, **options or {}),
        settings=settings,
        original_destination_connection_id=b"original",
        retry_source_connection_id=retry,
    )
    connection._version = connection._crypto_packet_version = V1
    connection._remote_initial_source_connection_id = CID
    connection._host_cids[0].cid = connection._local_initial_source_connection_id = b"a server"
    connection._host_cids[0].stateless_reset_token = bytes(range(16))
    return connection


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"retry": b"retried"},
        {"options": {"max_datagram_frame_size": 65_536, "idle_timeout": 1.5}},
        {"stream_window_bytes": 20_000, "connection_window_bytes": 90_000},
        {"max_concurrent_streams": 7},
        {"options": {"quantum_readiness_test": True}},
    ],
)
def test_what_is_said_is_what_aioquic_says(case):
    theirs, mine = (
        server(fast=fast, **case)._serialize_transport_parameters() for fast in (False, True)
    )
    assert mine == theirs
    assert pull_quic_transport_parameters(Buffer(data=mine)).initial_source_connection_id


def said(**changes):
    """What aioquic's client says."""
    options = {"max_datagram_frame_size": 65_536} | changes
    client = QuicConnection(configuration=client_configuration(**options))
    client._version = V1
    client._local_initial_source_connection_id = CID
    return client._serialize_transport_parameters()


def heard(data, *, fast):
    """What a server knows then, or why it closes."""
    connection = server(fast=fast)
    try:
        connection._parse_transport_parameters(data)
    except QuicConnectionError as error:
        return error.error_code, error.frame_type, error.reason_phrase
    known = {name: value for name, value in attributes(connection).items() if "_remote" in name}
    most = connection._most_datagram_bytes
    return known | {"max_ack_delay": connection._loss.max_ack_delay, "most": most}


def parameter(name, content):
    return encode_varint(name) + encode_varint(len(content)) + content


def without_aioquic(monkeypatch):
    def refused(*_):
        raise AssertionError("left to aioquic")

    monkeypatch.setattr(parameters.InitialConnection, "_parse_transport_parameters", refused)


@pytest.mark.parametrize(
    "more",
    [b"", parameter(0x0C, b""), parameter(0x1F * 7 + 27, b"grease"), parameter(0x03, b"\x45\xac")],
    ids=["nothing", "migration", "unknown", "size"],
)
def test_what_clients_say_is_read_without_aioquic(monkeypatch, more):
    data = said() + more
    theirs = heard(data, fast=False)
    without_aioquic(monkeypatch)
    assert heard(data, fast=True) == theirs
    assert theirs["_remote_version_information"].chosen_version == V1


def test_whatever_byte_is_wrong_is_told_as_by_aioquic():
    source = random.Random("parameters")
    data = said()
    for position in range(len(data)):
        for value in (0, 0xFF, data[position] ^ 1, source.randrange(256)):
            changed = data[:position] + bytes((value,)) + data[position + 1 :]
            assert heard(changed, fast=True) == heard(changed, fast=False), (position, value)
        assert heard(data[:position], fast=True) == heard(data[:position], fast=False), position


@pytest.mark.parametrize("cid", [b"", CID, b"\x0f" * 15, b"\x01" * 20], ids=bytes.hex)
def test_clients_that_say_the_same_are_understood_each_time(cid):
    own = parameter(0x0F, cid)
    limit = parameter(0x04, b"\x80\0\x40\0")
    cases = [
        own + limit,
        limit + own,
        limit + own + parameter(0x1B, own),
        parameter(0x1B, own) + limit,
        parameter(0x1B, own) + limit + own,
        parameter(0x1B, own + b"x") + own,
        own + own,
        limit + own + limit,
        limit + own[:-1],
        parameter(0x1B, b"x" * 600) + own,
        own + parameter(0x11, b""),
    ]
    for data in cases * 2:
        known, read = parameters._parameters(data, cid), parameters._read(data)
        assert known == read, data
        assert heard(data, fast=True) == heard(data, fast=False), data


@pytest.mark.parametrize("name", [*PARAMS, 0x3FFF], ids=hex)
@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\x01", b"\x15", b"\x44\xaf", b"\x80\0\x40\0", b"\xd0" + bytes(7), b"\xff" * 8],
    ids=bytes.hex,
)
def test_whatever_is_said_of_a_parameter_is_understood_as_by_aioquic(name, content):
    for data in (said() + parameter(name, content), parameter(name, content) + said()):
        assert heard(data, fast=True) == heard(data, fast=False)
    alone = parameter(0x0F, CID) + (parameter(name, content) if name != 0x0F else b"")
    assert heard(alone, fast=True) == heard(alone, fast=False)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", [0x01, 0x0F, 0x3FFF], ids=hex)
def test_a_parameter_twice_is_an_error(name, fast):
    """RFC 9000 7.4; aioquic takes the last one."""
    content = CID if name == 0x0F else b"\0"
    data = said() + parameter(name, content) + parameter(name, content)
    code, frame_type, _ = heard(data, fast=fast)
    assert (code, frame_type) == (QuicErrorCode.TRANSPORT_PARAMETER_ERROR, QuicFrameType.CRYPTO)


def test_canary_aioquic_knows_the_parameters_that_are_known_here():
    numbers = {name for name, (_, kind) in PARAMS.items() if kind is int}
    assert numbers == set(parameters._NUMBERS)
    others = {
        parameters._INITIAL_SOURCE_CID,
        parameters._VERSION_INFORMATION,
        parameters._DISABLE_ACTIVE_MIGRATION,
    }
    assert set(PARAMS) - numbers - others == parameters._FOR_AIOQUIC
