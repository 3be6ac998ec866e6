"""Connections and exchanges counted together, and limits that are logged now and then."""

import logging

from tercel.shared.limits import REPORT_INTERVAL_SECONDS, Limits
from tercel.shared.settings import Settings


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def limits(clock=None, calls=(), **settings):
    return Limits(Settings(**settings), clock or Clock(), calls=calls)


def test_connections_are_limited_in_all():
    counted = limits(max_connections=2)
    assert [counted.open_connection("192.0.2.1") for _ in range(3)] == [True, True, False]
    counted.close_connection("192.0.2.1")
    assert counted.open_connection(None)
    assert counted.connections == 2
    assert counted.met["max_connections"] == 1


def test_connections_are_limited_by_address():
    counted = limits(max_connections_per_ip=1)
    assert counted.open_connection("192.0.2.1")
    assert not counted.open_connection("192.0.2.1")
    assert counted.open_connection("192.0.2.2")
    counted.close_connection("192.0.2.1")
    assert counted.open_connection("192.0.2.1")
    assert counted.met["max_connections_per_ip"] == 1


def test_unix_sockets_have_no_address_to_be_limited_by():
    counted = limits(max_connections_per_ip=1)
    assert counted.open_connection(None)
    assert counted.open_connection(None)
    counted.close_connection(None)
    assert counted.connections == 1


def test_whether_a_connection_is_admitted_can_be_asked_without_counting_it():
    counted = limits(max_connections_per_ip=1)
    assert counted.admits_connection("192.0.2.1")
    assert counted.admits_connection("192.0.2.1")
    assert counted.open_connection("192.0.2.1")
    assert not counted.admits_connection("192.0.2.1")
    assert counted.admits_connection("192.0.2.2")
    assert counted.connections == 1


def test_zero_is_no_limit():
    counted = limits(max_connections=0)
    assert all(counted.open_connection("192.0.2.1") for _ in range(1000))
    assert limits(calls=range(1000), max_concurrency=0).may_call()


def test_calls_are_limited():
    calls = []
    counted = limits(calls=calls, max_concurrency=1)
    assert counted.may_call()
    calls.append("one")
    assert (counted.calls, counted.may_call()) == (1, False)
    calls.clear()
    assert (counted.calls, counted.may_call()) == (0, True)


def test_a_limit_is_counted_always_and_logged_once_in_a_while(caplog):
    caplog.set_level(logging.WARNING, "tercel.limits")
    clock = Clock()
    counted = limits(clock)
    for _ in range(1000):
        counted.meet("this")
    counted.meet("that")
    assert [record.args[:2] for record in caplog.records] == [("this", 1), ("that", 1)]
    clock.now += REPORT_INTERVAL_SECONDS
    counted.meet("this")
    assert caplog.records[-1].args[:2] == ("this", 1000)
    assert counted.met == {"this": 1001, "that": 1}
