"""The choice of congestion control, and that both choices carry data over a lossy network."""

import random

import pytest
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.tls import Epoch

from tercel.cli import main
from tercel.shared.errors import ConfigurationError
from tercel.shared.settings import Settings
from tests.quic.pair import Pair
from tests.quic.served import serving
from tests.quic.twin import copied
from tests.support.asynchronous import asynctest
from tests.support.h3_client import H3Client

ALGORITHMS = {"cubic": CubicCongestionControl, "reno": RenoCongestionControl}
BODY = 400_000


def test_cubic_is_the_default():
    assert Settings().congestion_control == "cubic"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_canary_aioquic_has_both_by_these_names(name):
    pair = Pair(congestion_control=name)
    assert type(pair.server._loss._cc) is ALGORITHMS[name]


@pytest.mark.parametrize("name", ALGORITHMS)
@asynctest
async def test_connections_of_an_endpoint_have_what_was_chosen(name):
    async with serving(congestion_control=name) as server, H3Client(server.port) as client:
        await client.request()
        (connection,) = server.endpoint._connections
        assert type(connection.quic._loss._cc) is ALGORITHMS[name]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_all_data_arrives_over_a_network_that_loses_some(name, fast):
    pair = Pair(congestion_control=name, quic_fast_path=fast)
    chance = random.Random(5).random
    pair.drop = lambda _: chance() < 0.02
    pair.client.send_stream_data(0, b"GET", end_stream=True)
    pair.run(0.1)
    pair.server.send_stream_data(0, bytes(BODY), end_stream=True)
    pair.run(60.0)
    got = sum(len(getattr(event, "data", b"")) for event in pair.client_events)
    assert got == BODY


@pytest.mark.parametrize("fast", [True, False])
def test_a_packet_is_lost_when_its_timer_fires_however_times_are_rounded(fast):
    pair = Pair(quic_fast_path=fast)
    pair.client.send_stream_data(0, b"GET", end_stream=True)
    pair.run(1.0)
    pair.server.send_stream_data(0, b"x")
    pair.server.datagrams_to_send(pair.now)
    server, space = pair.server, pair.server._spaces[Epoch.ONE_RTT]
    number = max(space.sent_packets)
    space.largest_acked_packet = number + 1  # which arrived before it
    chance = random.Random(6).random
    for _ in range(200):
        again = copied(server)
        space = again._spaces[Epoch.ONE_RTT]
        space.sent_packets[number].sent_time += chance()
        again._loss._rtt_latest = pair.now + chance() - pair.now  # as rounded as what is measured
        again._loss._detect_loss(now=pair.now, space=space)
        due = again.get_timer()
        assert due == space.loss_time
        again.handle_timer(due)
        assert again.get_timer() > due


def test_another_name_is_one_clear_line(capsys):
    with pytest.raises(ConfigurationError, match=r"--congestion-control is one of cubic, reno"):
        Settings(congestion_control="bbr")
    assert main(["--congestion-control", "bbr"]) != 0
    assert "'bbr' is not one of 'cubic', 'reno'" in capsys.readouterr().err
