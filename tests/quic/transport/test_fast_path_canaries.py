"""What the fast path uses of aioquic's insides. When aioquic changes under it, this says where.

That it does the same as aioquic is shown by test_warm.py, step by step.
"""

import ast
import inspect

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketNumberWindow, QuicPacketRecovery
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from tercel.quic.transport import (
    fast_ack,
    fast_receive,
    fast_send,
    hardening,
    protection,
    send_queue,
    sent_packets,
)
from tercel.quic.transport.sent_packets import SentPacket, SentPiece
from tercel.shared.settings import Settings
from tests.quic.pair import Pair, server_configuration
from tests.quic.twin import attributes

WARM = (send_queue, fast_send, fast_ack, fast_receive, sent_packets, protection)


def bare():
    """A server connection of aioquic's own."""
    return QuicConnection(
        configuration=server_configuration(Settings()),
        original_destination_connection_id=bytes(8),
    )


def owners():
    """By what the fast path calls it: an object of aioquic's that is used there."""
    pair = Pair(quic_fast_path=False)
    pair.client.send_stream_data(0, b"x", False)
    pair.run(0.1)
    stream, keys = QuicStream(0), pair.server._cryptos[Epoch.ONE_RTT]
    connection = bare()
    return {
        "self": connection,
        "super()": connection,
        "self._loss": connection._loss,
        "loss": connection._loss,
        "receiver": stream.receiver,
        "sender": stream.sender,
        "sender._acked": stream.sender._acked,
        "sender._pending": stream.sender._pending,
        "space.ack_queue": RangeSet(),
        "received": RangeSet(),
        "aead": keys.recv.aead,
        "protection": keys.recv.hp,
        "self._data_keys": keys,
        "known": QuicPacketNumberWindow(),
        "QuicConnection": QuicConnection,
    }


def own_names():
    """Private names of this package's own classes, which aioquic need not know."""
    names = set()
    for module in (hardening, *WARM):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
    for name in attributes(Pair().server):
        if not hasattr(bare(), name):
            names.add(name)
    return names - {name for name in names if hasattr(QuicConnection, name)}


def private_names(module):
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr[:1] == "_" != node.attr[1:2]:
            yield ast.unparse(node.value), node.attr


@pytest.mark.parametrize("module", WARM)
def test_every_private_name_is_still_there(module):
    known, own = owners(), own_names()
    used = {pair for pair in private_names(module) if not (pair[0] == "self" and pair[1] in own)}
    assert used
    missing = [
        f"{owner}.{name}"
        for owner, name in sorted(used)
        if owner not in known or not hasattr(known[owner], name)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (QuicConnection, "_payload_received", "self, context, plain, crypto_frame_required"),
        (QuicConnection, "_get_or_create_stream", "self, frame_type, stream_id"),
        (QuicConnection, "_stream_is_discarded", "self, stream_id"),
        (QuicConnection, "_stream_limit", "self, stream_id"),
        (QuicConnection, "_idle_timeout", "self"),
        (QuicConnection, "_send_probe", "self"),
        (QuicConnection, "_on_ack_delivery", "self, delivery, space, highest_acked"),
        (QuicConnection, "_on_ping_delivery", "self, delivery, uids"),
        (QuicConnection, "_on_connection_limit_delivery", "self, delivery, limit"),
        (QuicConnection, "_on_max_stream_data_delivery", "self, delivery, stream"),
        (QuicPacketRecovery, "_detect_loss", "self, now, space"),
    ],
)
def test_what_is_called_takes_these_parameters(owner, name, parameters):
    signature = inspect.signature(getattr(owner, name))
    assert ", ".join(signature.parameters) == parameters


def test_a_range_set_is_a_list_of_ranges_in_order():
    ranges = RangeSet()
    ranges.add(5, 7)
    ranges.add(1, 2)
    ranges.add(7, 9)
    assert ranges._RangeSet__ranges == [range(1, 2), range(5, 9)]


@pytest.mark.parametrize(
    "packet",
    [SentPacket(1, 2.0), SentPiece(1, 2.0, 1200, QuicStream(0), 0, 1100)],
    ids=["packet", "piece"],
)
def test_recovery_knows_a_packet_by_these_names(packet):
    """What is sent has all of QuicSentPacket's but what is only for qlog."""
    names = set(QuicSentPacket.__dataclass_fields__) - {"quic_logger_frames"}
    assert [name for name in sorted(names) if not hasattr(packet, name)] == []


def test_a_stream_is_made_of_these_parts():
    pair = Pair()
    pair.client.send_stream_data(0, b"x")
    pair.exchange()
    stream = pair.server._streams[0]
    assert vars(stream).keys() == vars(QuicStream(0)).keys()
    assert inspect.signature(type(stream.sender)).parameters.keys() == {"stream_id", "writable"}


def test_sent_packets_are_kept_in_the_order_of_their_numbers():
    pair = Pair(quic_fast_path=False)
    pair.server.send_stream_data(1, bytes(9000))
    pair.drop = lambda _: True
    pair.exchange()
    sent = pair.server._spaces[Epoch.ONE_RTT].sent_packets
    assert len(sent) > 3
    assert list(sent) == sorted(sent) == [packet.packet_number for packet in sent.values()]
