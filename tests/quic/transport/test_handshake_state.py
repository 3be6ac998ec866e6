"""What is left of a handshake: nothing that costs memory, and all that is still asked for."""

import gc
import inspect
import re
import tracemalloc
import weakref
from types import MethodType

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.recovery import QuicPacketRecovery
from aioquic.tls import AlertDescription, Context, Epoch

from tercel.quic.transport import handshake_state
from tercel.quic.transport.connection import QuicServerConnection
from tercel.quic.transport.handshake_state import MOST_CONNECTION_IDS
from tercel.quic.transport.tls_server import ServerHandshake
from tercel.shared.settings import Settings
from tests.quic.pair import CLIENT, Pair, server_configuration
from tests.quic.transport.test_fast_path_canaries import bare

EARLIER = (Epoch.INITIAL, Epoch.HANDSHAKE)
# It is 21 KiB, without HTTP/3; with one buffer for TLS messages left it would be 37.
MOST_BYTES_OF_A_CONNECTION = 32 * 1024
CRYPTO_ERROR = 0x100
KEY_UPDATE = b"\x18\0\0\1\0"


class RecordedPair(Pair):
    """Keeps what the client sent."""

    def __init__(self, **options):
        self.from_client = []
        super().__init__(handshake=False, **options)
        self.drop_from_client = lambda data: bool(self.from_client.append(data))
        self.run()


def test_a_connection_takes_little_memory_once_its_handshake_is_over():
    Pair()  # what is loaded or made once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        servers = [Pair().server for _ in range(10)]
        gc.collect()  # the clients
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(server.handshake_completed for server in servers)
    assert (after - before) / len(servers) < MOST_BYTES_OF_A_CONNECTION


@pytest.mark.parametrize("handshake", [True, False], ids=["closed", "abandoned"])
def test_a_connection_that_ended_does_not_wait_for_the_garbage_collector(handshake):
    pair = Pair(handshake=handshake)
    if handshake:
        pair.server.close()
        pair.run(30)
        assert ConnectionTerminated in map(type, pair.server_events)
    else:
        pair.drop = lambda data: True
        pair.exchange()
        assert isinstance(pair.server.tls, Context)
        pair.server.abandon()
    gc.collect()
    gc.disable()
    try:
        server = weakref.ref(pair.server)
        del pair.server
        pair.server_events.clear()
        assert server() is None
    finally:
        gc.enable()


def test_late_packets_of_the_handshake_are_dropped():
    pair = RecordedPair()
    assert any(data[0] & 0x80 for data in pair.from_client)
    numbers = list(pair.server._spaces[Epoch.ONE_RTT].ack_queue)
    for data in pair.from_client:
        if data[0] & 0x80:
            pair.server.receive_datagram(data, CLIENT, pair.now)
    assert pair.server.close_event is None
    assert list(pair.server._spaces[Epoch.ONE_RTT].ack_queue) == numbers
    pair.client.send_stream_data(0, b"still there", end_stream=True)
    pair.run()
    assert pair.received() == len(b"still there")


def test_tls_messages_after_the_handshake_close_the_connection():
    pair = Pair()
    pair.client._crypto_streams[Epoch.ONE_RTT].sender.write(KEY_UPDATE)
    pair.run(0.1)
    assert pair.server.close_event is not None
    expected = CRYPTO_ERROR + AlertDescription.unexpected_message
    assert pair.server.close_event.error_code == expected


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_without_its_handshake_comes_to_its_end(side):
    pair = Pair()
    getattr(pair, side).close()
    pair.run(60.0)
    assert any(isinstance(event, ConnectionTerminated) for event in pair.server_events)


def test_connection_ids_are_few_and_replaced_when_one_is_retired():
    pair = Pair()
    assert len(pair.server._host_cids) == MOST_CONNECTION_IDS
    assert 1 + len(pair.server._peer_cid_available) == MOST_CONNECTION_IDS
    before = {known.cid for known in pair.server._host_cids}
    pair.client.change_connection_id()
    pair.run()
    after = {known.cid for known in pair.server._host_cids}
    assert len(after) == MOST_CONNECTION_IDS
    assert len(after & before) == MOST_CONNECTION_IDS - 1


def test_what_connections_share_has_not_changed():
    pair = RecordedPair()
    for data in pair.from_client:
        pair.server.receive_datagram(data, CLIENT, pair.now)
    pair.server.close()
    pair.run(60.0)
    shared, fresh = handshake_state._NO_KEYS.recv, CryptoPair().recv
    state = {name: value for name, value in vars(fresh).items() if _is_plain(value)}
    assert {name: vars(shared)[name] for name in state} == state


def test_an_ack_in_the_packet_that_ends_the_handshake_touches_no_other_connection():
    first, second = Pair(), Pair()
    for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE):
        assert first.server._spaces[epoch] is not second.server._spaces[epoch]
        assert first.server._spaces[epoch].discarded


def _is_plain(value):
    return value is None or isinstance(value, (bool, int, float, bytes, dict))


def test_keys_of_another_version_are_made_when_a_packet_has_it():
    pair = Pair(handshake=False)
    pair.client_sends()
    keys = pair.server._cryptos_initial
    assert list(keys) == [QuicProtocolVersion.VERSION_1]
    assert keys[QuicProtocolVersion.VERSION_2].recv.is_valid()
    with pytest.raises(KeyError):
        keys[0x1A2A3A4A]


