"""Who becomes a connection and who gets an answer, on real loopback sockets."""

import asyncio
import json
import logging
import socket
import stat

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header

from tercel.quic.qlog import QlogDirectory
from tercel.quic.udp import Path
from tests.quic.served import echo, serving
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest, on_both_loops
from tests.support.h3_client import ClientConnection, H3Client, client_configuration

pytestmark = pytest.mark.usefixtures("either_path")

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
UNKNOWN_VERSION = 0x1A2A3A4A


class RawClient:
    """A UDP socket that sends what it is told and waits for what comes back."""

    def __init__(self, port, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.server = (host, port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendto(data, self.server)

    async def receive(self):
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        loop.add_reader(self.sock.fileno(), lambda: arrived.done() or arrived.set_result(None))
        try:
            await asyncio.wait_for(arrived, PATIENCE_SECONDS)
        finally:
            loop.remove_reader(self.sock.fileno())
        return self.sock.recv(65_535)

    async def answers(self):
        """What the server has to say to all that was sent.

        It certainly answers a probe, and datagrams keep their order on loopback. The second probe
        comes in a later turn of the loop, so that flushes of the first one's turn are over.
        """
        answers = []
        for _ in range(2):
            self.send(long_header(UNKNOWN_VERSION, destination=b"probe-it", source=b"PROBE"))
            while (data := await self.receive())[6:11] != b"PROBE":
                answers.append(data)
        return answers


def long_header(version, *, destination=b"12345678", source=b"abcd", size=1200, first=0xC0):
    """The invariant part of a long header (RFC 8999 5.1), and zeros."""
    data = (
        bytes([first])
        + version.to_bytes(4, "big")
        + bytes([len(destination)])
        + destination
        + bytes([len(source)])
        + source
    )
    return data.ljust(size, b"\0")


def initial(version=V1, *, destination=b"12345678", source=b"abcd", token=b""):
    """A well-formed Initial whose payload cannot be decrypted."""
    kind = 0xD0 if version == V2 else 0xC0
    head = long_header(version, destination=destination, source=source, size=0, first=kind)
    head += bytes([len(token)]) + token
    rest = 1200 - len(head) - 2
    return head + (0x4000 | rest).to_bytes(2, "big") + b"\x55" * rest


def first_flight(port, **options):
    """A client and its first datagrams, unsent."""
    quic = ClientConnection(configuration=client_configuration(**options))
    now = asyncio.get_running_loop().time()
    quic.connect(("127.0.0.1", port), now)
    return quic, [data for data, _ in quic.datagrams_to_send(now)]


def next_flight(quic, port, *datagrams):
    """What a client sends after it has received `datagrams`."""
    now = asyncio.get_running_loop().time()
    for data in datagrams:
        quic.receive_datagram(data, ("127.0.0.1", port), now)
    return [data for data, _ in quic.datagrams_to_send(now)]


# -- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, V2])
@on_both_loops
async def test_both_versions_of_quic_are_served(version):
    async with (
        serving() as server,
        H3Client(server.port, supported_versions=[version], original_version=version) as client,
    ):
        assert (await client.request()).status == 200
        assert server.connections[0].quic.version == version


@asynctest
async def test_a_client_that_prefers_version_2_gets_it():
    async with (
        serving() as server,
        H3Client(server.port, supported_versions=[V2, V1], original_version=V1) as client,
    ):
        assert (await client.request()).status == 200
        assert server.connections[0].quic.version == V2


@pytest.mark.parametrize(
    ("destination", "source", "first"),
    [
        (b"12345678", b"abcd", 0xC0),
        (b"", b"", 0xC0),
        (b"12345678", b"abcd", 0x80),  # without the fixed bit, which other versions need not have
        (b"d" * 21, b"s" * 255, 0xFF),  # longer than version 1 allows (RFC 8999 5.3)
        (b"d" * 255, b"s" * 255, 0xC0),
    ],
)
@asynctest
async def test_an_unknown_version_is_answered_with_those_served(destination, source, first):
    async with serving() as server:
        with RawClient(server.port) as raw:
            raw.send(
                long_header(UNKNOWN_VERSION, destination=destination, source=source, first=first)
            )
            answer = await raw.receive()
        assert answer[0] & 0x80
        expected = (
            bytes(4) + bytes([len(source)]) + source + bytes([len(destination)]) + destination
        )
        assert answer[1 : 1 + len(expected)] == expected
        versions = answer[1 + len(expected) :]
        assert versions == V1.to_bytes(4, "big") + V2.to_bytes(4, "big")
        assert server.connections == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x40" * 7,
        b"\x00" * 1200,
        long_header(0),
        long_header(0, first=0x80),
        long_header(0, destination=b"d" * 255),
        long_header(UNKNOWN_VERSION, size=1199),
        long_header(UNKNOWN_VERSION, size=1199, first=0x80),
        long_header(UNKNOWN_VERSION, size=0),
        long_header(V1, first=0x80),
        long_header(V1, destination=b"d" * 21),
        long_header(V1, first=0xE0),  # Handshake
        long_header(V1, first=0xD0),  # 0-RTT
        initial()[:1199],
        initial(),
        initial(V2),
        initial(destination=b"1234567"),
        initial(destination=b""),
    ],
    ids=lambda data: f"{len(data)}-{data[:12].hex()}",
)
@asynctest
async def test_what_opens_no_connection_gets_no_answer(data):
    async with serving() as server:
        with RawClient(server.port) as raw:
            raw.send(data)
            assert await raw.answers() == []
        assert server.connections == []


