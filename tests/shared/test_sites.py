"""Clients are counted by address, or by IPv6 network, and forgotten when they are gone."""

import pytest

from tercel.shared.sites import SiteCounts, site_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_ipv6_is_counted_by_its_network(one, other, same):
    assert (site_of(one) == site_of(other)) is same


def test_each_site_is_counted_by_itself():
    counts = SiteCounts()
    for host in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.2"):
        counts.add(host)
    counts.remove("192.0.2.1")
    assert [counts.count(host) for host in ("192.0.2.1", "2001:db8::3", "192.0.2.9")] == [1, 2, 0]


def test_what_is_gone_is_not_remembered():
    counts = SiteCounts()
    for number in range(200):
        counts.add(f"192.0.2.{number}")
        counts.remove(f"192.0.2.{number}")
    assert len(counts) == 0