def test_keys_of_initial_packets_are_not_made_again_once_they_are_discarded():
    pair = Pair(handshake=False)
    pair.client_sends()
    pair.server._discard_epoch(Epoch.INITIAL)
    for version in pair.server.configuration.supported_versions:
        assert not pair.server._cryptos_initial[version].recv.is_valid()


# -- canaries -----------------------------------------------------------------------------------


def test_canary_all_of_the_handshake_is_where_it_is_dropped():
    known = Pair(handshake=False)
    known.client_sends()
    context = known.server.tls
    assert isinstance(context, Context)
    assert set(known.server._crypto_buffers) == {*EARLIER, Epoch.ONE_RTT}
    assert known.server._loss.spaces == list(known.server._spaces.values())
    known.run()
    server = known.server
    assert set(server._crypto_streams) == {Epoch.ONE_RTT}
    assert set(server._spaces) == {*EARLIER, Epoch.ONE_RTT}
    assert set(server._cryptos) == set(Epoch)
    assert set(server._cryptos_initial) == set(server.configuration.supported_versions)
    assert not any(server._cryptos[epoch].recv.is_valid() for epoch in EARLIER)


@pytest.mark.parametrize("logged", [False, True])
def test_canary_a_handshake_begins_as_with_aioquic(logged):
    options = {"original_destination_connection_id": bytes(8)}
    settings = Settings()
    configuration = server_configuration(settings, quic_logger=QuicLogger() if logged else None)
    theirs = QuicConnection(configuration=configuration, **options)
    mine = QuicServerConnection(configuration=configuration, settings=settings, **options)
    for connection in (theirs, mine):
        connection._version = QuicProtocolVersion.VERSION_1
        connection._initialize(b"12345678")
    for version in configuration.supported_versions:
        for direction in ("recv", "send"):
            ours, known = (
                getattr(connection._cryptos_initial[version], direction)
                for connection in (mine, theirs)
            )
            assert (ours.secret, ours.version) == (known.secret, known.version)
    assert mine._cryptos[Epoch.INITIAL] is mine._cryptos_initial[mine._version]
    for name in ("_cryptos", "_crypto_buffers", "_crypto_streams", "_spaces"):
        assert set(getattr(mine, name)) == set(getattr(theirs, name)), name
    assert [space.is_application_data for space in mine._loss.spaces] == [False, False, True]
    assert mine._loss.spaces == list(mine._spaces.values())
    for epoch, buffer in theirs._crypto_buffers.items():
        assert mine._crypto_buffers[epoch].capacity == buffer.capacity
    assert set(vars(mine.tls)) - set(vars(theirs.tls)) == {"_identify", "server_name"}
    for name, value in vars(theirs.tls).items():
        if name != "handshake_extensions" and not callable(value) and "logger" not in name:
            assert getattr(mine.tls, name) == value, name
    assert method_of(mine.tls.alpn_cb) == mine._alpn_handler
    assert method_of(mine.tls.update_traffic_key_cb) == mine._update_traffic_key
    assert method_of(mine._loss._send_probe) == mine._send_probe
    assert theirs._loss._send_probe == theirs._send_probe
    if logged:
        for epoch in (Epoch.ZERO_RTT, Epoch.HANDSHAKE, Epoch.ONE_RTT):
            ours, known = (connection._cryptos[epoch] for connection in (mine, theirs))
            assert ours.recv._setup_cb.args == known.recv._setup_cb.args
            assert ours.send._teardown_cb.args == known.send._teardown_cb.args


def test_canary_the_client_hello_is_handled_before_anything_is_shown():
    source = inspect.getsource(Context._server_handle_hello)
    assert list(inspect.signature(Context._server_handle_hello).parameters) == list(
        inspect.signature(ServerHandshake._server_handle_hello).parameters
    )
    assert source.index("pull_client_hello") < source.index("_signature_algorithms_for_private_key")
    assert not {"certificate_chain", "certificate"} & set(
        re.findall(r"self\.(\w+)", source.partition("_signature_algorithms_for_private_key")[0])
    )


def method_of(callback):
    """What `weakly` made `callback` of."""
    known = inspect.getclosurevars(callback).nonlocals
    return MethodType(known["function"], known["owner"]())


def test_canary_of_tls_nothing_else_is_asked_after_the_handshake():
    asked = set()
    for name, member in vars(QuicConnection).items():
        # These run before its end, or for a client.
        if inspect.isfunction(member) and name not in {"_initialize", "_connect", "_alpn_handler"}:
            asked |= set(re.findall(r"self\.tls\.(\w+)", inspect.getsource(member)))
    kept = {name for name in dir(handshake_state._EndedHandshake) if not name.startswith("_")}
    assert asked - kept == {"client_random"}  # for the log of keys
    assert "handshake" not in inspect.getsource(handshake_state._EndedHandshake.handle_message)


def test_canary_spaces_are_known_to_recovery_by_nothing_but_the_list():
    source = inspect.getsource(QuicPacketRecovery)
    assert set(re.findall(r"self\.spaces\b(.?)", source)) == {":", ""}  # no subscript, no call


def test_canary_handlers_of_frames_are_those_of_aioquic():
    theirs = bare()._QuicConnection__frame_handlers
    server = Pair(handshake=False).server
    mine = server._QuicConnection__frame_handlers
    for kind, (handler, epochs) in theirs.items():
        bound, where = mine[kind]
        assert where == epochs
        assert bound.__self__ is server
        if handler.__name__ not in {"_handle_ack_frame", "_handle_crypto_frame"}:
            assert bound.__name__ in {handler.__name__, "handle"}
    with pytest.raises(KeyError):
        mine[max(theirs) + 1]