@asynctest
async def test_a_client_must_make_up_a_connection_id_of_eight_bytes():
    async with serving() as server:
        with RawClient(server.port) as raw:
            quic = ClientConnection(configuration=client_configuration())
            quic._peer_cid.cid = b"1234567"
            now = asyncio.get_running_loop().time()
            quic.connect(("127.0.0.1", server.port), now)
            for data, _ in quic.datagrams_to_send(now):
                raw.send(data)
            assert await raw.answers() == []
        assert server.connections == []


@asynctest
async def test_a_client_that_does_not_speak_h3_is_turned_away_by_tls():
    async with serving() as server:
        for alpn in (["hq-interop"], None):
            async with H3Client(server.port, alpn_protocols=alpn) as client:
                assert await client.close_reason() == 0x178  # RFC 9001 8.1
        assert server.exchanges == []


# -- Retry --------------------------------------------------------------------------------------


@on_both_loops
async def test_with_retry_a_client_has_to_show_its_address():
    async with serving(retry="always") as server, H3Client(server.port) as client:
        assert client.quic._retry_count == 1
        assert (await client.request()).status == 200


@asynctest
async def test_nothing_is_kept_before_the_address_is_shown():
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            _, (first, *_) = first_flight(server.port)
            raw.send(first)
            header = pull_quic_header(Buffer(data=await raw.receive()), 8)
            assert header.packet_type is QuicPacketType.RETRY
            assert await raw.answers() == []
        assert server.connections == []


async def retried(server, raw):
    """A client's first flight after its Retry."""
    quic, (first, *_) = first_flight(server.port)
    raw.send(first)
    return quic, next_flight(quic, server.port, await raw.receive())


@asynctest
async def test_the_token_of_a_retry_opens_a_connection():
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            _, (second, *_) = await retried(server, raw)
            raw.send(second)
            header = pull_quic_header(Buffer(data=await raw.receive()), 8)
            assert header.packet_type is QuicPacketType.INITIAL
        assert len(server.connections) == 1


@asynctest
async def test_a_made_up_retry_token_opens_no_connection():
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            raw.send(initial(token=b"\x01made up"))
            assert len(await raw.answers()) == 1
        assert server.connections == []


@asynctest
async def test_a_token_that_is_not_ours_is_as_none():
    async with serving(retry="always") as server:
        with RawClient(server.port) as raw:
            for token in (b"made up", b"\x02made up"):
                raw.send(initial(token=token))
                header = pull_quic_header(Buffer(data=await raw.receive()), 8)
                assert header.packet_type is QuicPacketType.RETRY
        assert server.connections == []


# -- half-open connections ----------------------------------------------------------------------


@asynctest
async def test_a_handshake_that_does_not_complete_in_time_is_forgotten():
    async with serving(handshake_timeout=0.05) as server:
        with RawClient(server.port) as raw:
            _, (first, *_) = first_flight(server.port)
            raw.send(first)
            await server.until(lambda: len(server.connections) == 1)
            assert len(server.endpoint._half_open) == 1
            await server.until(lambda: server.connections == [])
        assert server.endpoint._half_open == {}
        assert server.endpoint._by_cid == {}


@asynctest
async def test_a_completed_handshake_is_not_timed():
    async with serving() as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        (connection,) = server.connections
        connection._handshake_deadline = 0.0
        connection._timer_fired()
        assert (await client.request()).status == 200


@asynctest
async def test_half_open_connections_are_limited(caplog):
    caplog.set_level(logging.WARNING, "tercel.limits")
    async with serving(max_half_open_connections=1) as server:
        with RawClient(server.port) as raw, RawClient(server.port) as other:
            quic, (first, *_) = first_flight(server.port)
            raw.send(first)
            answers = await raw.answers()
            for _ in range(3):
                other.send(first_flight(server.port)[1][0])
            assert await other.answers() == []
            assert len(server.connections) == 1
            # One handshake completes, and there is room again.
            for data in next_flight(quic, server.port, *answers):
                raw.send(data)
            await server.until(lambda: server.endpoint._half_open == {})
            async with H3Client(server.port) as client:
                assert (await client.request()).status == 200
        assert server.endpoint.context.limits.met["max_half_open_connections"] == 3
    (refusal,) = caplog.records  # a flood is worth one line
    assert refusal.getMessage().startswith("limit met: max_half_open_connections (1 times")


@asynctest
async def test_a_forged_initial_leaves_nothing_behind():
    async with serving() as server:
        with RawClient(server.port) as raw:
            raw.send(initial())
            assert await raw.answers() == []
        assert (server.connections, server.endpoint._by_cid) == ([], {})


# -- routing ------------------------------------------------------------------------------------


@on_both_loops
async def test_a_connection_id_can_be_used_as_soon_as_it_was_issued():
    async with serving() as server:
        with RawClient(server.port) as client:
            quic, flight = first_flight(server.port)
            while not quic._handshake_confirmed:
                for data in flight:
                    client.send(data)
                flight = next_flight(quic, server.port, await client.receive())
            issued = [item.cid for item in quic._peer_cid_available]
        assert issued
        assert set(issued) <= server.endpoint._by_cid.keys()


@on_both_loops
async def test_two_connections_from_one_address_are_told_apart():
    async with (
        serving(echo) as server,
        H3Client(server.port) as first,
        H3Client(server.port, share=first) as second,
    ):
        assert first.local_address == second.local_address
        one = first.begin("POST", "/1", content=b"one")
        two = second.begin("POST", "/2", content=b"two")
        await first.until(lambda: one.done)
        await second.until(lambda: two.done)
        assert (bytes(one.content), bytes(two.content)) == (b"one", b"two")
        assert len(server.connections) == 2


@asynctest
async def test_a_client_may_change_its_connection_id_and_retire_the_old_one():
    async with serving() as server, H3Client(server.port) as client:
        (connection,) = server.connections
        await client.request()
        for _ in range(10):
            before = set(server.endpoint._connections[connection])
            client.quic.change_connection_id()
            assert (await client.request()).status == 200
            await client.settled()
            after = server.endpoint._connections[connection]
            assert before - after, "a retired connection ID is still routed"
            assert after - before, "no new connection ID is routed"
            assert {cid for cid, to in server.endpoint._by_cid.items() if to is connection} == after


@asynctest
async def test_a_closed_connection_is_forgotten():
    async with serving() as server:
        async with H3Client(server.port) as client:
            await client.request()
            assert len(server.endpoint._by_cid) > 1
        await server.until(lambda: server.connections == [])
        assert server.endpoint._by_cid == {}


@on_both_loops
async def test_a_server_on_every_address_answers_from_the_one_that_was_asked():
    async with serving(host="0.0.0.0") as server:
        for host in ("127.0.0.1", "127.0.0.2"):
            async with H3Client(server.port, host=host) as client:
                assert (await client.request()).status == 200


@asynctest
async def test_removing_an_unknown_connection_id_does_nothing():
    async with serving() as server:
        server.endpoint.remove_connection_id(b"unknown!")


@asynctest
async def test_datagrams_for_several_paths_go_where_each_belongs():
    async with serving() as server:
        (sock,) = server.endpoint._sockets
        with RawClient(server.port) as first, RawClient(server.port) as second:
            to_first, to_second = (
                Path(raw.sock.getsockname(), None, sock) for raw in (first, second)
            )
            server.endpoint.send([(b"a", to_first), (b"b", to_second), (b"c", to_first)])
            assert [await first.receive(), await first.receive()] == [b"a", b"c"]
            assert await second.receive() == b"b"


@asynctest
async def test_a_connection_is_given_up_once():
    async with serving() as server, H3Client(server.port) as client:
        await client.request()
        (connection,) = server.connections
        connection.abandon()
        connection.abandon()
        assert server.connections == []


# -- the listener -------------------------------------------------------------------------------


@asynctest
async def test_an_endpoint_tells_its_addresses_until_it_is_closed():
    async with serving() as server:
        assert server.endpoint.addresses == [f"127.0.0.1:{server.port}"]
        assert server.endpoint.is_serving()
    assert server.endpoint.addresses == []
    assert not server.endpoint.is_serving()


@asynctest
async def test_draining_ends_at_once_when_nothing_runs():
    async with serving() as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        await client.settled()
        server.endpoint.stop_accepting()
        assert await server.endpoint.drain(PATIENCE_SECONDS)


@asynctest
async def test_draining_gives_up_in_time():
    async with serving(echo) as server, H3Client(server.port) as client:
        client.begin("POST", content=b"x", end=False)
        await server.until(lambda: len(server.exchanges) == 1)
        server.endpoint.stop_accepting()
        assert not await server.endpoint.drain(0.01)


@asynctest
async def test_secrets_and_qlog_are_written_where_they_are_wanted(tmp_path):
    keylog, qlog = tmp_path / "keys", tmp_path / "qlog"
    qlog.mkdir()
    async with serving(keylog_file=str(keylog), qlog_dir=str(qlog)) as server:
        async with H3Client(server.port) as client:
            assert (await client.request()).status == 200
        await server.until(lambda: server.connections == [])
    assert "SERVER_TRAFFIC_SECRET_0 " in keylog.read_text()
    (trace,) = qlog.iterdir()
    assert json.loads(trace.read_text())["traces"]
    # Either decrypts or describes what others have sent.
    assert [stat.S_IMODE(file.stat().st_mode) for file in (keylog, trace)] == [0o600, 0o600]


def test_connections_of_one_original_connection_id_have_a_qlog_each(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = tmp_path / "qlog"
    directory.mkdir()
    qlogs = QlogDirectory(str(directory), lambda: 1_700_000_000.0)
    # What the client would have had to know.
    (directory / "00112233.qlog").symlink_to(victim)
    for _ in range(20):
        qlogs.end_trace(qlogs.start_trace(is_client=False, odcid=bytes.fromhex("00112233")))
    assert len(list(directory.iterdir())) == 21
    assert victim.read_text() == "precious"


@asynctest
async def test_a_qlog_that_cannot_be_written_is_told_and_harms_no_connection(tmp_path, caplog):
    directory = tmp_path / "qlog"
    directory.mkdir()
    async with serving(qlog_dir=str(directory)) as server:
        async with H3Client(server.port) as client:
            directory.rmdir()
            assert (await client.request()).status == 200
        await server.until(lambda: server.connections == [])
    assert [r.getMessage() for r in caplog.records if "qlog" in r.getMessage()]


@asynctest
async def test_the_qlog_of_a_running_connection_is_written_when_the_server_stops(tmp_path):
    async with serving(qlog_dir=str(tmp_path)) as server, H3Client(server.port) as client:
        assert (await client.request()).status == 200
        server.endpoint.close()
        await server.endpoint.wait_closed()
        (file,) = tmp_path.iterdir()
        (trace,) = json.loads(file.read_text())["traces"]
        assert any(event["name"] == "transport:packet_sent" for event in trace["events"])


@asynctest
async def test_idle_and_handshake_timeouts_are_settings_of_their_own():
    async with serving(idle_timeout=7, handshake_timeout=3) as server:
        configuration = server.endpoint._configuration
        assert isinstance(configuration, QuicConfiguration)
        async with H3Client(server.port) as client:
            assert configuration.idle_timeout == client.quic._remote_max_idle_timeout == 7
